"""Arrays of ``.npz`` and ``.npy`` files."""

from __future__ import annotations

import importlib.resources
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from tritonforge_generator.errors import SpecError
from tritonforge_load.campaign import ArraySource

_format: Any = np.lib.format  # its functions are not annotated
_READ_HEADER: Final = {1: _format.read_array_header_1_0, 2: _format.read_array_header_2_0}


@dataclass(frozen=True, slots=True)
class StoredArray:
    """An array in a file, of which only the head has been read.

    Attributes:
        path: The file.
        where: The file as the campaign names it.
        key: Name of the array in an ``.npz`` file; ``None`` in an ``.npy`` file.
        shape: Its shape, rows first.
        dtype: Its type.
    """

    path: Path
    where: str
    key: str | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def count(self) -> int:
        """How many rows it has."""
        return self.shape[0] if self.shape else 0

    @property
    def size_bytes(self) -> int:
        """Memory that it takes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> NDArray[Any]:
        """The array.

        Raises:
            SpecError: The file is damaged.
        """
        with _told(self.where), self.path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            array: NDArray[Any] = loaded if self.key is None else loaded[self.key]
            return np.ascontiguousarray(array)


def stored_array(source: ArraySource, *, base: Path, default_key: str) -> StoredArray:
    """Find an array and read its head.

    Args:
        source: Which.
        base: Folder that relative paths start from.
        default_key: Its name in an ``.npz`` file when ``source`` names none.

    Raises:
        SpecError: The file or the array is not there, or holds Python objects.
    """
    where = source.path
    with _told(where):
        path = path_of(source, base)
        with path.open("rb") as file:
            if file.read(len(_format.MAGIC_PREFIX)) == _format.MAGIC_PREFIX:
                file.seek(0)
                return StoredArray(path, where, None, *_head(file, where))
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            key = source.key if source.key is not None else default_key
            if key not in names:
                got = ", ".join(names) or "none"
                raise SpecError(f"{where}: array", expected=repr(key), got=got, action="Name one of them with key:")
            with archive.open(f"{key}.npy") as member:
                return StoredArray(path, where, key, *_head(member, where))


def path_of(source: ArraySource, base: Path) -> Path:
    """Where a file is.

    Args:
        source: Which.
        base: Folder that relative paths start from.

    Raises:
        ModuleNotFoundError: Its package is not installed.
    """
    if source.package is None:
        return base / str(source.file)
    package, _, inside = source.package.partition(":")
    return Path(str(importlib.resources.files(package).joinpath(inside)))


def _head(file: IO[bytes], where: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = _format.read_magic(file)
    if version[0] not in _READ_HEADER:
        raise ValueError(f"version {version[0]} of .npy is for structures, which no tensor is")
    shape, _, dtype = _READ_HEADER[version[0]](file)
    if dtype.hasobject:
        raise SpecError(
            f"{where}: array", expected="numbers or numpy text", got="Python objects", action="Store it as str"
        )
    return shape, dtype


@contextmanager
def _told(where: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise SpecError(f"{where}: no such package", action="Install it") from error
    except (OSError, ValueError, TypeError, KeyError, EOFError, BadZipFile) as error:
        what = f"{where}: cannot be read as .npz or .npy: {error}"
        raise SpecError(what, action="Check the path, or write the file again") from error
