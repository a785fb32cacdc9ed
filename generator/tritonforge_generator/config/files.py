"""Files of a model folder beside ``config.pbtxt``: labels, and tensors as raw bytes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from tritonforge_client.datatypes import BY_DATATYPE
from tritonforge_generator.errors import SpecError

_SAFE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_LONGEST: Final = 100


def file_name(name: str, number: int, suffix: str) -> str:
    """A file name for a tensor: its own where that is a plain one, else its number.

    Args:
        name: The tensor's name.
        number: Its place among those that get a file.
        suffix: End of the file name.
    """
    plain = len(name) <= _LONGEST and _SAFE.fullmatch(name) is not None
    return (name if plain else f"tensor{number}") + suffix


def tensor_bytes(path: Path, datatype: str, shape: Sequence[int], *, at: str) -> bytes:
    """Read a tensor as the server reads it: row-major bytes without a header.

    Args:
        path: An ``.npy`` file, or such bytes.
        datatype: Triton's wire name of the type.
        shape: Every size.
        at: Where the spec names the file, for messages.

    Raises:
        SpecError: The file cannot be read or holds another tensor (rules W2 and S21).
    """
    known = BY_DATATYPE[datatype]
    expected = f"{datatype} {list(shape)}"
    try:
        if path.suffix == ".npy":
            array = np.load(path, allow_pickle=False)
            if array.dtype != known.dtype or list(array.shape) != list(shape):
                raise SpecError(f"{at}: {path}", expected=expected, got=f"{array.dtype} {list(array.shape)}")
            return np.ascontiguousarray(array).tobytes()
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise SpecError(f"{at}: {path} cannot be read", expected=expected, got=str(error)) from error
    item_bytes = known.itemsize_bytes
    size_bytes = None if item_bytes is None else math.prod(shape) * item_bytes
    if size_bytes is not None and len(data) != size_bytes:
        raise SpecError(
            f"{at}: {path}",
            expected=f"{size_bytes} bytes of {expected}",
            got=f"{len(data)} bytes",
            action="Write it with numpy: array.tofile(path), or numpy.save(path, array).",
        )
    return data


def label_lines(given: Path | Sequence[str], *, at: str) -> list[str]:
    """Labels from a list or a text file with one a line.

    Args:
        given: The list or the file.
        at: Where the spec names it, for messages.

    Raises:
        SpecError: The file cannot be read, or a label has several lines.
    """
    if isinstance(given, Path):
        try:
            return given.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"{at}: {given} cannot be read", expected="UTF-8 text", got=str(error)) from error
    for label in given:
        if len(label.splitlines()) > 1:
            raise SpecError(f"{at}", expected="labels of one line", got=repr(label))
    return list(given)
