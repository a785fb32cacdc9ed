"""Inputs to prove a model with: given by the user, or drawn from a seed."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonforge_client.datatypes import BY_DATATYPE
from tritonforge_generator.errors import SpecError
from tritonforge_generator.graph.graph import GraphTensor
from tritonforge_generator.hashing import sha256_of_file

_SAMPLE_COUNT = 8
_LARGEST_SAMPLE_BYTES = 1 << 30
FALLBACK_SIZES = (16, 64, 224, 1)
"""Sizes tried for dynamic axes that the user says nothing about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleOptions:
    """Where samples come from.

    Attributes:
        path: An ``.npz`` file with one array per input and a leading axis of samples; ``None`` draws them.
        seed: Seed of the draw.
        shapes: Sizes for dynamic axes: by input name, the shape of one sample as in ``dims``.
    """

    path: Path | None = None
    seed: int = 0
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """A pool of input rows.

    Attributes:
        arrays: By input name, samples on the first axis.
        origin: Where they come from, for the report.
    """

    arrays: Mapping[str, npt.NDArray[Any]]
    origin: str

    @property
    def count(self) -> int:
        """Number of samples."""
        return min((array.shape[0] for array in self.arrays.values()), default=0)

    def batch(self, start: int, size: int) -> dict[str, npt.NDArray[Any]]:
        """Rows ``start`` to ``start + size`` on a leading batch axis, wrapping around at the end."""
        rows = np.arange(start, start + size) % self.count
        return {name: array[rows] for name, array in self.arrays.items()}

    def one(self, index: int) -> dict[str, npt.NDArray[Any]]:
        """One sample without a batch axis, for models that take shapes in full."""
        return {name: np.asarray(array[index % self.count]) for name, array in self.arrays.items()}


def samples_from_options(
    inputs: Sequence[GraphTensor], options: SampleOptions, *, batched: bool, fallback_size: int = FALLBACK_SIZES[0]
) -> Samples:
    """Load or draw samples for a graph.

    Floats are drawn from a normal distribution, bytes (pixels) evenly, other integers from {0, 1} (valid as an
    index into any table of two rows), booleans evenly, strings as decimal digits.

    Args:
        inputs: The graph's inputs.
        options: Where samples come from.
        batched: Whether the first axis of each input is the batch and so not part of a sample.
        fallback_size: Size of dynamic axes that ``options.shapes`` does not give.

    Raises:
        SpecError: The file or a shape does not fit the inputs.
    """
    if options.path is not None:
        return _samples_from_npz(inputs, options.path, batched=batched)
    unknown = sorted(set(options.shapes) - {tensor.name for tensor in inputs})
    if unknown:
        raise SpecError(
            "verify.shapes names an input that the graph lacks",
            expected=f"one of {', '.join(tensor.name for tensor in inputs)}",
            got=", ".join(unknown),
        )
    random = np.random.default_rng(options.seed)
    symbols: dict[str, int] = {}
    arrays = {}
    for tensor in inputs:
        shape = _sample_shape(tensor, options.shapes.get(tensor.name), symbols, fallback_size, batched=batched)
        size_bytes = _SAMPLE_COUNT * math.prod(shape) * (BY_DATATYPE[tensor.datatype].itemsize_bytes or 8)
        if size_bytes > _LARGEST_SAMPLE_BYTES:
            raise SpecError(
                f"samples of input '{tensor.name}' would take {size_bytes} bytes",
                expected=f"at most {_LARGEST_SAMPLE_BYTES}",
                got=f"{_SAMPLE_COUNT} samples of shape {shape}",
                action="Give smaller ones with verify.samples (an .npz file) or verify.shapes.",
            )
        arrays[tensor.name] = _draw(random, tensor.datatype, (_SAMPLE_COUNT, *shape))
    return Samples(arrays=arrays, origin=f"{_SAMPLE_COUNT} drawn with seed {options.seed}")


def _sample_shape(
    tensor: GraphTensor, given: Sequence[int] | None, symbols: dict[str, int], fallback_size: int, *, batched: bool
) -> tuple[int, ...]:
    declared = tensor.shape[1:] if batched else tensor.shape
    if given is not None:
        fits = len(given) == len(declared) and all(
            size >= 1 and (not isinstance(wanted, int) or wanted == size)
            for wanted, size in zip(declared, given, strict=False)
        )
        if not fits:
            raise SpecError(
                f"verify.shapes does not fit input '{tensor.name}'", expected=str(list(declared)), got=str(list(given))
            )
        symbols.update({name: size for name, size in zip(declared, given, strict=True) if isinstance(name, str)})
        return tuple(given)
    return tuple(
        size if isinstance(size, int) else fallback_size if size is None else symbols.setdefault(size, fallback_size)
        for size in declared
    )


def _draw(random: np.random.Generator, datatype: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    if datatype == "BYTES":
        digits = random.integers(0, 10, shape)
        return np.array([str(digit).encode() for digit in digits.ravel()], dtype=object).reshape(shape)
    dtype = BY_DATATYPE[datatype].dtype
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    if datatype == "UINT8":  # pixels
        return random.integers(0, 256, shape).astype(dtype)
    return random.integers(0, 2, shape).astype(dtype)


def _samples_from_npz(inputs: Sequence[GraphTensor], path: Path, *, batched: bool) -> Samples:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {tensor.name: archive[tensor.name] for tensor in inputs}
        digest = sha256_of_file(path)
    except KeyError as error:
        raise SpecError(
            f"the samples in {path} lack an input",
            expected=f"arrays named {', '.join(tensor.name for tensor in inputs)}",
            got=str(error.args[0]),
            action="Write them with numpy.savez(path, **arrays).",
        ) from error
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise SpecError(f"the samples in {path} cannot be read", expected="an .npz file", got=str(error)) from error
    samples = checked_samples(inputs, arrays, path, batched=batched)
    return replace(samples, origin=f"{samples.count} from {path.name} (sha256 {digest[:12]})")


def checked_samples(
    inputs: Sequence[GraphTensor], arrays: Mapping[str, npt.NDArray[Any]], path: Path, *, batched: bool
) -> Samples:
    """Samples from arrays that somebody gave.

    Args:
        inputs: The graph's inputs.
        arrays: One for each input, samples on the first axis.
        path: Where they came from.
        batched: Whether the first axis of each input is the batch and so not part of a sample.

    Raises:
        SpecError: They do not fit the inputs, or differ in number.
    """
    counts = {name: (array.shape[0] if array.ndim > 0 else 0) for name, array in arrays.items()}
    checked = {tensor.name: _checked(tensor, arrays[tensor.name], path, batched=batched) for tensor in inputs}
    if len(set(counts.values())) > 1 or min(counts.values(), default=0) == 0:
        raise SpecError(
            f"the samples in {path} differ in number",
            expected="the same leading axis, of at least 1, for every input",
            got=str(counts),
        )
    return Samples(arrays=checked, origin=f"{min(counts.values())} from {path.name}")


def _checked(tensor: GraphTensor, array: npt.NDArray[Any], path: Path, *, batched: bool) -> npt.NDArray[Any]:
    if tensor.datatype == "BYTES" and array.dtype.kind in "SU":
        encoded = [item if isinstance(item, bytes) else str(item).encode() for item in array.ravel().tolist()]
        array = np.array(encoded, dtype=object).reshape(array.shape)
    dtype = BY_DATATYPE[tensor.datatype].dtype
    declared = tensor.shape[1:] if batched else tensor.shape
    shape = array.shape[1:]
    fits = len(shape) == len(declared) and all(
        not isinstance(wanted, int) or wanted == size for wanted, size in zip(declared, shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        raise SpecError(
            f"the samples of input '{tensor.name}' in {path} do not fit the graph",
            expected=f"{dtype} (samples, {', '.join(str(size) for size in declared)})",
            got=f"{array.dtype} {array.shape}",
        )
    return array
