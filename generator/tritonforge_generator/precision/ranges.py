"""The largest magnitude of every tensor inside a graph, over all calibration samples."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from tritonforge_generator.graph import OnnxSession, Samples
from tritonforge_generator.precision.graph_types import FLOAT, tensor_types
from tritonforge_generator.precision.model_file import saved

if TYPE_CHECKING:
    import onnx

INFINITE: Final = 1e38
"""Magnitudes from here on stand for infinity: attention masks are made with FP32's smallest number, -3.4e38."""
_CHUNK_ROWS: Final = 8


def ranges_from_samples(model: onnx.ModelProto, samples: Samples, *, batched: bool) -> dict[str, float]:
    """Run the graph on all samples and keep the largest magnitude of each FP32 tensor that a node makes or reads.

    The reduction to one number happens inside the graph, so that no intermediate tensor leaves it.

    Args:
        model: The FP32 graph.
        samples: What to run it on.
        batched: Whether a sample is one row of a batch.

    Returns:
        By tensor name. Values that are not finite, or beyond ``INFINITE``, do not count: 16 bits hold infinities too.
    """
    import onnx
    from onnx import helper, numpy_helper

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = _watchable(watched)
    for bound, number in (("__range_infinite", INFINITE), ("__range_zero", 0.0)):
        watched.graph.initializer.append(numpy_helper.from_array(np.array(number, np.float32), bound))
    for index, name in enumerate(names):
        size, usable, chosen = (f"__range_{part}_{index}" for part in ("size", "usable", "chosen"))
        watched.graph.node.extend(
            [
                helper.make_node("Abs", [name], [size]),
                helper.make_node("Less", [size, "__range_infinite"], [usable]),  # false for NaN
                helper.make_node("Where", [usable, size, "__range_zero"], [chosen]),
                helper.make_node("ReduceMax", [chosen], [f"__range_{index}"], keepdims=0),
            ]
        )
    del watched.graph.output[:]
    watched.graph.output.extend(
        helper.make_tensor_value_info(f"__range_{index}", FLOAT, []) for index in range(len(names))
    )
    largest = dict.fromkeys(names, 0.0)
    with tempfile.TemporaryDirectory(prefix="tritonforge-ranges-") as folder:
        session = OnnxSession(saved(watched, Path(folder) / "ranges.onnx"))
        for inputs in chunks(samples, batched=batched):
            for index, value in enumerate(session.run(inputs).values()):
                largest[names[index]] = max(largest[names[index]], float(value))
    return largest


def chunks(samples: Samples, *, batched: bool) -> Iterator[Mapping[str, npt.NDArray[Any]]]:
    """All samples once, several rows at a time where the graph takes batches."""
    if not batched:
        yield from (samples.one(index) for index in range(samples.count))
        return
    for start in range(0, samples.count, _CHUNK_ROWS):
        yield samples.batch(start, min(_CHUNK_ROWS, samples.count - start))


def _watchable(model: onnx.ModelProto) -> list[str]:
    types = tensor_types(model)
    made = [name for node in model.graph.node for name in node.output]
    given = [value.name for value in model.graph.input]
    return [name for name in dict.fromkeys((*given, *made)) if types.get(name) == FLOAT]
