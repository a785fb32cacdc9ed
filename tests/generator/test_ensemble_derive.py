"""Ensembles without a server: what is derived from the steps, and every edge that is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tritonforge_generator.declared import declared_from_mapping
from tritonforge_generator.ensemble import (
    Ensemble,
    composing_models,
    ensemble_from_options,
    ensembles_in_order,
    model_config_from_ensemble,
    options_from_config,
)
from tritonforge_generator.errors import ConfigError, SpecError
from tritonforge_generator.lint import lint_repository
from tritonforge_generator.spec import EnsembleOptions, VerifyOptions

MODELS: dict[str, tuple[int, list[str], list[str]]] = {
    "detector": (8, ["images UINT8 -1,-1,3"], ["boxes FP32 -1,4", "scores FP32 -1"]),
    "crop": (4, ["rois FP32 -1,4", "images UINT8 -1,-1,3"], ["pixels FP32 3,8,8"]),
    "classifier": (16, ["pixels FP32 3,8,8"], ["logits FP32 10"]),
    "integers": (8, ["rois INT64 -1,4"], ["pixels FP32 3,8,8"]),
    "flat": (8, ["rois FP32 4"], ["pixels FP32 3,8,8"]),
    "single": (0, ["pixels FP32 1,3,8,8"], ["mean FP32 1,3"]),
    "whole": (0, ["pixels FP32 3,8,8"], ["mean FP32 3"]),
    "forgiving": (8, ["pixels FP32 3,8,8", "scale FP32 1 optional"], ["logits FP32 10"]),
}
"""By name: max_batch_size, inputs and outputs as name, type and dims."""


def write_models(repository: Path) -> Path:
    for name, (max_batch_size, inputs, outputs) in MODELS.items():
        lines = [f'backend: "custom" max_batch_size: {max_batch_size}']
        for kind, tensors in (("input", inputs), ("output", outputs)):
            for tensor, datatype, dims, *optional in (text.split() for text in tensors):
                extra = " optional: true" if optional else ""
                lines.append(f'{kind} {{ name: "{tensor}" data_type: TYPE_{datatype} dims: [{dims}]{extra} }}')
        for version in (1, 2):
            (repository / name / str(version)).mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text("\n".join(lines))
    return repository


def options_of(*steps: dict[str, Any], inputs: str, outputs: str, **options: Any) -> EnsembleOptions:
    said = {
        "name": "e",
        "input": [{"name": name} for name in inputs.split()],
        "output": [{"name": name} for name in outputs.split()],
        "ensemble_scheduling": {"step": list(steps)},
        **options,
    }
    return declared_from_mapping(said, EnsembleOptions, origin="test")


def derived(repository: Path, options: EnsembleOptions) -> Ensemble:
    models = composing_models(repository, {step.model_name for step in options.steps})
    return ensemble_from_options(options, models)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("ensembles") / "repo")


DETECT = {"model_name": "detector", "output_map": {"boxes": "rois"}}
PIPELINE = (DETECT, {"model_name": "crop"}, {"model_name": "classifier"})


def test_what_is_left_out_comes_from_the_steps(repository: Path) -> None:
    ensemble = derived(repository, options_of(*PIPELINE, inputs="images", outputs="logits"))
    assert ensemble.max_batch_size == 4
    assert "step 'crop'" in ensemble.batch_note
    assert [(one.name, one.datatype, ensemble.dims(one)) for one in ensemble.inputs] == [
        ("images", "UINT8", (-1, -1, 3))
    ]
    assert [(one.name, one.datatype, ensemble.dims(one)) for one in ensemble.outputs] == [("logits", "FP32", (10,))]
    assert [(step.input_map, step.output_map) for step in ensemble.steps] == [
        ({"images": "images"}, {"boxes": "rois"}),
        ({"rois": "rois", "images": "images"}, {"pixels": "pixels"}),
        ({"pixels": "pixels"}, {"logits": "logits"}),
    ]
    assert ensemble.edges == 5


def test_steps_may_be_declared_in_any_order(repository: Path) -> None:
    ensemble = derived(repository, options_of(*reversed(PIPELINE), inputs="images", outputs="logits"))
    assert [ensemble.steps[index].model.name for index in ensemble.order] == ["detector", "crop", "classifier"]


def test_the_config_is_what_the_rules_accept_and_reads_back_as_the_same_ensemble(
    repository: Path, tmp_path: Path
) -> None:
    write_models(tmp_path / "repo")
    options = options_of(
        *PIPELINE,
        inputs="images",
        outputs="logits",
        parameters={"owner": "vision"},
        metric_tags={"team": "a"},
        response_cache={"enable": True},
        version_policy={"all": {}},
    )
    ensemble = derived(repository, options)
    config = model_config_from_ensemble(ensemble, options)
    (tmp_path / "repo" / "e" / "1").mkdir(parents=True)
    (tmp_path / "repo" / "e" / "config.pbtxt").write_text(config.text)
    errors = [one for one in lint_repository(tmp_path / "repo", models=["e"]) if one.rule[0] in "CEIRXV"]
    assert errors == []
    again = derived(repository, options_from_config(config.message, VerifyOptions()))
    assert again.to_json() | {"batch": None} == ensemble.to_json() | {"batch": None}
    assert all("  # " in line for line in config.text.splitlines() if ":" in line and line[0] != "#")


def test_a_step_without_batches_makes_an_ensemble_without(repository: Path) -> None:
    options = options_of(*PIPELINE[:2], {"model_name": "single"}, inputs="images", outputs="mean")
    ensemble = derived(repository, options)
    assert ensemble.max_batch_size == 0
    assert [one.shape for one in ensemble.inputs] == [(-1, -1, -1, 3)]
    assert "step 'single' takes no batches" in model_config_from_ensemble(ensemble, options).text


def test_an_input_is_optional_where_every_step_can_do_without(repository: Path) -> None:
    ensemble = derived(repository, options_of({"model_name": "forgiving"}, inputs="pixels scale", outputs="logits"))
    assert {one.name: one.optional for one in ensemble.inputs} == {"pixels": False, "scale": True}
    without = derived(repository, options_of({"model_name": "forgiving"}, inputs="pixels", outputs="logits"))
    assert without.steps[0].input_map == {"pixels": "pixels"}


def test_declared_sizes_replace_open_ones(repository: Path) -> None:
    options = options_of(*PIPELINE, inputs="images", outputs="logits")
    tensor = {"name": "images", "data_type": "TYPE_UINT8", "dims": [480, 640, 3]}
    declared = options.model_dump(mode="json") | {"input": [tensor]}
    ensemble = derived(repository, declared_from_mapping(declared, EnsembleOptions, origin="test"))
    assert ensemble.dims(ensemble.inputs[0]) == (480, 640, 3)


REFUSED: dict[str, tuple[EnsembleOptions, str]] = {
    "type of an edge": (
        options_of(DETECT, {"model_name": "integers"}, inputs="images", outputs="pixels"),
        (
            "expected the same data type, got step 'detector' output 'boxes' FP32 [-1,-1,4] -> "
            "step 'integers' input 'rois' INT64 [-1,-1,4]"
        ),
    ),
    "rank of an edge": (
        options_of(DETECT, {"model_name": "flat"}, inputs="images", outputs="pixels"),
        (
            "expected the same number of axes, got step 'detector' output 'boxes' FP32 [-1,-1,4] -> "
            "step 'flat' input 'rois' FP32 [-1,4]"
        ),
    ),
    "batch of an edge": (
        options_of(*PIPELINE[:2], {"model_name": "whole"}, inputs="images", outputs="mean"),
        (
            "the first of step 'crop' is its batch, got step 'crop' output 'pixels' FP32 [-1,3,8,8] -> "
            "step 'whole' input 'pixels' FP32 [3,8,8]"
        ),
    ),
    "size of an edge": (
        options_of(
            {"model_name": "classifier"},
            {"model_name": "flat", "input_map": {"rois": "logits"}, "output_map": {"pixels": "out"}},
            inputs="pixels",
            outputs="out",
        ),
        (
            "expected the same size of axis 1, got step 'classifier' output 'logits' FP32 [-1,10] -> "
            "step 'flat' input 'rois' FP32 [-1,4]"
        ),
    ),
    "two takers of an input": (
        options_of(
            {"model_name": "flat", "input_map": {"rois": "x"}, "output_map": {"pixels": "a"}},
            {"model_name": "integers", "input_map": {"rois": "x"}, "output_map": {"pixels": "b"}},
            inputs="x",
            outputs="a b",
        ),
        "got step 'flat' input 'rois' FP32 [-1,4] and step 'integers' input 'rois' INT64 [-1,-1,4]",
    ),
    "made twice": (
        options_of(DETECT, {"model_name": "crop"}, {"model_name": "flat"}, inputs="images", outputs="pixels"),
        "tensor 'pixels' is made twice: expected one step that makes it, got step 'crop' output",
    ),
    "made by the request too": (
        options_of(*PIPELINE, inputs="images pixels", outputs="logits"),
        "tensor 'pixels' is made twice: expected one that makes it, got the request and step 'crop'",
    ),
    "unused input": (
        options_of(*PIPELINE, inputs="images image", outputs="logits"),
        "input[1] 'image' feeds no step: expected a tensor that an input_map names. Did you mean 'images'?",
    ),
    "output that is not made": (
        options_of(*PIPELINE, inputs="images", outputs="logits logit"),
        "output[1] 'logit' is made by no step: expected one of rois, pixels, logits. Did you mean 'logits'?",
    ),
    "tensor from nowhere": (
        options_of(DETECT, {"model_name": "crop", "input_map": {"rois": "roi", "images": "images"}},
                   inputs="images", outputs="pixels"),
        "tensor 'roi' is made by no step and is no input",
    ),
    "dead end": (
        options_of(
            {"model_name": "detector", "output_map": {"boxes": "rois", "scores": "s"}},
            *PIPELINE[1:],
            inputs="images",
            outputs="logits",
        ),
        "tensor 's' is a dead end: expected a step or an output that takes it, got step 'detector' output 'scores'",
    ),
    "circle of steps": (
        options_of(
            {"model_name": "forgiving", "input_map": {"pixels": "p", "scale": "s"}, "output_map": {"logits": "l"}},
            {"model_name": "flat", "input_map": {"rois": "l"}, "output_map": {"pixels": "p"}},
            inputs="s",
            outputs="l",
        ),
        (
            "its steps wait for one another: expected a way from the inputs to every step, got step 'forgiving' -> "
            "step 'flat' -> step 'forgiving'"
        ),
    ),
    "input that a model lacks": (
        options_of({"model_name": "flat", "input_map": {"roi": "x"}}, inputs="x", outputs="pixels"),
        "step[0].input_map names what step 'flat' lacks: expected keys of rois, got 'roi'",
    ),
    "output that a model lacks": (
        options_of({"model_name": "flat", "output_map": {"pixel": "x"}}, inputs="rois", outputs="x"),
        "step[0].output_map names what step 'flat' lacks: expected keys of pixels, got 'pixel'",
    ),
    "input that is not mapped": (
        options_of({"model_name": "crop", "input_map": {"rois": "rois"}}, inputs="rois", outputs="pixels"),
        "input_map lacks an input of step 'crop': expected an ensemble tensor for 'images', got rois",
    ),
    "names that nobody takes": (
        options_of(DETECT, {"model_name": "crop"}, inputs="images", outputs="cut"),
        "ensemble_scheduling.step[1] makes nothing that is taken: expected an output or a step that takes one of",
    ),
    "version that is not loaded": (
        options_of({"model_name": "flat", "model_version": 1}, inputs="rois", outputs="pixels"),
        "model_version is no version that 'flat' loads: expected one of 2, or -1 for the newest, got 1",
    ),
    "batch above a step": (
        options_of(*PIPELINE, inputs="images", outputs="logits", max_batch_size=5),
        "max_batch_size is above that of a step: expected at most 4, because step 'crop' has max_batch_size 4, got 5",
    ),
    "model that is nowhere": (
        options_of({"model_name": "absent"}, inputs="x", outputs="y"),
        "model 'absent' of a step is not in",
    ),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_what_does_not_fit_is_refused_with_both_ends(repository: Path, reason: str) -> None:
    options, text = REFUSED[reason]
    with pytest.raises(ConfigError) as caught:
        derived(repository, options)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        ({"data_type": "TYPE_FP32"}, "data_type of 'images' is not that of the steps: expected TYPE_UINT8"),
        ({"dims": [480, 640, 4]}, "dims of 'images' are not those of the steps: expected [-1, -1, 3]"),
        ({"dims": [3]}, "dims of 'images' are not those of the steps"),
    ],
)
def test_a_declared_tensor_is_checked(repository: Path, tensor: dict[str, Any], text: str) -> None:
    said = options_of(*PIPELINE, inputs="images", outputs="logits").model_dump(mode="json")
    options = declared_from_mapping(said | {"input": [{"name": "images", **tensor}]}, EnsembleOptions, origin="test")
    with pytest.raises(ConfigError) as caught:
        derived(repository, options)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"name": "a/b"}, "name: expected letters"),
        ({"input": []}, "input: expected at least 1"),
        ({"input": [{"name": "x"}, {"name": "x"}]}, "input[1].name: expected a name of its own, got 'x' twice"),
        ({"output": [{"name": "images"}]}, "output[0].name: expected a name of its own, got 'images' twice"),
        ({"input": [{"name": "x", "dims": []}]}, "input[0].dims: expected at least 1 of them"),
        ({"ensemble_scheduling": {"step": []}}, "ensemble_scheduling.step: expected at least 1"),
        ({"ensemble_scheduling": {"step": [{"model_name": "m", "model_version": 0}]}}, "model_version: expected -1"),
        ({"ensemble_scheduling": {"step": [{"model_name": "m", "input_map": {}}]}}, "input_map: expected at least 1"),
        ({"instance_group": [{"count": 1}]}, "unknown key 'instance_group'"),
    ],
)
def test_mistakes_in_the_spec_are_placed(changed: dict[str, Any], text: str) -> None:
    said = options_of(*PIPELINE, inputs="images", outputs="logits").model_dump(mode="json", exclude_none=True)
    with pytest.raises(SpecError) as caught:
        declared_from_mapping(said | changed, EnsembleOptions, origin="test")
    assert text in str(caught.value)


def named(name: str, *steps: str) -> EnsembleOptions:
    return options_of(*({"model_name": step} for step in steps), inputs="x", outputs="y", name=name)


def test_ensembles_come_after_those_that_they_are_made_of() -> None:
    ensembles = [named("top", "middle", "m"), named("middle", "bottom"), named("bottom", "published")]
    ordered = ensembles_in_order(ensembles, models=["m"], published=["published"])
    assert [one.name for one in ordered] == ["bottom", "middle", "top"]


def test_ensembles_that_lead_back_to_themselves_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"lead back to themselves.* got b -> c -> b"):
        ensembles_in_order([named("a", "b"), named("b", "c"), named("c", "b")], models=[], published=[])
    with pytest.raises(ConfigError, match="got a -> a"):
        ensembles_in_order([named("a", "a")], models=[], published=[])


def test_a_step_that_nobody_serves_is_refused_before_any_work() -> None:
    with pytest.raises(ConfigError, match=r"'a': ensemble_scheduling.step\[1\].model_name.*Did you mean 'digits'\?"):
        ensembles_in_order([named("a", "digits", "digit")], models=["digits"], published=[])


def test_replies_of_a_decoupled_step_are_not_cached(tmp_path: Path) -> None:
    root = write_models(tmp_path / "repo")
    config = root / "flat" / "config.pbtxt"
    config.write_text(config.read_text() + "\nmodel_transaction_policy { decoupled: true }")
    options = options_of({"model_name": "flat"}, inputs="rois", outputs="pixels")
    assert model_config_from_ensemble(derived(root, options), options).message.model_transaction_policy.decoupled
    cached = options_of({"model_name": "flat"}, inputs="rois", outputs="pixels", response_cache={"enable": True})
    with pytest.raises(ConfigError, match="response_cache does not go with a step that gives several replies"):
        model_config_from_ensemble(derived(root, cached), cached)
