"""ONNX files: read without their weights, refused with a reason when something is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tritonforge_client.extras import require_extra
from tritonforge_generator.errors import SourceError
from tritonforge_generator.hashing import sha256_of_file
from tritonforge_generator.source.source_model import SourceFile, SourceModel

if TYPE_CHECKING:
    import onnx


def source_from_path(path: Path) -> SourceModel:
    """Open an ONNX model and account for every file that belongs to it.

    External data is located, measured and hashed in chunks, never loaded.

    Args:
        path: The ``.onnx`` file. External data lies where the model says, relative to the file's folder.

    Returns:
        The model with the SHA-256 of each of its files.

    Raises:
        SourceError: The file is missing, is no ONNX model or is truncated, or external data is missing, too short or
            outside the model's folder.
    """
    model = onnx_skeleton_from_path(path)
    needed = _external_data_needs(model)
    external = [_external_file(path, location, end_bytes) for location, end_bytes in sorted(needed.items())]
    return SourceModel(format="onnx", file=_source_file(path, path.name), external_data=tuple(external))


def onnx_skeleton_from_path(path: Path, *, keep_bytes: int = 0) -> onnx.ModelProto:
    """Read an ONNX file and drop the weights that are stored inline.

    Args:
        path: The ``.onnx`` file.
        keep_bytes: Tensors of at most this size keep their data, because they may be shapes.

    Returns:
        The model without tensor data: structure, names, types, shapes and the references to external data.

    Raises:
        SourceError: The file is missing or is no complete ONNX model.
    """
    require_extra("onnx", "generator")
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise SourceError(
            f"{path} cannot be read",
            expected="an ONNX file",
            got="a directory" if path.is_dir() else "no such file",
            action="Check the path.",
        )
    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise SourceError(
            f"{path} cannot be read",
            expected="a complete ONNX file",
            got=f"{path.stat().st_size} bytes that do not parse as one ({error})",
            action="The file is truncated or of another format; export or copy it again.",
        ) from error
    if model.ir_version == 0 or len(model.opset_import) == 0 or len(model.graph.output) == 0:
        raise SourceError(
            f"{path} is no ONNX model",
            expected="an IR version, an opset and a graph with outputs",
            got=f"{path.stat().st_size} bytes without them",
            action="The file is truncated or of another format; export or copy it again.",
        )
    for tensor in _tensors(model):
        if not _is_external(tensor) and len(tensor.raw_data) > keep_bytes:
            tensor.ClearField("raw_data")
    return model


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model: initializers and node attributes, in subgraphs and local functions too."""
    graphs = [model.graph]
    nodes = [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield sparse.values
                yield sparse.indices
            nodes.extend(graph.node)
        while nodes:
            node = nodes.pop()
            graphs.extend(subgraphs_of(node))
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


def subgraphs_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs inside an If, Loop, Scan or the like, those inside them left out."""
    for attribute in node.attribute:
        if attribute.HasField("g"):  # asking an attribute for a graph that it lacks, and changing that, would add one
            yield attribute.g
        yield from attribute.graphs


def _is_external(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_location == type(tensor).EXTERNAL)


def _external_data_needs(model: onnx.ModelProto) -> dict[str, int]:
    """Map each external location to the number of bytes that the model reads from it."""
    needed: dict[str, int] = {}
    for tensor in _tensors(model):
        if not _is_external(tensor):
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        end_bytes = int(entries.get("offset", "0") or 0) + int(entries.get("length", "0") or 0)
        needed[location] = max(needed.get(location, 0), end_bytes)
    return needed


def _external_file(model_path: Path, location: str, end_bytes: int) -> SourceFile:
    pure = PurePosixPath(location)
    if location == "" or pure.is_absolute() or ".." in pure.parts:
        raise SourceError(
            f"{model_path} refers to external data outside its folder",
            expected="a relative location without '..'",
            got=repr(location),
            action="Save the model again with its external data beside it.",
        )
    path = model_path.parent / pure
    if not path.is_file():
        raise SourceError(
            f"{model_path} keeps weights in an external data file that is missing",
            expected=str(path),
            got="no such file",
            action="Copy it beside the model, or export the model again.",
        )
    if path.stat().st_size < end_bytes:
        raise SourceError(
            f"the external data file {path} is truncated",
            expected=f"at least {end_bytes} bytes",
            got=f"{path.stat().st_size}",
            action="Copy it again from where the model was exported.",
        )
    return _source_file(path, location)


def _source_file(path: Path, location: str) -> SourceFile:
    return SourceFile(path=path, location=location, size_bytes=path.stat().st_size, sha256=sha256_of_file(path))
