"""R2, X1, X3 to X5: whether the models that an ensemble is made of are there and load."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.order import polling
from tritonforge_generator.lint.proto import Message
from tritonforge_generator.lint.rule import Hit, rule

_LATEST: Final = -1


def steps_of(model: Model) -> Iterator[tuple[int, Message, Model | None]]:
    """Yield ``(index, step, its model)`` of an ensemble's steps; the model is ``None`` unless exactly one is found."""
    if model.repositories is not None:
        for index, step in enumerate(model.config.ensemble_scheduling.step):
            if step.model_name != "" and step.model_namespace == "":
                yield index, step, model.repositories.model(step.model_name)


@rule(
    "R2",
    needs="repo",
    text="failed to poll model '{name}': not unique across all model repositories",
    fix="Rename or remove one of them: it is also in {others}.",
)
def name_is_unique(model: Model) -> Iterator[Hit]:
    """A model's name is unique among the repositories that one server serves; otherwise none of them is loaded."""
    directories = model.repositories.directories.get(model.name, ()) if model.repositories is not None else ()
    others = [str(directory.parent) for directory in directories if directory != model.directory]
    if others:
        yield Hit(values={"name": model.name, "others": ", ".join(others)}, file=model.directory)


def _is_unavailable(model: Model, composing: Model | None) -> str:
    """Say why the server does not see a composing model at all; an empty string when it does."""
    if composing is None or model.repositories is None:
        return "not exactly one repository has it"
    failure = None if composing is model else model.repositories.failure(composing)
    if failure is not None and failure.rule in polling(strict=model.strict):
        return failure.text
    return ""


@rule(
    "X1",
    needs="repo",
    text="ensemble {model} contains models that are not available or ambiguous: {missing}",
    fix="Correct `model_name`, or mend what keeps the server from seeing the model: {reasons}. Repositories that are "
    "served together are linted together.",
)
def composing_models_exist(model: Model) -> Iterator[Hit]:
    """Every model of a step is in exactly one of the repositories, and its config can be read and is valid.

    A model whose config the server refuses does not exist for it. Of several, the server names that of the first step.
    """
    missing: dict[str, tuple[int, str]] = {}
    for index, step, composing in steps_of(model):
        why = _is_unavailable(model, composing)
        if why != "":
            missing.setdefault(step.model_name, (index, why))
    if missing:
        first, (index, _) = next(iter(missing.items()))
        reasons = "; ".join(f"{name}: {why}" for name, (_, why) in missing.items())
        values = {"missing": first, "reasons": reasons}
        yield Hit(f"ensemble_scheduling.step[{index}].model_name", values)


def _broken(model: Model, prefix: str) -> Iterator[Hit]:
    """Yield the steps whose model fails to load, with rules of one kind."""
    for index, step, composing in steps_of(model):
        if composing is None or composing is model or model.repositories is None:
            continue
        failure = model.repositories.failure(composing)
        if failure is None or failure.rule in polling(strict=model.strict) or failure.rule == "R2":
            continue
        if (failure.rule[0] == "X") == (prefix == "X"):
            values = {"step": step.model_name, "error": failure.text}
            yield Hit(f"ensemble_scheduling.step[{index}].model_name", values, at=(index,))


@rule(
    "X3",
    needs="repo",
    text="ensemble '{model}' depends on '{step}' which is not valid. Model '{step}' failed with error: {error}",
    fix="Mend the ensemble '{step}' first.",
)
def inner_ensemble_is_valid(model: Model) -> Iterator[Hit]:
    """An ensemble that is a step of another one fits the models that it is made of itself."""
    yield from _broken(model, "X")


@rule(
    "X4",
    needs="repo",
    text="ensemble '{model}' depends on '{step}' which has no loaded version.",
    fix="Mend '{step}' first: {error}",
)
def composing_model_loads(model: Model) -> Iterator[Hit]:
    """Every model of a step loads. The server goes on with why it does not."""
    yield from _broken(model, "")


@rule(
    "X5",
    needs="repo",
    text="ensemble '{model}' depends on '{step}' whose required version {version} is not loaded.",
    fix="Write `model_version: -1` for the latest one; '{step}' loads {loaded}.",
)
def required_version_is_loaded(model: Model) -> Iterator[Hit]:
    """The version that a step asks for is one that its model's version policy loads.

    Without ``model_version`` a step asks for version 0, not for the latest.
    """
    first: dict[str, int] = {}
    for index, step, composing in steps_of(model):
        if composing is None or composing.is_outside or not composing.versions or step.model_version == _LATEST:
            continue
        if step.model_version not in composing.versions:
            loaded = ", ".join(str(version) for version in composing.versions)
            values = {"step": step.model_name, "version": step.model_version, "loaded": loaded}
            # Of several versions of one model, the server names the highest.
            at = (first.setdefault(step.model_name, index), -step.model_version)
            yield Hit(f"ensemble_scheduling.step[{index}].model_version", values, at=at)
