"""Files of a model folder beside ``config.pbtxt``: labels, and tensors as raw bytes."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tritonforge_client.core.bytes_codec import bytes_from_strings
from tritonforge_client.datatypes import BY_DATATYPE
from tritonforge_generator.errors import SpecError

_SAFE: Final = re.compile(r"(?!tensor\d+\Z)[A-Za-z0-9_][A-Za-z0-9_.-]*")  # tensor3 is what others are called
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
    """Read a tensor as the server reads it: row-major bytes without a header, each string behind its length.

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
            array = _array_from_npy(path)
            is_text = datatype == "BYTES" and array.dtype.kind in "SU"
            has_type = is_text or (known.numpy_name is not None and array.dtype == known.dtype)
            if not has_type or list(array.shape) != list(shape):
                raise SpecError(f"{at}: {path}", expected=expected, got=f"{array.dtype} {list(array.shape)}")
            return bytes_from_strings(array.ravel().tolist()) if is_text else np.ascontiguousarray(array).tobytes()
        data = path.read_bytes()
    except (EOFError, OSError, TypeError, ValueError, zipfile.BadZipFile) as error:
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


def _array_from_npy(path: Path) -> npt.NDArray[Any]:
    with path.open("rb") as file:
        array = np.load(file, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise TypeError("an archive of several arrays")
    return array


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
            text = given.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"{at}: {given} cannot be read", expected="UTF-8 text", got=str(error)) from error
        return text.removesuffix("\n").split("\n") if text != "" else []  # not at U+2028: the server does not either
    for label in given:
        if "\n" in label or "\r" in label:
            raise SpecError(at, expected="labels of one line", got=repr(label))
    return list(given)
