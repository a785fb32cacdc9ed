"""Any ensemble whose edges fit is derived, written, read back and accepted by the rules; one wrong edge is refused."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tritonforge_client.core.proto import model_config_from_text
from tritonforge_generator.declared import declared_from_mapping
from tritonforge_generator.ensemble import (
    composing_models,
    ensemble_from_options,
    model_config_from_ensemble,
    options_from_config,
)
from tritonforge_generator.errors import ConfigError
from tritonforge_generator.lint import lint_repository
from tritonforge_generator.spec import EnsembleOptions, VerifyOptions

DATA_TYPES = ("TYPE_FP32", "TYPE_INT64", "TYPE_UINT8", "TYPE_STRING", "TYPE_BOOL")
COMMON = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Tensor:
    """An ensemble tensor: its name, type and shape with the batch in front."""

    name: str
    data_type: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Model:
    """A step's model; its tensors are called ``i0``, ``i1`` and ``o0``, ``o1``."""

    max_batch_size: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def config(self) -> str:
        lines = [f'backend: "onnxruntime" max_batch_size: {self.max_batch_size}']
        for kind, tensors in (("input", self.inputs), ("output", self.outputs)):
            for index, one in enumerate(tensors):
                dims = list(one.shape[1:] if self.max_batch_size > 0 else one.shape)
                lines.append(f'{kind} {{ name: "{kind[0]}{index}" data_type: {one.data_type} dims: {dims} }}')
        return "\n".join(lines)

    def step(self, name: str) -> dict[str, Any]:
        return {
            "model_name": name,
            "input_map": {f"i{index}": one.name for index, one in enumerate(self.inputs)},
            "output_map": {f"o{index}": one.name for index, one in enumerate(self.outputs)},
        }


@dataclass(frozen=True)
class Plan:
    """A whole ensemble: what requests give, and models in an order in which they can run."""

    given: tuple[Tensor, ...]
    models: tuple[Model, ...]

    @property
    def outputs(self) -> list[str]:
        """What nothing takes goes into the reply."""
        taken = {one.name for model in self.models for one in model.inputs}
        return [one.name for model in self.models for one in model.outputs if one.name not in taken]

    def options(self, order: Sequence[int]) -> EnsembleOptions:
        said = {
            "name": "e",
            "input": [{"name": one.name} for one in self.given],
            "output": [{"name": name} for name in self.outputs],
            "ensemble_scheduling": {"step": [self.models[index].step(f"m{index}") for index in order]},
        }
        return declared_from_mapping(said, EnsembleOptions, origin="test")

    def write(self, repository: Path) -> None:
        for index, model in enumerate(self.models):
            (repository / f"m{index}" / "1").mkdir(parents=True)
            (repository / f"m{index}" / "config.pbtxt").write_text(model.config())


def tensors(prefix: str, count: int) -> st.SearchStrategy[tuple[Tensor, ...]]:
    shapes = st.lists(st.sampled_from([-1, 1, 3, 8]), min_size=1, max_size=3).map(lambda sizes: (-1, *sizes))
    each = st.tuples(st.sampled_from(DATA_TYPES), shapes)
    several = st.lists(each, min_size=count, max_size=count)
    return several.map(lambda found: tuple(Tensor(f"{prefix}{index}", *one) for index, one in enumerate(found)))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Every step takes tensors that exist already; what of the request is not taken goes to the first step."""
    given_ = draw(tensors("x", draw(st.integers(1, 3))))
    known, models = list(given_), []
    for index in range(draw(st.integers(1, 5))):
        inputs = draw(st.lists(st.sampled_from(known), min_size=1, max_size=3, unique=True))
        if index == 0:
            inputs += [one for one in given_ if one not in inputs]
        outputs = draw(tensors(f"t{index}_", draw(st.integers(1, 2))))
        models.append(Model(draw(st.sampled_from([0, 1, 4, 32])), tuple(inputs), outputs))
        known += outputs
    return Plan(given_, tuple(models))


@COMMON
@given(plan=plans(), data=st.data())
def test_what_fits_is_derived_and_accepted_in_any_order_of_steps(plan: Plan, data: st.DataObject) -> None:
    options = plan.options(data.draw(st.permutations(range(len(plan.models)))))
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder)
        plan.write(repository)
        models = composing_models(repository, {step.model_name for step in options.steps})
        ensemble = ensemble_from_options(options, models)
        config = model_config_from_ensemble(ensemble, options)
        (repository / "e" / "1").mkdir(parents=True)
        (repository / "e" / "config.pbtxt").write_text(config.text)
        assert [
            one
            for one in lint_repository(repository, models=["e"], strict=True, needs=("text", "repo"))
            if one.severity == "error"
        ] == []
    assert ensemble.max_batch_size == min(model.max_batch_size for model in plan.models)
    assert model_config_from_text(config.text) == config.message
    again = options_from_config(config.message, VerifyOptions())
    assert model_config_from_ensemble(ensemble_from_options(again, models), again).message == config.message


def wrong(tensor: Tensor, how: str) -> Tensor:
    if how == "data_type":
        return replace(tensor, data_type=next(one for one in DATA_TYPES if one != tensor.data_type))
    if how == "rank":  # one more axis the rules may take for a batch
        return replace(tensor, shape=(*tensor.shape, 3, 3))
    return replace(tensor, shape=(*tensor.shape[:-1], 77))


@pytest.mark.parametrize("how", ["data_type", "rank", "size"])
@COMMON
@given(plan=plans(), data=st.data())
def test_one_wrong_end_is_refused_here_and_by_the_rules(how: str, plan: Plan, data: st.DataObject) -> None:
    made = {one.name for model in plan.models for one in model.outputs}
    edges = [
        (index, place)
        for index, model in enumerate(plan.models)
        for place, one in enumerate(model.inputs)
        if one.name in made and (how != "size" or one.shape[-1] > 0)
    ]
    assume(edges)
    index, place = data.draw(st.sampled_from(edges))
    model = plan.models[index]
    inputs = [wrong(one, how) if number == place else one for number, one in enumerate(model.inputs)]
    models = [replace(model, inputs=tuple(inputs)) if one is model else one for one in plan.models]
    options = plan.options(range(len(plan.models)))
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder)
        plan.write(repository)
        right = composing_models(repository, {step.model_name for step in options.steps})
        written = model_config_from_ensemble(ensemble_from_options(options, right), options)
        (repository / f"m{index}" / "config.pbtxt").write_text(models[index].config())
        broken = composing_models(repository, {step.model_name for step in options.steps})
        with pytest.raises(ConfigError, match=f"tensor '{model.inputs[place].name}' do not fit"):
            ensemble_from_options(options, broken)
        (repository / "e" / "1").mkdir(parents=True)
        (repository / "e" / "config.pbtxt").write_text(written.text)
        first = next(
            one
            for one in lint_repository(repository, models=["e"], strict=True, needs=("text", "repo"))
            if one.severity == "error"
        )
        assert first.rule == ("X12" if how == "data_type" else "X13")
