"""Y8 to Y16: what ``auto_complete_config`` of a ``model.py`` may do to the config.

They are decided where the function is made of literals; see ``python_completion``.
"""

from __future__ import annotations

from collections.abc import Iterator

from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.rule import Hit, rule


def _failures(model: Model, rule_id: str) -> Iterator[Hit]:
    for version, completion in model.python_completions.items() if model.is_python else ():
        failure = None if completion is None else completion.failure
        if failure is not None and failure.rule == rule_id:
            path = model.python_files[version]
            yield Hit("", failure.values, (version,), file=path, line=failure.line, column=failure.column)


@rule(
    "Y8",
    needs="file",
    text="auto_complete_config function in model '{model}' must return a valid pb.ModelConfig object.",
    fix="End with `return` and the function's own parameter.",
)
def completion_returns_the_config(model: Model) -> Iterator[Hit]:
    """``auto_complete_config`` returns the object that it was given."""
    yield from _failures(model, "Y8")


@rule(
    "Y9",
    needs="file",
    text="configuration specified max_batch_size {configured}, but in auto-complete-config function for model "
    "'{model}' specified max_batch_size {completed}",
    fix="Lower `max_batch_size` of the config to {completed} or leave it out, or raise it in model.py.",
)
def completion_keeps_the_batch_size(model: Model) -> Iterator[Hit]:
    """``set_max_batch_size()`` is not below the config's ``max_batch_size``."""
    yield from _failures(model, "Y9")


@rule(
    "Y10",
    needs="file",
    text="Configuration specified scheduling_choice as '{scheduler}', but auto-complete-config function for model "
    "'{model}' tries to set scheduling_choice as 'dynamic_batching'",
    fix="Remove `{scheduler}` from the config, or the call of `set_dynamic_batching()`.",
)
def completion_keeps_the_scheduler(model: Model) -> Iterator[Hit]:
    """``set_dynamic_batching()`` is not called when the config has another scheduler."""
    yield from _failures(model, "Y10")


@rule(
    "Y11",
    needs="file",
    text="{kind} '{tensor}' in auto-complete-config function for model '{model}' contains property other than "
    "{allowed}.",
    fix="Leave the other keys out: what they say is written in config.pbtxt.",
)
def completed_tensor_has_known_keys(model: Model) -> Iterator[Hit]:
    """``add_input()`` and ``add_output()`` take name, data_type and dims, the first also optional."""
    yield from _failures(model, "Y11")


@rule(
    "Y12",
    needs="file",
    text="{what} in auto-complete-config function for model '{model}' is missing '{key}' property.",
    fix="Add the key '{key}'.",
)
def completed_tensor_is_whole(model: Model) -> Iterator[Hit]:
    """What ``add_input()`` and ``add_output()`` are given has a name, a data_type and dims."""
    yield from _failures(model, "Y12")


@rule(
    "Y13",
    needs="file",
    text="unable to load model '{model}', configuration expects datatype {configured} for {kind} '{tensor}', model "
    "provides {completed}",
    fix="Write the same data type in config.pbtxt and in model.py, or leave it out of the first.",
)
def completed_type_agrees(model: Model) -> Iterator[Hit]:
    """``add_input()`` and ``add_output()`` give a tensor the data type that the config gives it."""
    yield from _failures(model, "Y13")


@rule(
    "Y14",
    needs="file",
    text="model '{model}', tensor '{tensor}': the model expects {what} {completed} but the model configuration "
    "specifies {what} {configured}",
    fix="Write the same in config.pbtxt and, as a list, in model.py, or leave it out of the first.",
)
def completed_dims_agree(model: Model) -> Iterator[Hit]:
    """``add_input()`` and ``add_output()`` give a tensor the dims, and ``optional``, that the config gives it.

    A tuple never equals the config's list. ``optional`` of a configured input is false when it is left out.
    """
    yield from _failures(model, "Y14")


@rule(
    "Y15",
    needs="file",
    text="model transaction property in auto-complete-config function for model '{model}' contains property other than "
    "'decoupled'.",
    fix="Give nothing but `decoupled`.",
)
def completed_policy_has_known_keys(model: Model) -> Iterator[Hit]:
    """``set_model_transaction_policy()`` takes nothing but ``decoupled``."""
    yield from _failures(model, "Y15")


@rule(
    "Y16",
    needs="file",
    text="trying to change decoupled property in auto-complete-config for model '{model}', which is already set to "
    "'{configured}'.",
    fix="Write the same in both, or leave `model_transaction_policy` out of config.pbtxt.",
)
def completed_policy_agrees(model: Model) -> Iterator[Hit]:
    """``set_model_transaction_policy()`` does not change ``decoupled`` of a config that has the policy."""
    yield from _failures(model, "Y16")
