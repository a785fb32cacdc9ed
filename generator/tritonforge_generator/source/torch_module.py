"""PyTorch modules as sources: exported to ONNX, and compared with the module before anybody uses the export."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tritonforge_client.extras import require_extra
from tritonforge_generator.errors import SourceError
from tritonforge_generator.source.onnx_file import onnx_skeleton_from_path, source_from_path, subgraphs_of
from tritonforge_generator.source.source_model import SourceModel

if TYPE_CHECKING:
    import onnx

SCHEME: Final = "torch:"
DEFAULT_OPSET: Final = 18
"""Opset of an export when nobody asks for another: the oldest that the exporter on ``torch.export`` writes."""
_RELATIVE_ERROR: Final = 1e-4
"""Allowed |export - module| / |module|: both compute in FP32 and sum in another order."""
_INLINE_BYTES: Final = 1 << 30
"""Weights above this go into a file of their own: one ONNX file holds 2 GB at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchModel:
    """What a factory returns.

    Attributes:
        module: An ``nn.Module`` or a ``torch.export.ExportedProgram``.
        inputs: Example tensors by input name, in the order of ``forward``; the batch on the first axis, two rows or
            more.
        outputs: Names of the outputs; by default ``output_0`` and so on, or the keys of a mapping.
        batched: Whether the first axis of every input and output is a batch of any size.
    """

    module: Any
    inputs: Mapping[str, Any]
    outputs: Sequence[str] = ()
    batched: bool = True


def source_from_reference(reference: Path, folder: Path, *, opset: int = DEFAULT_OPSET) -> SourceModel:
    """Open a source, whatever it is.

    Args:
        reference: An ONNX file, or ``torch:package.module:factory``.
        folder: Where an export goes.
        opset: Newest ONNX opset that an export may use.

    Raises:
        SourceError: It cannot be read or exported.
    """
    text = str(reference)
    return source_from_torch(text, folder, opset=opset) if text.startswith(SCHEME) else source_from_path(reference)


def source_from_torch(reference: str, folder: Path, *, opset: int = DEFAULT_OPSET) -> SourceModel:
    """Export what a factory returns, and prove the export.

    Both exporters of PyTorch are tried, the one on ``torch.export`` first; the first whose answers are those of the
    module is taken. A module is put into evaluation mode for it.

    Args:
        reference: ``torch:package.module:factory``; the factory takes nothing and returns a ``TorchModel``.
        folder: Where the ONNX file goes.
        opset: Newest ONNX opset that it may use.

    Raises:
        SourceError: The factory does not work, or no export answers like the module.
        MissingExtraError: PyTorch is not installed.
    """
    require_extra("torch", "torch")
    model = torch_model_from_reference(reference)
    names = _output_names(reference, model)
    path = folder / f"{reference.rpartition(':')[2]}.onnx"
    reasons = []
    for exporter in (_export_dynamo, _export_script):
        try:
            with _quiet():
                exporter(model, path, names, opset)
            _tidy(path)
            objection = _objection(path, model, names, opset)
        except Exception as error:  # noqa: BLE001 - exporters raise whatever they like, and the other one may do better
            objection = _cause_text(error)
        if objection == "":
            return source_from_path(path)
        reasons.append(f"{exporter.__name__.removeprefix('_export_')}: {objection}")
    raise SourceError(
        f"{reference} cannot be exported to ONNX",
        expected="an export that answers like the module",
        got="; ".join(reasons),
        action="Export it yourself and give the .onnx file, or simplify what the messages name.",
    )


# ---- what the user gives ----


def torch_model_from_reference(reference: str) -> TorchModel:
    """Call a factory.

    Args:
        reference: ``torch:package.module:factory``; the factory takes nothing and returns a ``TorchModel``.

    Raises:
        SourceError: It does not work.
    """
    module_name, _, factory_name = reference.removeprefix(SCHEME).partition(":")
    sys.path.insert(0, "")  # as `python -m` does: the user's own modules lie where the command runs
    try:
        model = getattr(importlib.import_module(module_name), factory_name)()
    except Exception as error:
        raise SourceError(
            f"{reference} does not work",
            expected="torch:package.module:factory, whose factory can be called without arguments",
            got=f"{type(error).__name__}: {error}",
        ) from error
    finally:
        sys.path.remove("")
    if not isinstance(model, TorchModel):
        raise SourceError(
            f"{reference} returns something else",
            expected="a tritonforge_generator.source.TorchModel",
            got=type(model).__name__,
            action="Return TorchModel(module=..., inputs={'name': example, ...}).",
        )
    _check_model(reference, model)
    return model


def _check_model(reference: str, model: TorchModel) -> None:
    torch = require_extra("torch", "torch")
    if not isinstance(model.module, torch.nn.Module) and not _is_program(model.module):
        raise SourceError(
            f"the module of {reference} cannot be exported",
            expected="an nn.Module or a torch.export.ExportedProgram",
            got=type(model.module).__name__,
        )
    for name, example in model.inputs.items():
        least = 1 if model.batched else 0
        if not torch.is_tensor(example) or example.ndim < least:
            raise SourceError(
                f"input '{name}' of {reference} is no example",
                expected="a tensor with the batch on the first axis" if model.batched else "a tensor",
                got=f"shape {tuple(example.shape)}" if torch.is_tensor(example) else type(example).__name__,
                action="Set batched=False for a model without a batch axis." if torch.is_tensor(example) else "",
            )
    parameters = _parameters(model.module)
    for place, name in enumerate(model.inputs):
        if name in parameters and parameters.index(name) != place:
            raise SourceError(
                f"the inputs of {reference} are not in the order of forward",
                expected=f"the first of {', '.join(parameters)}, none left out",
                got=", ".join(model.inputs),
                action="Order them so, or wrap the module in one that takes just these.",
            )


def _is_program(module: Any) -> bool:
    return isinstance(module, require_extra("torch.export", "torch").ExportedProgram)


def _parameters(module: Any) -> list[str]:
    """Names that inputs have where they are used; they are given by place."""
    if _is_program(module):
        return [str(name) for name in module.graph_signature.user_inputs]
    try:
        return list(inspect.signature(module.forward).parameters)
    except ValueError:  # of TorchScript
        return []


def _output_names(reference: str, model: TorchModel) -> tuple[str, ...]:
    """Run the module once, and name what it gives."""
    try:
        return tuple(_answers(model, model.inputs))
    except Exception as error:
        raise SourceError(
            f"{reference} does not run on its own inputs",
            expected=f"tensors from forward({', '.join(model.inputs)}), as many as outputs has names",
            got=_cause_text(error),
        ) from error


def _answers(model: TorchModel, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The module's own answers, by output name, as numpy arrays."""
    torch = require_extra("torch", "torch")
    with _evaluating(model.module) as module, torch.no_grad():
        result = module(*inputs.values())
    if isinstance(result, Mapping):
        values = {str(name): value for name, value in result.items() if torch.is_tensor(value)}
    else:
        listed = [result] if torch.is_tensor(result) else [value for value in result if torch.is_tensor(value)]
        values = {f"output_{index}": value for index, value in enumerate(listed)}
    names = tuple(model.outputs) or tuple(values)
    if len(names) != len(values) or not values:
        raise ValueError(f"{len(values)} tensors for {len(names)} names")
    return {name: value.detach().cpu().numpy() for name, value in zip(names, values.values(), strict=True)}


@contextmanager
def _evaluating(module: Any) -> Iterator[Any]:
    """The callable of a module in evaluation mode; an exported program brings its own."""
    if _is_program(module):
        yield module.module()
        return
    training = module.training
    module.eval()
    try:
        yield module
    finally:
        module.train(training)


# ---- what PyTorch makes of it ----


def _export_dynamo(model: TorchModel, path: Path, names: Sequence[str], opset: int) -> None:
    torch = require_extra("torch", "torch")
    is_program = _is_program(model.module)
    shapes = None
    if model.batched and not is_program:
        batch = torch.export.Dim("batch")
        shapes = tuple({0: batch} for _ in model.inputs)
    weights = (*model.module.parameters(), *model.module.buffers())
    weights_bytes = sum(tensor.numel() * tensor.element_size() for tensor in weights)
    with _evaluating(model.module) as module:
        torch.onnx.export(
            model.module if is_program else module,
            () if is_program else tuple(model.inputs.values()),
            str(path),
            input_names=list(model.inputs),
            output_names=list(names),
            opset_version=opset,
            dynamic_shapes=shapes,
            dynamo=True,
            external_data=weights_bytes > _INLINE_BYTES,
            verbose=False,
        )


def _export_script(model: TorchModel, path: Path, names: Sequence[str], opset: int) -> None:
    torch = require_extra("torch", "torch")
    if _is_program(model.module):
        raise TypeError("an ExportedProgram has no TorchScript form")
    axes = {name: {0: "batch"} for name in (*model.inputs, *names)} if model.batched else None
    with _evaluating(model.module) as module:
        torch.onnx.export(
            module,
            tuple(model.inputs.values()),
            str(path),
            input_names=list(model.inputs),
            output_names=list(names),
            opset_version=min(opset, DEFAULT_OPSET),  # this exporter does not know the newest ones
            dynamic_axes=axes,
            dynamo=False,
        )


def _tidy(path: Path) -> None:
    """Take the exporter's notes off, which hold paths of this machine, and ask for no newer reader than the opset."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    graphs = [model.graph]
    nodes = [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            nodes += graph.node
            _remove_notes(graph, *graph.input, *graph.output, *graph.value_info, *graph.initializer)
        while nodes:
            node = nodes.pop()
            _remove_notes(node)
            graphs += subgraphs_of(node)
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True)
    onnx.save(model, str(path))


def _remove_notes(*noted: onnx.GraphProto | onnx.NodeProto | onnx.ValueInfoProto | onnx.TensorProto) -> None:
    for one in noted:
        one.ClearField("doc_string")
        one.ClearField("metadata_props")


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporters' words are about their own inner works; what counts is compared afterwards.

    Some are written by C++, past ``sys.stdout``, where ``--json`` must be alone.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    sys.stdout.flush()
    stdout = os.dup(1)
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            os.dup2(nowhere.fileno(), 1)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
        logging.disable(disabled)


def _cause_text(error: BaseException) -> str:
    """The first line of the innermost cause: what the exporters wrap around it is general advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


# ---- whether it is the same ----


def _objection(path: Path, model: TorchModel, names: Sequence[str], opset: int) -> str:
    """How an export differs from its module; empty when it does not."""
    import onnxruntime

    written = max(one.version for one in onnx_skeleton_from_path(path).opset_import if one.domain in {"", "ai.onnx"})
    if written > opset:
        return f"it needs opset {written}, above {opset}"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    takes = [node.name for node in session.get_inputs()]
    if takes != list(model.inputs):
        return f"it takes {', '.join(takes) or 'nothing'}"
    for what, inputs, expected in _trials(model):
        given = {name: tensor.detach().cpu().numpy() for name, tensor in inputs.items()}
        found = dict(zip(names, session.run(list(names), given), strict=True))
        for name, answer in expected.items():
            if (text := _difference(answer, found[name])) != "":
                return f"'{name}' {text} for {what}"
    return ""


def _trials(model: TorchModel) -> Iterator[tuple[str, Mapping[str, Any], dict[str, Any]]]:
    """Inputs with the module's answers: the examples, one row of them, and others for branches that those miss."""
    yield "the examples", model.inputs, _answers(model, model.inputs)
    if model.batched:
        row = {name: tensor[:1] for name, tensor in model.inputs.items()}
        yield "one row", row, _answers(model, row)
    negated = {name: -tensor if tensor.is_floating_point() else tensor for name, tensor in model.inputs.items()}
    try:
        answers = _answers(model, negated)
    except Exception:  # noqa: BLE001 - the module does not take such values, so they prove nothing
        return
    yield "the negated examples", negated, answers


def _difference(expected: Any, found: Any) -> str:
    if expected.shape != found.shape:
        return f"has the shape {found.shape} instead of {expected.shape}"
    if expected.dtype.kind != "f":
        return "" if np.array_equal(expected, found) else "differs"
    wanted, given = expected.astype(np.float64), found.astype(np.float64)
    same = (wanted == given) | (np.isnan(wanted) & np.isnan(given))
    norm = max(float(np.linalg.norm(wanted[np.isfinite(wanted)])), 1e-12)
    error = float(np.linalg.norm((given - wanted)[~same])) / norm
    return "" if error <= _RELATIVE_ERROR else f"has a relative error of {error:.3g}"
