"""Where INT8 and FP8 cut an activation off: the magnitude that becomes the type's largest number."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from tritonforge_generator.graph import OnnxSession, Samples
from tritonforge_generator.precision.graph_types import FLOAT
from tritonforge_generator.precision.model_file import saved
from tritonforge_generator.precision.ranges import chunks, ranges_from_samples
from tritonforge_generator.spec import CalibrationOptions

if TYPE_CHECKING:
    import onnx

Counts = npt.NDArray[np.float64]

_BINS: Final = 2048
_LEVELS: Final = 128
_STEP: Final = 8  # bins between two thresholds that Entropy weighs: 0.4 % of the range
_TINY: Final = 1e-10


def thresholds_from_samples(
    model: onnx.ModelProto,
    names: Collection[str],
    samples: Samples,
    options: CalibrationOptions,
    *,
    batched: bool,
) -> dict[str, float]:
    """Run the graph on all samples and choose a threshold for every activation.

    Entropy and Percentile run it twice: the largest magnitudes of the first run bound the histograms of the second, so
    that a loud sample at the end costs no more than one at the start.

    Args:
        model: The FP32 graph.
        names: The activations; those in other types than FP32 have no threshold.
        samples: All of them are run.
        options: How a threshold is chosen.
        batched: Whether a sample is one row of a batch.

    Returns:
        By tensor name, a magnitude; 0 where only zeros were seen.
    """
    seen = ranges_from_samples(model, samples, batched=batched)
    largest = {name: seen[name] for name in names if name in seen}
    if options.method == "MinMax":
        return largest
    thresholds = {}
    for name, counts in _histograms(model, largest, samples, batched=batched).items():
        if not counts.any():
            share = 1.0
        elif options.method == "Percentile":
            share = _percentile_share(counts, options.percentile)
        else:
            share = _entropy_share(counts)
        thresholds[name] = largest[name] * share
    return thresholds


def _histograms(
    model: onnx.ModelProto, largest: Mapping[str, float], samples: Samples, *, batched: bool
) -> dict[str, Counts]:
    """Count magnitudes in bins from 0 to each tensor's largest; zeros themselves are exact in every type."""
    import onnx
    from onnx import helper

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    outputs = {name: f"__size_{index}" for index, name in enumerate(largest)}
    watched.graph.node.extend(helper.make_node("Abs", [name], [output]) for name, output in outputs.items())
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_tensor_value_info(one, FLOAT, None) for one in outputs.values())
    histograms: dict[str, Counts] = {name: np.zeros(_BINS) for name in largest}
    with tempfile.TemporaryDirectory(prefix="tritonforge-histograms-") as folder:
        session = OnnxSession(saved(watched, Path(folder) / "histograms.onnx"))
        for inputs in chunks(samples, batched=batched):
            found = session.run(inputs)
            for name, output in outputs.items():
                histograms[name] += _counted(found[output], largest[name])
    return histograms


def _counted(sizes: npt.NDArray[Any], largest: float) -> Counts:
    positive = sizes[(sizes > 0) & (sizes <= largest)]
    return np.histogram(positive, _BINS, range=(0.0, largest or 1.0))[0].astype(np.float64)


def _percentile_share(counts: Counts, percentile: float) -> float:
    below = np.cumsum(counts) / np.sum(counts)
    return float(np.searchsorted(below, percentile / 100) + 1) / _BINS


def _entropy_share(counts: Counts) -> float:
    """The threshold that loses the least information (Migacz, 8-bit Inference with TensorRT, GTC 2017)."""
    ends = range(_LEVELS, _BINS + 1, _STEP)
    return min(ends, key=lambda end: _divergence(counts, end)) / _BINS


def _divergence(counts: Counts, end: int) -> float:
    """Kullback-Leibler divergence of the values cut off at ``end`` bins and the same in ``_LEVELS`` steps."""
    reference = counts[:end].copy()
    reference[-1] += np.sum(counts[end:])
    filled = reference > 0
    level = np.arange(end) * _LEVELS // end
    mass = np.bincount(level, counts[:end], _LEVELS)
    places = np.bincount(level, filled, _LEVELS)
    if not mass.any():
        return np.inf
    coarse = mass[level[filled]] / places[level[filled]]
    exact = reference[filled] / np.sum(reference)
    return float(np.sum(exact * np.log(exact / np.maximum(coarse / np.sum(coarse), _TINY))))
