"""Calibration data: inputs that show the ranges of numbers inside a graph, apart from those that judge it."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tritonforge_generator.errors import SpecError
from tritonforge_generator.graph import GraphTensor, SampleOptions, Samples, samples_from_options
from tritonforge_generator.graph.samples import checked_samples

_SCHEME: Final = "python:"
_DRAW_SEED_STEP: Final = 7919
"""Drawn calibration samples come from another seed than those that judge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Calibration samples and their fingerprint.

    Attributes:
        samples: The inputs.
        sha256: Hex digest over names, dtypes, shapes and values, wherever they came from.
    """

    samples: Samples
    sha256: str


def calibration_from_text(
    text: str | None, inputs: Sequence[GraphTensor], judging: Samples, *, batched: bool, seed: int = 0
) -> Calibration:
    """Load or draw calibration samples.

    Args:
        text: An ``.npz`` file, a folder with one ``.npy`` per input, ``python:package.module:function``, or ``None``
            to draw as many as judge.
        inputs: The graph's inputs.
        judging: The samples that verification uses; they may not be among these.
        batched: Whether a sample is one row of a batch.
        seed: Seed of the verification's draw.

    Raises:
        SpecError: They cannot be read, do not fit the inputs, or are the ones that verification uses.
    """
    if text is None:
        shapes = {name: array.shape[1:] for name, array in judging.arrays.items()}
        options = SampleOptions(seed=seed + _DRAW_SEED_STEP, shapes=shapes)
        samples = samples_from_options(inputs, options, batched=batched)
        return Calibration(samples=samples, sha256=_digest(samples))
    if text.startswith(_SCHEME):
        samples = _from_function(text, inputs, batched=batched)
    elif Path(text).is_dir():
        samples = _from_folder(Path(text), inputs, batched=batched)
    else:
        samples = samples_from_options(inputs, SampleOptions(path=Path(text)), batched=batched)
    used = _apart(samples, judging)
    return Calibration(samples=used, sha256=_digest(used))


def _from_folder(folder: Path, inputs: Sequence[GraphTensor], *, batched: bool) -> Samples:
    arrays = {}
    for tensor in inputs:
        path = folder / f"{tensor.name}.npy"
        if not path.is_file():
            raise SpecError(
                f"the calibration folder {folder} lacks input '{tensor.name}'",
                expected=path.name,
                got=", ".join(sorted(one.name for one in folder.glob("*.npy"))) or "no .npy file",
            )
        try:
            arrays[tensor.name] = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise SpecError(f"the samples in {path} cannot be read", expected="an .npy file", got=str(error)) from error
    return checked_samples(inputs, arrays, folder, batched=batched)


def _from_function(text: str, inputs: Sequence[GraphTensor], *, batched: bool) -> Samples:
    module_name, _, function_name = text.removeprefix(_SCHEME).partition(":")
    sys.path.insert(0, "")  # as `python -m` does: the user's own modules lie where the command runs
    try:
        rows = list(getattr(importlib.import_module(module_name), function_name)())
    except Exception as error:
        raise SpecError(
            f"the calibration function {text} does not work",
            expected="python:package.module:function, giving mappings of input name to array",
            got=f"{type(error).__name__}: {error}",
        ) from error
    finally:
        sys.path.remove("")
    return checked_samples(inputs, _stacked(rows, inputs, text), Path(text), batched=batched)


def _stacked(rows: Iterable[object], inputs: Sequence[GraphTensor], text: str) -> dict[str, npt.NDArray[Any]]:
    names = {tensor.name for tensor in inputs}
    mappings: list[Mapping[str, Any]] = []
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping) or set(row) != names:
            got = ", ".join(sorted(row)) if isinstance(row, Mapping) else type(row).__name__
            raise SpecError(
                f"sample {index} of {text} does not fit the graph", expected=", ".join(sorted(names)), got=got
            )
        mappings.append(row)
    if not mappings:
        raise SpecError(f"{text} gives no sample", expected="at least one mapping of input name to array", got="none")
    try:
        return {name: np.stack([np.asarray(row[name]) for row in mappings]) for name in sorted(names)}
    except ValueError as error:
        raise SpecError(
            f"the samples of {text} differ in shape", expected="one shape for each input", got=str(error)
        ) from error


def _apart(samples: Samples, judging: Samples) -> Samples:
    """Leave out samples that verification uses: a range seen there would flatter the verdict."""
    known = {_row_digest(judging, index) for index in range(judging.count)}
    own = [index for index in range(samples.count) if _row_digest(samples, index) not in known]
    if not own:
        raise SpecError(
            "all calibration samples are verification samples too",
            expected="others for precision.calibration.samples than for verify.samples",
            got=f"{samples.count} samples from {samples.origin}",
        )
    if len(own) == samples.count:
        return samples
    left_out = samples.count - len(own)
    return replace(
        samples,
        arrays={name: array[own] for name, array in samples.arrays.items()},
        origin=f"{samples.origin}, without {left_out} that verification uses",
    )


def _row_digest(samples: Samples, index: int) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(samples.arrays):
        digest.update(_bytes_of(np.asarray(samples.arrays[name][index])))
    return digest.digest()


def _digest(samples: Samples) -> str:
    digest = hashlib.sha256()
    for name in sorted(samples.arrays):
        array = samples.arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(_bytes_of(array))
    return digest.hexdigest()


def _bytes_of(array: npt.NDArray[Any]) -> bytes:
    """The values themselves; an array of strings holds addresses only."""
    return repr(array.tolist()).encode() if array.dtype == object else np.ascontiguousarray(array).tobytes()
