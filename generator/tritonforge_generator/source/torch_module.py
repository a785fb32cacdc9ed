"""PyTorch modules as sources: exported to ONNX, and compared with the module before anybody uses the export."""

from __future__ import annotations

import importlib
import inspect
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from tritonforge_client.extras import require_extra
from tritonforge_generator.errors import SourceError
from tritonforge_generator.source.onnx_file import onnx_skeleton_from_path, source_from_path
from tritonforge_generator.source.source_model import SourceModel

SCHEME: Final = "torch:"
DEFAULT_OPSET: Final = 17
"""Opset of an export when nobody asks for another: ONNX Runtime and TensorRT from 8.6 on take it."""
_RELATIVE_ERROR: Final = 1e-4
"""Allowed |export - module| / |module|: both compute in FP32 and sum in another order."""


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
    module is taken. A module is put into evaluation mode for it, and back.

    Args:
        reference: ``torch:package.module:factory``; the factory takes nothing and returns a ``TorchModel``.
        folder: Where the ONNX file goes.
        opset: Newest ONNX opset that it may use.

    Raises:
        SourceError: The factory does not work, or no export answers like the module.
        MissingExtraError: PyTorch is not installed.
    """
    require_extra("torch", "torch")
    model = _model_from(reference)
    expected = _answers(model, model.inputs)
    names = tuple(model.outputs) or tuple(expected)
    path = folder / f"{reference.rpartition(':')[2]}.onnx"
    reasons = []
    for exporter in (_export_dynamo, _export_script):
        try:
            with _quiet():
                exporter(model, path, names, opset)
            objection = _objection(path, model, names, opset)
        except Exception as error:  # noqa: BLE001 - exporters raise whatever they like, and the other one may do better
            objection = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        if objection == "":
            return source_from_path(path)
        reasons.append(f"{exporter.__name__.removeprefix('_export_')}: {objection}")
    raise SourceError(
        f"{reference} cannot be exported to ONNX",
        expected="an export that answers like the module",
        got="; ".join(reasons),
        action="Export it yourself and give the .onnx file, or simplify what the messages name.",
    )


def _model_from(reference: str) -> TorchModel:
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
    return model


def _answers(model: TorchModel, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The module's own answers, by output name, as numpy arrays."""
    import torch

    with _evaluating(model.module) as module, torch.no_grad():
        result = module(*inputs.values())
    if isinstance(result, Mapping):
        values = {str(name): value for name, value in result.items() if torch.is_tensor(value)}
    else:
        listed = [result] if torch.is_tensor(result) else [value for value in result if torch.is_tensor(value)]
        values = {f"output_{index}": value for index, value in enumerate(listed)}
    arrays = {name: value.detach().cpu().numpy() for name, value in values.items()}
    return dict(zip(model.outputs or arrays, arrays.values(), strict=True))


@contextmanager
def _evaluating(module: Any) -> Iterator[Any]:
    """The callable of a module in evaluation mode; an exported program brings its own."""
    if hasattr(module, "graph_module"):
        yield module.module()
        return
    training = module.training
    module.eval()
    try:
        yield module
    finally:
        module.train(training)


def _export_dynamo(model: TorchModel, path: Path, names: Sequence[str], opset: int) -> None:
    import torch

    with _evaluating(model.module) as module:
        program = model.module if hasattr(model.module, "graph_module") else None
        shapes = None
        if program is None and model.batched:
            batch = torch.export.Dim("batch")
            shapes = tuple({0: batch} for _ in model.inputs)
        torch.onnx.export(
            program or module,
            () if program is not None else tuple(model.inputs.values()),
            str(path),
            input_names=list(model.inputs),
            output_names=list(names),
            opset_version=opset,
            dynamic_shapes=shapes,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _export_script(model: TorchModel, path: Path, names: Sequence[str], opset: int) -> None:
    import torch

    if hasattr(model.module, "graph_module"):
        raise TypeError("an ExportedProgram has no TorchScript form")
    axes = {name: {0: "batch"} for name in (*model.inputs, *names)} if model.batched else None
    with _evaluating(model.module) as module:
        arguments = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
        torch.onnx.export(
            module,
            tuple(model.inputs.values()),
            str(path),
            input_names=list(model.inputs),
            output_names=list(names),
            opset_version=opset,
            dynamic_axes=axes,
            **arguments,
        )


def _objection(path: Path, model: TorchModel, names: Sequence[str], opset: int) -> str:
    """How an export differs from its module; empty when it does not. Batches are also tried with one row."""
    import onnxruntime

    written = max(one.version for one in onnx_skeleton_from_path(path).opset_import if one.domain in {"", "ai.onnx"})
    if written > opset:
        return f"it needs opset {written}"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    takes = [node.name for node in session.get_inputs()]
    if takes != list(model.inputs):
        return f"it takes {', '.join(takes)}"
    trials = [dict(model.inputs)]
    if model.batched:
        trials.append({name: tensor[:1] for name, tensor in model.inputs.items()})
    for inputs in trials:
        expected = _answers(model, inputs)
        given = {name: tensor.detach().cpu().numpy() for name, tensor in inputs.items()}
        found = dict(zip(names, session.run(list(names), given), strict=True))
        for name, answer in expected.items():
            if (text := _difference(answer, found[name])) != "":
                return f"'{name}' {text}"
    return ""


def _difference(expected: Any, found: Any) -> str:
    if expected.shape != found.shape:
        return f"has the shape {found.shape} instead of {expected.shape}"
    if expected.dtype.kind != "f":
        return "" if np.array_equal(expected, found) else "differs"
    norm = float(np.linalg.norm(expected.astype(np.float64)))
    gap = float(np.linalg.norm(found.astype(np.float64) - expected.astype(np.float64)))
    return "" if gap <= _RELATIVE_ERROR * max(norm, 1e-12) else f"has a relative error of {gap / max(norm, 1e-12):.3g}"


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporters' warnings are about their own inner works; what counts is compared afterwards."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
