"""ONNX Runtime on the CPU: the reference that everything else is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tritonforge_client.extras import require_extra
from tritonforge_generator.errors import GraphError
from tritonforge_generator.graph.graph import GraphTensor

_ELEMENT_TYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
}
"""ONNX Runtime's element type names to Triton's. BF16 has no kernel inputs on the CPU and no numpy array."""

Arrays = Mapping[str, npt.NDArray[Any]]


class Session(Protocol):
    """Anything that answers like a graph: ONNX Runtime, a plan, a server."""

    def run(self, inputs: Arrays) -> Mapping[str, npt.NDArray[Any]]:
        """Run it once on arrays in full shape."""
        ...


class NamedSession(Session, Protocol):
    """A session that says what it takes, so that samples can be drawn for it."""

    @property
    def path(self) -> Path | str:
        """What messages call it."""
        ...

    @property
    def inputs(self) -> tuple[GraphTensor, ...]:
        """What each run takes."""
        ...


class OnnxSession:
    """An ONNX file loaded into ONNX Runtime's CPU provider.

    Weights in external files are mapped by ONNX Runtime itself; nothing here copies them.

    Args:
        path: The ``.onnx`` file.

    Raises:
        GraphError: ONNX Runtime cannot load it, or an input or output has a type that Triton cannot carry.
    """

    def __init__(self, path: Path) -> None:
        require_extra("onnxruntime", "generator")
        import onnxruntime

        self.path = path
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise GraphError(
                f"ONNX Runtime {onnxruntime.__version__} cannot load {path}",
                got=_first_line(error),
                action="Check the model with onnx.checker, or export it again with a lower opset.",
            ) from error
        self.inputs = tuple(self._tensor(node) for node in self._session.get_inputs())
        self.outputs = tuple(self._tensor(node) for node in self._session.get_outputs())

    def _tensor(self, node: Any) -> GraphTensor:
        kind, _, element = node.type.partition("(")
        datatype = _ELEMENT_TYPES.get(element.rstrip(")"))
        if kind != "tensor" or datatype is None:
            raise GraphError(
                f"tensor '{node.name}' of {self.path} has a type that Triton's ONNX Runtime backend cannot serve",
                expected=f"a tensor of {', '.join(_ELEMENT_TYPES)}",
                got=node.type,
                action="Export the model with a Cast (or without sequences and maps) at its inputs and outputs.",
            )
        if any(size == 0 for size in node.shape):
            raise GraphError(
                f"tensor '{node.name}' of {self.path} declares a size of zero",
                expected="sizes of at least 1, or symbols for sizes that vary",
                got=str(node.shape),
                action="Export the model with dynamic_axes naming that axis.",
            )
        shape = tuple(size if isinstance(size, (int, str)) else None for size in node.shape)
        return GraphTensor(name=node.name, datatype=datatype, shape=shape)

    def run(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Run the graph once.

        Args:
            inputs: One array for each input, full shape, dtype of the input (strings as object arrays of UTF-8 bytes).

        Returns:
            Every output by name; outputs of rank zero are zero-rank arrays, strings object arrays of bytes.

        Raises:
            GraphError: ONNX Runtime refused the inputs or failed in a node.
        """
        try:
            values = self._session.run(None, {name: _text_from_bytes(array) for name, array in inputs.items()})
        except Exception as error:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in inputs.items())
            raise GraphError(f"{self.path} does not run on {shapes}", got=_first_line(error)) from error
        return {tensor.name: _bytes_from_text(value) for tensor, value in zip(self.outputs, values, strict=True)}


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text != "" else type(error).__name__


def _text_from_bytes(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """ONNX Runtime's Python binding takes strings as ``str`` only."""
    if array.dtype != object:
        return array
    return np.array([item.decode() for item in array.ravel().tolist()], dtype=object).reshape(array.shape)


def _bytes_from_text(value: Any) -> npt.NDArray[Any]:
    array = np.asarray(value)
    if array.dtype != object and array.dtype.kind != "U":
        return array
    return np.array([str(item).encode() for item in array.ravel().tolist()], dtype=object).reshape(array.shape)
