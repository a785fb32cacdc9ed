"""Several repositories that one server serves together, ensembles over models that fail, variants of the config."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from generator.lint.cases import MODEL_PY, PYTHON, X, Y, write_model
from generator.lint.python_cases import completing

from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_generator.lint import Finding, lint_repository

FILES: dict[str, str | bytes] = {"1/model.py": MODEL_PY}
FP32 = "data_type: TYPE_FP32 dims: [4]"
DECOUPLED = PYTHON + "model_transaction_policy { decoupled: true }\n"
PAIR = f'backend: "python" input [{{ name: "x" {FP32} }}, {{ name: "z" {FP32} }}] ' + Y


def step(model: str, inputs: str, output: str, *, version: int | None = -1) -> str:
    """A step; ``inputs`` gives the ensemble tensors that x, and z after it, are taken from."""
    maps = "".join(f' input_map {{ key: "{key}" value: "{value}" }}' for key, value in zip("xz", inputs, strict=False))
    asked = "" if version is None else f"model_version: {version}"
    return f'step {{ model_name: "{model}" {asked}{maps} output_map {{ key: "y" value: "{output}" }} }}\n'


def ensemble(*steps: str, outputs: str = "b") -> str:
    tensors = f'input {{ name: "a" {FP32} }}\n' + "".join(f'output {{ name: "{name}" {FP32} }}\n' for name in outputs)
    return f'platform: "ensemble"\n{tensors}ensemble_scheduling {{\n{"".join(steps)}}}\n'


def write_ensemble(directory: Path, config: str) -> None:
    write_model(directory, config, {"1/": ""})


def one(findings: list[Finding], model: str) -> Finding:
    """Return a model's first error."""
    return next(found for found in findings if found.model == model and found.severity == "error")


def test_an_ensemble_may_be_made_of_models_of_another_repository(tmp_path: Path) -> None:
    write_model(tmp_path / "models" / "m", PYTHON, FILES)
    write_ensemble(tmp_path / "ensembles" / "e", ensemble(step("m", "a", "b")))
    assert lint_repository(tmp_path / "models", tmp_path / "ensembles") == []
    assert [found.rule for found in lint_repository(tmp_path / "ensembles")] == ["X1"]


def test_a_name_that_two_repositories_have_is_an_error_in_both(tmp_path: Path) -> None:
    for repository in ("one", "two"):
        write_model(tmp_path / repository / "m", PYTHON, FILES)
        assert lint_repository(tmp_path / repository) == []
    write_ensemble(tmp_path / "one" / "e", ensemble(step("m", "a", "b")))

    found = lint_repository(tmp_path / "one", tmp_path / "two")

    assert [(each.rule, each.model, each.repository) for each in found] == [
        ("X1", "e", str(tmp_path / "one")),
        ("R2", "m", str(tmp_path / "one")),
        ("R2", "m", str(tmp_path / "two")),
    ]
    assert found[0].text == "ensemble e contains models that are not available or ambiguous: m"
    assert found[1].text == "failed to poll model 'm': not unique across all model repositories"
    assert str(tmp_path / "two") in found[1].fix


def test_a_repository_that_is_given_twice_is_one(tmp_path: Path) -> None:
    write_model(tmp_path / "m", PYTHON + "max_batch_size: -1", FILES)
    write_ensemble(tmp_path / "e", ensemble(step("m", "a", "b")))
    assert lint_repository(tmp_path, tmp_path) == lint_repository(tmp_path)


def test_a_name_that_is_not_unique_comes_before_a_config_that_cannot_be_read(tmp_path: Path) -> None:
    for repository in ("one", "two"):
        write_model(tmp_path / repository / "m", "max_batch_size: ${batch}", FILES)
    found = lint_repository(tmp_path / "one", tmp_path / "two")
    assert [each.rule for each in found] == ["R2", "P1", "R2", "P1"]


@pytest.mark.parametrize(
    ("config", "rule", "text"),
    [
        ("max_batch: 1", "X1", "ensemble e contains models that are not available or ambiguous: m"),
        ("max_batch_size: -1", "X1", "ensemble e contains models that are not available or ambiguous: m"),
        ('name: "other"', "X1", "ensemble e contains models that are not available or ambiguous: m"),
        ("instance_group { kind: KIND_CPU gpus: 0 }", "X4", "ensemble 'e' depends on 'm' which has no loaded version."),
        (
            "version_policy { specific { versions: 2 } }",
            "X4",
            "ensemble 'e' depends on 'm' which has no loaded version.",
        ),
    ],
)
def test_an_ensemble_fails_with_a_model_that_it_is_made_of(tmp_path: Path, config: str, rule: str, text: str) -> None:
    write_model(tmp_path / "m", PYTHON + config, FILES)
    write_ensemble(tmp_path / "e", ensemble(step("m", "a", "b")))
    findings = lint_repository(tmp_path)
    found, cause = one(findings, "e"), one(findings, "m")
    assert (found.rule, found.text, found.field) == (rule, text, "ensemble_scheduling.step[0].model_name")
    assert cause.text in found.fix


def test_an_ensemble_fails_with_an_ensemble_that_it_is_made_of(tmp_path: Path) -> None:
    write_model(tmp_path / "m", PYTHON, FILES)
    write_ensemble(
        tmp_path / "inner", ensemble(step("m", "a", "b", version=7)).replace('"a"', '"x"').replace('"b"', '"y"')
    )
    write_ensemble(tmp_path / "outer", ensemble(step("inner", "a", "b")))
    found = one(lint_repository(tmp_path), "outer")
    assert found.rule == "X3"
    assert found.text == (
        "ensemble 'outer' depends on 'inner' which is not valid. Model 'inner' failed with error: "
        "ensemble 'inner' depends on 'm' whose required version 7 is not loaded."
    )


@pytest.mark.parametrize(("version", "rules"), [(-1, []), (2, []), (1, ["X5"]), (None, ["X5", "L2"])])
def test_a_step_asks_for_a_version_that_is_loaded(tmp_path: Path, version: int | None, rules: list[str]) -> None:
    write_model(tmp_path / "m", PYTHON, {"1/model.py": MODEL_PY, "2/model.py": MODEL_PY})
    write_ensemble(tmp_path / "e", ensemble(step("m", "a", "b", version=version)))
    assert [found.rule for found in lint_repository(tmp_path)] == rules


def circle(first: str, last: str) -> str:
    return f"circular dependency between ensembles: {first} -> ... -> {last} -> {first}"


@pytest.mark.parametrize(
    ("names", "texts"),
    [
        ("a", [("a", "a")]),
        ("ab", [("a", "b"), ("b", "a")]),
        ("abc", [("c", "b"), ("a", "c"), ("c", "b")]),
        ("abcd", [("d", "c"), ("d", "c"), ("a", "d"), ("d", "c")]),
    ],
)
def test_a_circle_is_named_as_the_server_names_it(tmp_path: Path, names: str, texts: list[tuple[str, str]]) -> None:
    for number, name in enumerate(names):
        write_ensemble(tmp_path / name, ensemble(step(names[(number + 1) % len(names)], "a", "b")))
    found = lint_repository(tmp_path)
    assert [one(found, name).text for name in names] == [circle(*pair) for pair in texts]


def test_of_several_missing_versions_of_a_model_the_highest_is_named(tmp_path: Path) -> None:
    write_model(tmp_path / "m", PYTHON, FILES)
    write_ensemble(tmp_path / "e", ensemble(step("m", "a", "t", version=5), step("m", "t", "b", version=9)))
    assert "whose required version 9 is not loaded" in one(lint_repository(tmp_path), "e").text


def test_an_ensemble_of_a_decoupled_model_is_not_cached(tmp_path: Path) -> None:
    write_decoupled(tmp_path, [step("d", "a", "b")], "b")
    write_ensemble(tmp_path / "cached", ensemble(step("d", "a", "b")) + "response_cache { enable: true }")
    write_ensemble(tmp_path / "plain", ensemble(step("m", "a", "b")) + "response_cache { enable: true }")
    cached = PYTHON + "response_cache { enable: true }"
    policy = completing("config.set_model_transaction_policy({'decoupled': True})", "return config")
    write_model(tmp_path / "becomes", cached, policy)
    errors = [(each.model, each.rule) for each in lint_repository(tmp_path) if each.severity == "error"]
    assert errors == [("becomes", "C12"), ("cached", "C12")]


FOLLOWED = [
    ("a decoupled step alone", [step("d", "a", "b")], "b", ""),
    ("one after the other", [step("d", "a", "t"), step("d2", "t", "b")], "b", ""),
    ("two ways from one", [step("d", "a", "t"), step("m", "t", "u"), step("pair", "tu", "b")], "b", ""),
    ("with the request", [step("d", "a", "t"), step("pair", "ta", "b")], "b", "e"),
    ("two of them", [step("d", "a", "t"), step("d2", "a", "u"), step("pair", "tu", "b")], "b", "e"),
    ("one twice", [step("d", "a", "t"), step("d", "a", "u"), step("pair", "tu", "b")], "b", "e"),
    ("inside", [step("d", "a", "t"), step("pair", "ta", "v"), step("m", "v", "b")], "b", "pair"),
    ("at the end", [step("d", "a", "b"), step("m", "a", "c")], "bc", "e"),
    ("inside another ensemble", [step("inner", "a", "t"), step("pair", "ta", "b")], "b", "e"),
    ("completed", [step("completed", "a", "t"), step("pair", "ta", "b")], "b", "e"),
]


def write_decoupled(repository: Path, steps: list[str], outputs: str) -> None:
    for name, config in {"d": DECOUPLED, "d2": DECOUPLED, "m": PYTHON, "pair": PAIR}.items():
        write_model(repository / name, config, FILES)
    policy = completing("config.set_model_transaction_policy({'decoupled': True})", "return config")
    write_model(repository / "completed", PYTHON, policy)
    inner = ensemble(step("d", "a", "b")).replace('"a"', '"x"').replace('"b"', '"y"')
    write_ensemble(repository / "inner", inner)
    write_ensemble(repository / "e", ensemble(*steps, outputs=outputs))


@pytest.mark.parametrize(("name", "steps", "outputs", "owner"), FOLLOWED, ids=[name for name, *_ in FOLLOWED])
def test_what_a_decoupled_step_makes_meets_nothing_else(
    tmp_path: Path, name: str, steps: list[str], outputs: str, owner: str
) -> None:
    write_decoupled(tmp_path, steps, outputs)
    found = [each for each in lint_repository(tmp_path) if each.model == "e"]
    assert [each.rule for each in found] == (["X14"] if owner != "" else []), name
    for each in found:
        assert each.text == (
            f"in ensemble e, step of model '{owner}' receives inputs originated from different decoupled models"
        )


def test_ensembles_in_a_circle_are_judged_in_bounded_time(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a"), ("c", "a")):
        write_ensemble(tmp_path / name, ensemble(step(other, "a", "b")))
    found = lint_repository(tmp_path)
    assert [one(found, name).rule for name in "abc"] == ["X2", "X2", "X3"]


def test_a_long_chain_of_ensembles_is_judged(tmp_path: Path) -> None:
    count = 150
    write_model(tmp_path / f"m{count}", PYTHON, FILES)
    for number in range(count):
        inner = ensemble(step(f"m{number + 1}", "a", "b")).replace('"a"', '"x"').replace('"b"', '"y"')
        write_ensemble(tmp_path / f"m{number}", inner)
    assert lint_repository(tmp_path) == []


def test_what_a_python_model_completes_counts_in_an_ensemble(tmp_path: Path) -> None:
    tensor = "{'name': '%s', 'data_type': 'TYPE_%s', 'dims': [4]}"
    statements = [f"config.add_input({tensor % ('x', 'FP32')})", f"config.add_output({tensor % ('y', 'INT8')})"]
    write_model(tmp_path / "m", None, completing(*statements, "return config"))
    write_ensemble(tmp_path / "e", ensemble(step("m", "a", "b")))
    (found,) = lint_repository(tmp_path)
    assert found.rule == "X12"
    # What only running it would tell is not held against anybody.
    write_model(tmp_path / "n", None, completing("config.add_input(tensors()[0])", "return config"))
    write_ensemble(tmp_path / "f", ensemble(step("n", "a", "b")))
    assert [each.model for each in lint_repository(tmp_path)] == ["e"]


def test_a_variant_of_the_config_is_judged_where_a_model_has_it(tmp_path: Path) -> None:
    write_model(tmp_path / "m", PYTHON, FILES | {"configs/h100.pbtxt": PYTHON + "max_batch_size: -1"})
    write_model(tmp_path / "n", PYTHON + "max_batch_size: -2", FILES)
    write_model(tmp_path / "only", None, FILES | {"configs/h100.pbtxt": X + Y + 'backend: "python"'})

    assert [(found.model, found.rule) for found in lint_repository(tmp_path)] == [("n", "C4")]
    found = lint_repository(tmp_path, config_name="h100")
    assert [(each.model, each.rule) for each in found] == [("m", "C4"), ("n", "C4")]
    assert found[0].file == str(tmp_path / "m" / "configs" / "h100.pbtxt")
    assert (found[0].line, found[0].column) == (4, 1)
    assert found[1].file == str(tmp_path / "n" / "config.pbtxt")


def test_a_composing_model_is_served_by_its_variant_too(tmp_path: Path) -> None:
    other = PYTHON.replace("TYPE_FP32", "TYPE_INT8")
    write_model(tmp_path / "m", PYTHON, FILES | {"configs/int8.pbtxt": other})
    write_ensemble(tmp_path / "e", ensemble(step("m", "a", "b")))
    assert lint_repository(tmp_path) == []
    assert {found.rule for found in lint_repository(tmp_path, config_name="int8")} == {"X12"}


def refusal(server: EmbeddedTriton, name: str) -> str:
    """Load a model; return why the server refuses it, or an empty string when it loads."""
    url = f"{server.http_url}/v2/repository/models/{name}/load"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=b"{}", method="POST"), timeout=60.0):
            return ""
    except urllib.error.HTTPError as error:
        with error:
            return str(json.loads(error.read())["error"])


@pytest.mark.triton
@pytest.mark.slow
def test_the_server_says_what_lint_says_of_several_repositories(tmp_path: Path) -> None:
    models, ensembles = tmp_path / "models", tmp_path / "ensembles"
    write_decoupled(models, [step("m", "a", "b")], "b")
    write_model(models / "broken", PYTHON + "instance_group { kind: KIND_CPU gpus: 0 }", FILES)
    write_model(models / "refused", PYTHON + "max_batch_size: -1", FILES)
    for repository in (models, ensembles):
        write_model(repository / "twice", PYTHON, FILES)
    for number, (_, steps, outputs, _) in enumerate(FOLLOWED):
        write_ensemble(ensembles / f"flow{number}", ensemble(*steps, outputs=outputs))
    for name in ("broken", "refused", "twice", "gone"):
        write_ensemble(ensembles / f"of_{name}", ensemble(step(name, "a", "b")))
    for version in (1, 7, None):
        write_ensemble(ensembles / f"asks_{version}", ensemble(step("m", "a", "b", version=version)))
    # Once it has refused a circle, the server does not say it again of the others.
    for repository, name, other in ((ensembles, "p", "q"), (models, "q", "r"), (models, "r", "p")):
        write_ensemble(repository / f"ring_{name}", ensemble(step(f"ring_{other}", "a", "b")))
    write_ensemble(ensembles / "twofold", ensemble(step("of_broken", "a", "b")))

    findings = lint_repository(models, ensembles)

    first = {found.model: found.text for found in reversed(findings) if found.severity == "error"}
    with EmbeddedTriton([models, ensembles], model_control_mode="explicit") as server:
        for directory in sorted(ensembles.iterdir()):
            name, said = directory.name, refusal(server, directory.name)
            assert (said != "") == (name in first), (name, said)
            # Why a model is not in the server's repository, the log alone says.
            where = "\n".join(server.log) if name == "twice" else said
            assert first.get(name, "") in where
