"""Rules that a declared host decides, and what a declared release leaves out."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from generator.lint.cases import BATCHED, MODEL_PY, ONNX_BATCHING, PYTHON, write_model
from generator.lint.host_cases import HOST_CASES, HostCase

from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_generator.errors import SpecError
from tritonforge_generator.lint import lint_repository
from tritonforge_generator.lint.host import Host, Resource, capability_from, resource_from
from tritonforge_generator.lint.rule import RULES


def rules_of(repository: Path, host: Host | None, model: str = "broken") -> list[str]:
    found = lint_repository(repository, models=[model], strict=True, host=host, needs={"text", "dir", "file", "host"})
    return [finding.rule for finding in found if finding.severity == "error"]


@pytest.mark.parametrize("case", HOST_CASES, ids=lambda case: case.rule)
def test_a_host_refuses_what_another_serves(tmp_path: Path, case: HostCase) -> None:
    case.write(tmp_path, "broken", broken=True)
    case.write(tmp_path, "valid", broken=False)

    found = lint_repository(
        tmp_path, models=["broken"], strict=True, host=case.host, needs={"text", "dir", "file", "host"}
    )

    assert found[0].rule == case.rule
    assert found[0].text == case.text.format(model=tmp_path / "broken")
    assert case.field in {"", found[0].field}
    assert rules_of(tmp_path, case.serves or case.host, "valid") == []


@pytest.mark.parametrize("case", [case for case in HOST_CASES if case.rule != "G7"], ids=lambda case: case.rule)
def test_without_a_declared_host_nothing_is_said(tmp_path: Path, case: HostCase) -> None:
    case.write(tmp_path, "broken", broken=True)
    assert not set(rules_of(tmp_path, None)) & {rule.id for rule in RULES.values() if rule.needs == "host"}
    assert case.rule not in rules_of(tmp_path, Host())


def test_the_library_of_a_back_end_may_lie_in_the_model(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"1/": "", "libtriton_foo.so": b""}
    write_model(tmp_path / "own", 'backend: "foo"', files)
    write_model(tmp_path / "named", 'backend: "foo" runtime: "libtriton_foo.so"', files)
    write_model(tmp_path / "above", 'backend: "foo" runtime: "../libtriton_foo.so"', files)
    host = Host(backends=frozenset({"python"}))
    assert [rules_of(tmp_path, host, name) for name in ("own", "named", "above")] == [[], [], ["M7"]]
    # Without a host the model is refused all the same.
    assert rules_of(tmp_path, None, "above") == ["M7"]


def test_a_runtime_that_leaves_the_back_ends_directory_is_refused_without_a_host(tmp_path: Path) -> None:
    write_model(tmp_path / "broken", PYTHON + 'runtime: "../x/libtriton_x.so"', {"1/model.py": MODEL_PY})
    (found,) = lint_repository(tmp_path)
    assert found.text == (
        "backend library name '../x/libtriton_x.so' escapes backend directory '/opt/tritonserver/backends/python', "
        "for model 'broken', check model config runtime field"
    )


def test_instances_of_kind_model_need_resources_of_the_first_device_only(tmp_path: Path) -> None:
    needs_two = 'rate_limiter { resources { name: "R" count: 2 } }'
    for name, kind in (("broken", "KIND_GPU"), ("valid", "KIND_MODEL")):
        config = PYTHON + f"instance_group {{ kind: {kind} {needs_two} }}"
        write_model(tmp_path / name, config, {"1/model.py": MODEL_PY})
    host = Host(gpus=2, rate_limit=True, resources=(Resource("R", 2, 0),))
    assert [rules_of(tmp_path, host, name) for name in ("broken", "valid")] == [["W8"], []]


def test_all_limits_of_an_instance_come_before_its_kinds_of_resources(tmp_path: Path) -> None:
    each = ('name: "A" count: 1', 'name: "A" global: true count: 1', 'name: "B" count: 9', 'name: "C" count: 9')
    resources = " ".join(f"resources {{ {one} }}" for one in each)
    config = PYTHON + f"instance_group {{ kind: KIND_GPU gpus: [0, 1] rate_limiter {{ {resources} }} }}"
    write_model(tmp_path / "broken", config, {"1/model.py": MODEL_PY})
    host = Host(gpus=2, rate_limit=True, resources=(Resource("A", 9), Resource("B", 9, 0), Resource("C", 9, 0)))
    assert rules_of(tmp_path, host) == ["W8", "W8", "W7"]


def test_a_runtime_may_lead_to_a_file_of_another_back_end_but_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "broken", PYTHON + 'runtime: "../foo/libtriton_foo.so"', {"1/model.py": MODEL_PY})
    backends = {"python/libtriton_python.so", "foo/libtriton_foo.so"}
    assert rules_of(tmp_path, Host(backends=frozenset(backends))) == ["M7"]
    assert rules_of(tmp_path, Host(backends=frozenset(backends - {"foo/libtriton_foo.so"}))) == ["M6"]


def test_a_linked_library_counts_where_it_is_known_to_lie(tmp_path: Path) -> None:
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    (libraries / "libtriton_foo.so").write_bytes(b"")
    repository = tmp_path / "repository"
    for name, config in (("found", 'backend: "foo"'), ("named", 'backend: "foo" runtime: "libtriton_foo.so"')):
        write_model(repository / name, config, {"1/": ""})
        (repository / name / "libtriton_foo.so").symlink_to(libraries / "libtriton_foo.so")
    host = Host(backends=frozenset({"python"}))
    # What leads out of the repository is not looked at, so nothing is said of it.
    assert [rules_of(repository, host, name) for name in ("found", "named")] == [[], []]
    # Inside of it the server finds it, but takes a link for a way out when `runtime` names it.
    libraries.rename(repository / "libraries")
    for name in ("found", "named"):
        (repository / name / "libtriton_foo.so").unlink()
        (repository / name / "libtriton_foo.so").symlink_to(repository / "libraries" / "libtriton_foo.so")
    assert [rules_of(repository, host, name) for name in ("found", "named")] == [[], ["M7"]]
    # The beginning of another model's name counts as the model's own, for the server as well.
    write_model(repository / "own", 'backend: "foo" runtime: "../own2/libtriton_foo.so"', {"1/": ""})
    write_model(repository / "own2", "", {"libtriton_foo.so": b""})
    assert rules_of(repository, host, "own") == []


def test_a_cache_in_the_model_alone_is_warned_of(tmp_path: Path) -> None:
    write_model(tmp_path / "m", ONNX_BATCHING + "response_cache { enable: true }", BATCHED)
    assert [finding.rule for finding in lint_repository(tmp_path, host=Host())] == ["L16"]
    assert lint_repository(tmp_path, host=Host(has_cache=True)) == []
    assert lint_repository(tmp_path) == []


def test_a_rule_newer_than_the_declared_server_is_silent(tmp_path: Path) -> None:
    config = PYTHON.replace("dims: [4] }\n", 'dims: [4] label_filename: "../l.txt" }\n').replace(
        'dims: [4] label_filename: "../l.txt" }\noutput', "dims: [4] }\noutput"
    )
    write_model(tmp_path / "m", config, {"1/model.py": MODEL_PY})
    (tmp_path / "l.txt").write_text("cat\n")
    since = RULES["M1"].since
    assert since != ""
    assert [finding.rule for finding in lint_repository(tmp_path)] == ["M1"]
    assert [finding.rule for finding in lint_repository(tmp_path, host=Host(release=since))] == ["M1"]
    assert lint_repository(tmp_path, host=Host(release="24.10")) == []


def test_a_field_newer_than_the_declared_server_does_not_parse(tmp_path: Path) -> None:
    metrics = 'model_metrics { metric_control { metric_identifier { family: "f" } histogram_options { buckets: 1 } } }'
    write_model(tmp_path / "m", PYTHON + metrics, {"1/model.py": MODEL_PY})
    (found,) = lint_repository(tmp_path, host=Host(release="24.10"))
    assert (found.rule, found.line) == ("P1", 4)
    assert "model_metrics" in found.fix
    assert lint_repository(tmp_path, host=Host(release="26.08")) == []


def test_what_is_declared_must_make_sense() -> None:
    assert capability_from("9.0") == (9, 0)
    assert resource_from("R1:10") == Resource("R1", 10)
    assert resource_from("R1:10:1") == Resource("R1", 10, 1)
    for text in ("9", "nine", "9.0.1"):
        with pytest.raises(SpecError, match="no compute capability"):
            capability_from(text)
    with pytest.raises(SpecError, match="no resource"):
        resource_from("R1")
    for release in ("26.8", "2.51.0", "26.13"):
        with pytest.raises(SpecError, match="no Triton release"):
            Host(release=release)
    with pytest.raises(SpecError, match="negative"):
        Host(gpus=-1)


def test_the_release_tells_the_version_of_tensorrt() -> None:
    assert Host(release="24.10").tensorrt == "10.4.0.26"
    assert Host(release="24.01").tensorrt == ""


def loaded(server: EmbeddedTriton, name: str) -> str:
    url = f"{server.http_url}/v2/repository/models/{name}/load"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=b"{}", method="POST"), timeout=60):
            return ""
    except urllib.error.HTTPError as error:
        with error:
            return str(json.loads(error.read())["error"])


_SERVER_CASES = [case for case in HOST_CASES if case.rule in {"G4", "G6", "G7", "M5", "M6", "M8", "W7", "W8"}]


@pytest.fixture(scope="module", params=[(), ("R:4", "S:8:0")], ids=["rated", "limited"])
def server(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[tuple[EmbeddedTriton, Path, Host]]:
    repository = tmp_path_factory.mktemp("hosts")
    limits = [f"--rate-limit-resource={limit}" for limit in request.param]
    arguments = ["--disable-auto-complete-config", "--rate-limit=execution_count", *limits]
    host = Host(
        release="24.10",
        gpus=0,
        backends=frozenset({"python/libtriton_python.so", "onnxruntime/model.py", "tensorrt/model.py"}),
        rate_limit=True,
        resources=tuple(resource_from(limit) for limit in request.param),
    )
    with EmbeddedTriton(repository, model_control_mode="explicit", arguments=arguments) as server:
        yield server, repository, host


@pytest.mark.triton
@pytest.mark.parametrize("number", range(len(_SERVER_CASES)))
def test_the_server_says_what_lint_says_of_its_host(server: tuple[EmbeddedTriton, Path, Host], number: int) -> None:
    triton, repository, host = server
    name = f"case_{number}"
    _SERVER_CASES[number].write(repository, name, broken=True)

    said = loaded(triton, name)
    found = [
        finding
        for finding in lint_repository(repository, models=[name], strict=True, host=host)
        if finding.severity == "error"
    ]

    assert (said == "") == (found == [])
    if found:
        # The embedded server's back-ends lie in a temporary directory.
        assert found[0].text.partition("searched:")[0].replace(str(host.backend_directory), "") in said
