"""Published plans are proven again where a TensorRT and a GPU are, and say so where not; on the stand-in TensorRT."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from onnx import helper
from support import graphs, stand_in_graphs
from support.stand_in_plans import stand_in_backend, stand_in_tensorrt, write_plan

from tritonforge_generator.hashing import sha256_of_file
from tritonforge_generator.pipeline import generate
from tritonforge_generator.plan import tensorrt_api
from tritonforge_generator.reverify import verify_repository
from tritonforge_generator.spec import forge_spec_from_flags
from tritonforge_generator.verify import Check, Verification

FILES = "the files are those of the manifest"
RULES = "the server's rules"
HEADER = "the plan's header is the recorded one"
INSTALLED = "the installed TensorRT is the plan's"
GPU = "the plan is for this GPU"
RUNS = "the plan runs"
FACTS = [
    "the plan computes in what was asked",
    "every instance takes every batch",
    "all instances fit the GPU's memory",
]
AGAIN = "the model repeats its answers"
ANSWERS = "the plan answers like the FP32 graph"
ROWS = "rows are independent of their batch"


@pytest.fixture(scope="module", autouse=True)
def timing_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """They go to a folder of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def tensorrt() -> Iterator[None]:
    with stand_in_tensorrt():
        yield


@pytest.fixture
def no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a machine without it, even where there is one."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    tensorrt_api.tensorrt.cache_clear()
    yield
    tensorrt_api.tensorrt.cache_clear()


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``y = -x``: the source ``m.onnx``, and a repository with its plan."""
    folder = tmp_path_factory.mktemp("generated")
    with stand_in_tensorrt():
        published(folder, stand_in_graphs.negation(folder / "m.onnx"))
    return folder


@pytest.fixture
def repository(generated: Path, tmp_path: Path) -> Path:
    """A copy of that repository, with the source beside it."""
    shutil.copytree(generated, tmp_path, dirs_exist_ok=True)
    return tmp_path / "repo"


def published(folder: Path, source: Path, **options: Any) -> Path:
    """A repository with the plan ``m``."""
    repository = folder / "repo"
    flags = {"name": "m", "source": str(source), "platform": "tensorrt", "max_batch_size": 8, **options}
    generate(forge_spec_from_flags(flags, repository=repository), serve_check=False)
    return repository


def lengths(path: Path) -> Path:
    """``y = -x`` on [batch, length]."""
    node, shape = helper.make_node("Neg", ["x"], ["y"], name="neg"), ("batch", "length")
    return graphs.save(path, [node], [graphs.tensor("x", shape=shape)], [graphs.tensor("y", shape=shape)])


def plan_of(repository: Path) -> Path:
    return repository / "m" / "1" / "model.plan"


def record(repository: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
    """Write another manifest, with the hashes of what is there now."""
    path = plan_of(repository).with_name("manifest.json")
    facts = json.loads(path.read_text())
    facts["files"]["model.plan"] = facts["made"]["plan"]["sha256"] = sha256_of_file(plan_of(repository))
    change(facts)
    path.write_text(json.dumps(facts))


def verified(repository: Path, **asked: Any) -> Verification:
    (one,) = verify_repository(repository, serve_check=False, **asked)
    return one


def checks_of(verification: Verification) -> Mapping[str, Check]:
    return {check.name: check for check in verification.checks}


def failed(verification: Verification) -> list[str]:
    return [check.name for check in verification.checks if check.verdict == "FAILED"]


# ---- where it can be run ----


@pytest.mark.usefixtures("tensorrt")
def test_without_a_source_a_plan_is_its_own_reference(repository: Path) -> None:
    found = verified(repository)
    assert found.passed
    assert [check.name for check in found.checks] == [FILES, RULES, HEADER, INSTALLED, GPU, *FACTS, AGAIN, ROWS]
    checks = checks_of(found)
    assert checks[HEADER].summary == "TensorRT 10.16.1.11"
    assert checks[INSTALLED].summary == "built by 10.16.1.11, here is 10.16.1.11"
    assert checks[GPU].summary == "built on stand-in (9.0), here is stand-in (9.0)"
    assert checks[FACTS[0]].summary.endswith("(as recorded when it was built)")
    assert checks[ROWS].summary == "alone and in every slot of batches of 1, 2, 3, 4, 5, 6, 7, 8"


@pytest.mark.parametrize("version", ["8.6.0", "11.4.0.106"])
def test_every_tensorrt_verifies_its_own_plans(tmp_path: Path, version: str) -> None:
    with stand_in_tensorrt(version):
        source = stand_in_graphs.product(tmp_path / "m.onnx", half=False)
        repository = published(tmp_path, source, precision="FP16")
        for given in (None, source):
            assert failed(verified(repository, source=given)) == []


@pytest.mark.usefixtures("tensorrt")
def test_with_its_source_a_plan_is_judged_as_when_it_was_published(tmp_path: Path) -> None:
    source = stand_in_graphs.product(tmp_path / "m.onnx", half=False)
    found = verified(published(tmp_path, source, precision="FP16"), source=source, server="26.04")
    assert found.passed
    assert [check.name for check in found.checks][-5:] == [*FACTS, ANSWERS, ROWS]
    assert checks_of(found)[ANSWERS].summary.endswith("allowed 0.01")
    assert "fits the 10.16.1 of Triton 26.04" in checks_of(found)["the server's TensorRT loads the plan"].summary


@pytest.mark.usefixtures("tensorrt")
def test_another_source_is_found(repository: Path, tmp_path: Path) -> None:
    other = graphs.identity(tmp_path / "other.onnx")
    found = verified(repository, source=other)
    assert failed(found) == [ANSWERS, ROWS]


@pytest.mark.usefixtures("tensorrt")
@pytest.mark.parametrize(
    ("function", "without", "with_source"), [("flipud", [ROWS], [ANSWERS, ROWS]), ("absolute", [], [ANSWERS, ROWS])]
)
def test_a_plan_that_mixes_rows_is_found_without_its_source(
    repository: Path, tmp_path: Path, function: str, without: list[str], with_source: list[str]
) -> None:
    """That it computes something else is seen with the source alone."""
    write_plan(
        plan_of(repository),
        tensors=[("x", "float32", [-1, 4]), ("y", "float32", [-1, 4])],
        outputs={"y": [function, "x"]},
        profiles=[{"x": ([1, 4], [4, 4], [8, 4])}],
    )
    record(repository)
    assert failed(verified(repository)) == without
    assert failed(verified(repository, source=tmp_path / "m.onnx")) == with_source


@pytest.mark.usefixtures("tensorrt")
def test_each_profile_is_run_with_shapes_of_its_own(tmp_path: Path) -> None:
    source = lengths(tmp_path / "m.onnx")
    small = {"x": {"min": [1, 1], "opt": [2, 16], "max": [2, 16]}}
    large = {"x": {"min": [3, 1], "opt": [4, 16], "max": [4, 16]}}
    long = {"x": {"min": [1, 17], "opt": [4, 32], "max": [4, 64]}}
    repository = published(tmp_path, source, max_batch_size=4, tensorrt={"profiles": [small, large, long]})
    for given, answers in ((None, AGAIN), (source, ANSWERS)):
        found = verified(repository, source=given)
        assert failed(found) == []
        assert [name for name in checks_of(found) if "(profile " in name] == [
            f"{answers} (profile 0)",
            f"{ROWS} (profile 0)",
            f"{ROWS} (profile 1)",
            f"{answers} (profile 2)",
            f"{ROWS} (profile 2)",
        ]


@pytest.mark.usefixtures("tensorrt")
def test_a_profile_that_takes_no_single_row_needs_the_source(tmp_path: Path) -> None:
    source = lengths(tmp_path / "m.onnx")
    short = {"x": {"min": [1, 1], "opt": [4, 16], "max": [4, 16]}}
    long = {"x": {"min": [2, 17], "opt": [4, 32], "max": [4, 64]}}
    repository = published(tmp_path, source, max_batch_size=4, tensorrt={"profiles": [short, long]})
    found = verified(repository)
    assert (found.passed, found.skipped) == (False, True)
    (skipped,) = (check for check in found.checks if check.skipped)
    assert skipped.summary == "profile 1 takes no single row of its own shape; give the source"
    assert verified(repository, source=source).passed


@pytest.mark.usefixtures("tensorrt")
def test_shapes_in_full_are_verified(tmp_path: Path) -> None:
    node = helper.make_node("Neg", ["x"], ["y"], name="neg")
    tensors = (graphs.tensor(name, shape=(2, 3)) for name in ("x", "y"))
    source = graphs.save(tmp_path / "m.onnx", [node], *([one] for one in tensors))
    found = verified(published(tmp_path, source, max_batch_size=0))
    assert found.passed
    assert [check.name for check in found.checks][-1] == AGAIN


@pytest.mark.triton
def test_a_plan_is_served_like_its_source(
    repository: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with stand_in_backend(tmp_path_factory.mktemp("backend")):
        (found,) = verify_repository(repository, source=tmp_path / "m.onnx")
    assert found.passed
    assert found.checks[-1].name == "a real Triton serves the same answers"


# ---- what was changed ----


@pytest.mark.usefixtures("tensorrt")
def test_a_changed_plan_is_not_loaded(repository: Path) -> None:
    plan_of(repository).write_bytes(plan_of(repository).read_bytes() + b" ")
    found = verified(repository)
    assert failed(found) == [FILES]
    assert (found.passed, found.skipped) == (False, False)
    assert checks_of(found)[FILES].summary == "version 1: changed or missing: model.plan"
    assert checks_of(found)[RUNS].verdict == "skipped"
    assert "only a plan that passed the gates above is loaded" in checks_of(found)[RUNS].summary


@pytest.mark.usefixtures("tensorrt")
@pytest.mark.parametrize(
    ("content", "failing", "summary"),
    [
        (b"ftrt" + bytes(20) + bytes([8, 6, 1, 6]), [HEADER], "TensorRT 8.6.1.6, recorded is 10.16.1.11"),
        (
            b"ftrt" + bytes(20),
            [RULES, HEADER],
            "is no TensorRT plan: expected a file that begins with b'ftrt', got 24 bytes",
        ),
        (b"not a plan, but as long as one is", [RULES, HEADER], "is no TensorRT plan"),
        (b"\x02\x00\x00\x00{}ftrt" + bytes(20) + bytes([10, 16, 1, 11]), [RULES, HEADER], "6 bytes lie in front of it"),
    ],
    ids=["another version", "cut off", "something else", "prefix"],
)
def test_a_header_that_is_not_the_recorded_one_fails(
    repository: Path, content: bytes, failing: list[str], summary: str
) -> None:
    plan_of(repository).write_bytes(content)
    record(repository)
    found = verified(repository, server="26.04")
    assert failed(found) == failing
    assert summary in checks_of(found)[HEADER].summary
    assert checks_of(found)[RUNS].skipped


@pytest.mark.usefixtures("tensorrt")
def test_a_plan_that_was_cut_off_when_it_was_recorded_does_not_load(repository: Path) -> None:
    plan_of(repository).write_bytes(plan_of(repository).read_bytes()[:-10])
    record(repository)
    found = verified(repository)
    assert failed(found) == [RUNS]
    assert "the plan is cut off or damaged" in checks_of(found)[RUNS].summary


@pytest.mark.usefixtures("tensorrt")
def test_a_missing_plan_fails(repository: Path) -> None:
    plan_of(repository).unlink()
    assert failed(verified(repository)) == [FILES, RULES, HEADER]


@pytest.mark.usefixtures("tensorrt")
@pytest.mark.parametrize(
    ("missing", "text"), [("plan", "nothing is recorded of the plan of 'm'"), ("proof", "what is recorded of")]
)
def test_a_plan_of_which_too_little_is_recorded_fails(repository: Path, missing: str, text: str) -> None:
    def without(facts: dict[str, Any]) -> None:
        holder = facts["made"] if missing == "plan" else facts["made"]["plan"]
        del holder[missing]

    record(repository, without)
    found = verified(repository)
    assert not found.passed
    assert text in checks_of(found)["the model can be checked"].summary


@pytest.mark.usefixtures("tensorrt")
def test_a_record_of_another_plan_proves_nothing(repository: Path) -> None:
    record(repository, lambda facts: facts["made"]["plan"].update(sha256="0" * 64))
    found = verified(repository)
    assert not found.passed
    assert "what is recorded of a plan is not that of" in checks_of(found)["the model can be checked"].summary


# ---- other machines ----


@pytest.mark.parametrize("version_compatible", [False, True])
def test_a_plan_of_another_tensorrt_fails(tmp_path: Path, version_compatible: bool) -> None:
    """A version-compatible one is left to TensorRT, whose stand-in takes no other version."""
    with stand_in_tensorrt():
        source = stand_in_graphs.negation(tmp_path / "m.onnx")
        repository = published(tmp_path, source, tensorrt={"version_compatible": version_compatible})
    with stand_in_tensorrt("11.4.0.106"):
        found = verified(repository)
    assert failed(found) == [RUNS if version_compatible else INSTALLED]
    assert checks_of(found)[INSTALLED].summary.startswith("built by 10.16.1.11, here is 11.4.0.106")


@pytest.mark.usefixtures("tensorrt")
@pytest.mark.parametrize(
    ("gpu", "level", "passed", "text"),
    [
        ({"name": "another"}, "NONE", True, "another (9.0), here is stand-in (9.0); the kernels were chosen for"),
        ({"compute_capability": "8.0"}, "NONE", False, "stand-in (8.0), here is stand-in (9.0)"),
        ({"compute_capability": "8.0"}, "SAME_COMPUTE_CAPABILITY", False, "stand-in (8.0), here is"),
        ({"compute_capability": "8.0"}, "AMPERE_PLUS", True, "it runs on all from Ampere on"),
    ],
)
def test_a_plan_of_another_gpu(repository: Path, gpu: dict[str, str], level: str, passed: bool, text: str) -> None:
    def built_elsewhere(facts: dict[str, Any]) -> None:
        facts["made"]["plan"]["gpu"].update(gpu)
        facts["options"]["tensorrt"]["hardware_compatibility_level"] = level

    record(repository, built_elsewhere)
    found = verified(repository)
    assert found.passed is passed
    assert text in checks_of(found)[GPU].summary
    assert failed(found) == ([] if passed else [GPU])


def test_without_tensorrt_the_rest_is_checked_and_nothing_is_called_verified(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stand_in_tensorrt():
        monkeypatch.setitem(sys.modules, "tensorrt", None)
    tensorrt_api.tensorrt.cache_clear()
    (found,) = verify_repository(repository, source=tmp_path / "m.onnx", server="26.04")  # nor is it served
    assert (found.passed, found.skipped) == (False, True)
    assert {check.name: check.verdict for check in found.checks} == {
        FILES: "passed",
        RULES: "passed",
        HEADER: "passed",
        "the server's TensorRT loads the plan": "passed",
        RUNS: "skipped",
    }
    assert found.checks[-1].summary.startswith("TensorRT is not installed here, so neither its answers")
    found = verified(repository, server="24.08")
    assert failed(found) == ["the server's TensorRT loads the plan"]
    assert not found.skipped


@pytest.mark.usefixtures("tensorrt")
def test_another_gpu_number_can_be_asked_for(repository: Path) -> None:
    record(repository, lambda facts: facts["options"]["tensorrt"].update(device_id=3))
    found = verified(repository)
    assert found.skipped
    assert checks_of(found)[RUNS].summary.startswith("GPU 3 does not exist")
    assert verified(repository, device_id=0).passed
