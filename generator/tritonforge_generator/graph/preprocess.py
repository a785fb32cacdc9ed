"""Image preprocessing as the first nodes of a graph, so that clients send pixels and the GPU does the rest.

The new input has the old one's name. TensorRT takes a uint8 input only when a Cast reads it, so the Cast comes first.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from tritonforge_client.extras import require_extra
from tritonforge_generator.errors import GraphError
from tritonforge_generator.source.onnx_file import subgraphs_of
from tritonforge_generator.spec import PreprocessOptions

if TYPE_CHECKING:
    import onnx

_FLOAT: Final = 1  # TensorProto.FLOAT
_UINT8: Final = 2  # TensorProto.UINT8
_RESIZE_OPSET: Final = 11


def preprocessed_model(path: Path, options: PreprocessOptions, folder: Path) -> Path:
    """Write a graph that begins with preprocessing.

    Args:
        path: The network; it is only read.
        options: What is done to an image.
        folder: Where the new file goes, with copies of the external data it refers to.

    Returns:
        The new file, under the old one's name.

    Raises:
        GraphError: The network has no such image input, or the options do not fit it.
    """
    require_extra("onnx", "generator")
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    value = _image_input(model, options, path)
    size = _network_size(value, path)
    _check_channels(options, size[0], path)
    _require_no_output(model, value.name, path)
    nodes, weights = _nodes(model, value.name, options, size)
    _rename_input(model.graph.node, value.name, nodes[-1].output[0])
    original = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *original])
    model.graph.initializer.extend(weights)
    _set_input(value, options, size)
    del model.graph.value_info[:]
    target = folder / path.name
    onnx.save(model, str(target))
    for location in _external_locations(model):
        (folder / location).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path.parent / location, folder / location)
    return target


def preprocessed_array(
    pixels: npt.NDArray[Any], options: PreprocessOptions, size: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """The same in numpy: what the network would have been given.

    Args:
        pixels: Images as clients send them, (batch, height, width, channels) or (batch, channels, height, width).
        options: What is done to them.
        size: Height and width that the network takes.

    Returns:
        Images in (batch, channels, height, width).
    """
    images = pixels.astype(np.float32)
    if options.layout == "NHWC":
        images = images.transpose(0, 3, 1, 2)
    if options.reverse_channels:
        images = images[:, ::-1]
    for axis, target in zip((2, 3), size, strict=True):
        if images.shape[axis] != target:
            images = _resized_axis(images, axis, target)
    channels = images.shape[1]
    factor, offset = _affine(options, channels)
    scaled = images * factor.reshape(1, -1, 1, 1) + offset.reshape(1, -1, 1, 1)
    result: npt.NDArray[np.float32] = np.asarray(scaled, np.float32)
    return result


def _resized_axis(images: npt.NDArray[np.float32], axis: int, target: int) -> npt.NDArray[np.float32]:
    """Linear interpolation between pixel centres (ONNX Resize: ``linear``, ``half_pixel``)."""
    source = images.shape[axis]
    place = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, source - 1)
    shape = [1, 1, 1, 1]
    shape[axis] = target
    weight = (place - low).astype(np.float32).reshape(shape)
    lower, upper = np.take(images, low, axis), np.take(images, high, axis)
    return np.asarray(lower + (upper - lower) * weight, np.float32)


def _affine(options: PreprocessOptions, channels: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Scale, mean and deviation as one factor and one offset a channel."""
    mean = np.array(options.mean or [0.0] * channels, np.float64)
    deviation = np.array(options.std or [1.0] * channels, np.float64)
    return (options.scale / deviation * np.ones(channels)).astype(np.float32), (-mean / deviation).astype(np.float32)


def _image_input(model: onnx.ModelProto, options: PreprocessOptions, path: Path) -> onnx.ValueInfoProto:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: value for value in model.graph.input if value.name not in weights}
    images = [
        name
        for name, value in inputs.items()
        if len(value.type.tensor_type.shape.dim) == 4 and value.type.tensor_type.elem_type == _FLOAT
    ]
    name = options.input or (images[0] if len(images) == 1 else "")
    if name not in images:
        raise GraphError(
            f"{path.name} has no image input to preprocess for",
            expected=f"preprocess.input to be one FP32 input of four axes ({', '.join(images) or 'there is none'})",
            got=options.input or f"{len(images)} such inputs",
        )
    return inputs[name]


def _network_size(value: onnx.ValueInfoProto, path: Path) -> tuple[int, int, int]:
    dims = value.type.tensor_type.shape.dim
    sizes = tuple(dim.dim_value for dim in dims[1:])
    if any(size < 1 for size in sizes):
        raise GraphError(
            f"the image size of '{value.name}' in {path.name} is not fixed",
            expected="channels, height and width as numbers",
            got=str([dim.dim_param or dim.dim_value for dim in dims]),
            action="Export the model with only the batch dynamic.",
        )
    channels, height, width = sizes
    return channels, height, width


def _check_channels(options: PreprocessOptions, channels: int, path: Path) -> None:
    for name, values in (("mean", options.mean), ("std", options.std)):
        if values and len(values) != channels:
            raise GraphError(
                f"preprocess.{name} does not fit {path.name}", expected=f"{channels} values", got=str(len(values))
            )


def _nodes(
    model: onnx.ModelProto, name: str, options: PreprocessOptions, size: tuple[int, int, int]
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    from onnx import helper, numpy_helper

    channels, height, width = size
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    prefix = _free_prefix(model)
    last = name

    def add(operator: str, *constants: npt.NDArray[Any] | None, **attributes: Any) -> None:
        nonlocal last
        names = [last]
        for index, constant in enumerate(constants):
            names.append(f"{prefix}{operator}/{index}" if constant is not None else "")
            if constant is not None:
                weights.append(numpy_helper.from_array(constant, names[-1]))
        last = f"{prefix}{operator}"
        nodes.append(helper.make_node(operator, names, [last], name=last, **attributes))

    if options.dtype == "uint8":
        add("Cast", to=_FLOAT)
    if options.layout == "NHWC":
        add("Transpose", perm=[0, 3, 1, 2])
    if options.reverse_channels:
        add("Gather", np.arange(channels - 1, -1, -1, dtype=np.int64), axis=1)
    if options.resize is not None and options.resize != (height, width):
        _require_resize(model)
        scales = np.array([1, 1, height / options.resize[0], width / options.resize[1]], np.float32)
        add("Resize", None, scales, mode="linear", coordinate_transformation_mode="half_pixel")
    factor, offset = _affine(options, channels)
    add("Mul", factor.reshape(1, channels, 1, 1))
    if np.any(offset):
        add("Add", offset.reshape(1, channels, 1, 1))
    return nodes, weights


def _free_prefix(model: onnx.ModelProto) -> str:
    """A prefix that no tensor and no node of the network begins with."""
    graph = model.graph
    names = {name for node in graph.node for name in (node.name, *node.input, *node.output)}
    names |= {tensor.name for tensor in graph.initializer} | {value.name for value in graph.output}
    prefix = "preprocess/"
    while any(name.startswith(prefix) for name in names):
        prefix = f"_{prefix}"
    return prefix


def _rename_input(nodes: Iterable[onnx.NodeProto], name: str, target: str) -> None:
    """Let nodes, and their subgraphs, read another tensor."""
    for node in nodes:
        node.input[:] = [target if one == name else one for one in node.input]
        for graph in subgraphs_of(node):
            _rename_input(graph.node, name, target)


def _require_no_output(model: onnx.ModelProto, name: str, path: Path) -> None:
    if any(value.name == name for value in model.graph.output):
        raise GraphError(
            f"the image input '{name}' of {path.name} is also an output",
            expected="an input that only nodes read, because clients would get back their own pixels",
            got=f"'{name}' among the outputs",
            action="Export the model without that output.",
        )


def _require_resize(model: onnx.ModelProto) -> None:
    opset = max((one.version for one in model.opset_import if one.domain in {"", "ai.onnx"}), default=0)
    if opset < _RESIZE_OPSET:
        raise GraphError(
            "preprocess.resize needs a newer opset",
            expected=f"opset {_RESIZE_OPSET} or later",
            got=str(opset),
            action="Export the model with opset_version=17.",
        )


def _set_input(value: onnx.ValueInfoProto, options: PreprocessOptions, size: tuple[int, int, int]) -> None:
    channels, height, width = size
    height, width = options.resize or (height, width)
    tensor = value.type.tensor_type
    tensor.elem_type = _UINT8 if options.dtype == "uint8" else _FLOAT
    shape = (height, width, channels) if options.layout == "NHWC" else (channels, height, width)
    for dim, length in zip(tensor.shape.dim[1:], shape, strict=True):
        dim.dim_value = length


def _external_locations(model: onnx.ModelProto) -> set[str]:
    external = type(model.graph.initializer.add()).EXTERNAL
    del model.graph.initializer[-1]
    return {
        entry.value
        for tensor in model.graph.initializer
        if tensor.data_location == external
        for entry in tensor.external_data
        if entry.key == "location"
    }


def image_size(path: Path, options: PreprocessOptions) -> tuple[str, tuple[int, int]]:
    """Name of a network's image input, and the height and width that it takes."""
    require_extra("onnx", "generator")
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    value = _image_input(model, options, path)
    _, height, width = _network_size(value, path)
    return value.name, (height, width)
