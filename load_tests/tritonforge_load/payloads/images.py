"""Images of a folder as rows of an input."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tritonforge_client.extras import require_extra
from tritonforge_client.spec import TensorSpec
from tritonforge_generator.errors import SpecError
from tritonforge_load.campaign import InputSource
from tritonforge_load.payloads.dims import closed_dims

Layout: TypeAlias = Literal["NCHW", "NHWC"]
Say: TypeAlias = Callable[[str], None]

_SUFFIXES: Final = frozenset({".jpeg", ".jpg", ".png"})
_MODES: Final = {1: "L", 3: "RGB", 4: "RGBA"}
_SCALE: Final = 1 / 255
_SAY_EVERY_S: Final = 2.0
_TURN_EVERY_S, _TURN_S = 0.02, 0.001


@dataclass(frozen=True, slots=True)
class ImageRows:
    """The images of a folder, none of which has been read yet.

    Attributes:
        place: Start of error messages.
        files: The files, in the order of their names.
        shape: Shape of one row: that of an image, which may have leading dimensions of 1.
        layout: Axes of an image.
        dtype: Type of the input: uint8 or floating point.
        source: What is done to the pixels.
    """

    place: str
    files: tuple[Path, ...]
    shape: tuple[int, ...]
    layout: Layout
    dtype: np.dtype[Any]
    source: InputSource

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.files)

    @property
    def size_bytes(self) -> int:
        """Memory that they take when read."""
        return self.count * math.prod(self.shape) * self.dtype.itemsize

    def read(self, say: Say | None = None) -> NDArray[Any]:
        """Decode them all, one after the other: beside the rows, one image is in memory.

        In Locust's process everything else has its turn now and then, so that a worker goes on answering its master.
        Threads would not do there: locks are gevent's, on which threads can wait for ever.

        Args:
            say: Told every two seconds how far it is.

        Returns:
            Shape ``(count, *shape)``.

        Raises:
            SpecError: A file is no image.
            MissingExtraError: Pillow is not installed.
        """
        rows = np.empty((self.count, *self.shape), self.dtype)
        said_s = turned_s = time.perf_counter()
        for number, path in enumerate(self.files):
            pixels = self._values(self._pixels(path))
            rows[number] = (pixels.transpose(2, 0, 1) if self.layout == "NCHW" else pixels).reshape(self.shape)
            if say is not None and time.perf_counter() - said_s >= _SAY_EVERY_S:
                said_s = time.perf_counter()
                say(f"{self.place}: {number + 1:,} of {self.count:,} images are read")
            if time.perf_counter() - turned_s >= _TURN_EVERY_S:
                time.sleep(_TURN_S)  # no time at all would let the others go on, but not hear of what came in
                turned_s = time.perf_counter()
        return rows

    def _values(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        if self.dtype == np.uint8:
            return pixels
        scale = self.source.scale if self.source.scale is not None else _SCALE
        values = pixels * (np.float64 if self.dtype == np.float64 else np.float32)(scale)
        if self.source.mean is not None:
            values -= np.asarray(self.source.mean, values.dtype)
        if self.source.std is not None:
            values /= np.asarray(self.source.std, values.dtype)
        return values

    def _pixels(self, path: Path) -> NDArray[np.uint8]:
        """Height, width, channels of an image of the input's size."""
        pil: Any = require_extra("PIL.Image", "load")
        ops: Any = require_extra("PIL.ImageOps", "load")
        height, width, channels = _sizes(self.shape, self.layout)
        try:
            with pil.open(path) as image:
                if image.mode.startswith(("I", "F")):
                    raise SpecError(f"{self.place}: {path}", expected="8 bits a channel", got=f"mode {image.mode}")
                image.load()
                turned = ops.exif_transpose(image).convert(_MODES[channels])
                pixels = np.asarray(turned.resize((width, height), pil.Resampling.BILINEAR))
        except (OSError, ValueError, SyntaxError, pil.DecompressionBombError) as error:
            what = f"{self.place}: {path}: cannot be read as an image: {error}"
            raise SpecError(what, action="Write the file again, or take it out of the folder") from error
        return pixels.reshape(height, width, channels)


def image_rows(source: InputSource, tensor: TensorSpec, *, base: Path, place: str) -> ImageRows:
    """Find the images of a folder, and how they become rows of an input.

    Args:
        source: The folder and what is done to its images.
        tensor: Name, type and dims of the input.
        base: Folder that relative paths start from.
        place: Start of error messages.

    Raises:
        SpecError: There are none, or the input cannot hold images.
        MissingExtraError: Pillow is not installed.
    """
    require_extra("PIL", "load")
    shape = closed_dims(tensor, source, place=place)
    place = f"{place}: {tensor.name}"
    dtype = tensor.type.dtype if tensor.type.itemsize_bytes is not None else np.dtype(object)
    is_floating = tensor.datatype.startswith(("FP", "BF"))
    if not is_floating and dtype != np.uint8:
        raise SpecError(f"{place}: images", expected="an input of UINT8 or floating point", got=tensor.datatype)
    layout = _layout(shape, source.layout, place)
    for key in ("scale", "mean", "std"):
        if not is_floating and getattr(source, key) is not None:
            what = f"{place}.{key}: an input of UINT8 gets pixels as they are"
            raise SpecError(what, action="Remove it")
    channels = _sizes(shape, layout)[2]
    for key, values in (("mean", source.mean), ("std", source.std)):
        if values is not None and len(values) not in {1, channels}:
            raise SpecError(f"{place}.{key}", expected=f"{channels} values, one a channel", got=str(len(values)))
    return ImageRows(place, image_files(source, base=base, place=place), shape, layout, dtype, source)


def image_files(source: InputSource, *, base: Path, place: str) -> tuple[Path, ...]:
    """Find the images of a folder.

    Args:
        source: The folder, and how many of its images are taken.
        base: Folder that relative paths start from.
        place: Start of error messages.

    Returns:
        The files, in the order of their names.

    Raises:
        SpecError: There are none.
    """
    folder = base / str(source.images)
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())
    except OSError as error:
        raise SpecError(f"{place}: {folder}: {error.strerror}", action="Check the path of images:") from error
    if not found:
        raise SpecError(f"{place}: {folder}", expected="files .jpg, .jpeg or .png", got="none")
    return tuple(found[: source.limit])


def _layout(shape: tuple[int, ...], said: Layout | None, place: str) -> Layout:
    if len(shape) < 3 or any(size != 1 for size in shape[:-3]):
        raise SpecError(f"{place}: images", expected="an input of height, width and channels", got=f"dims {shape}")
    possible: list[Layout] = []
    if shape[-3] in _MODES:
        possible.append("NCHW")
    if shape[-1] in _MODES:
        possible.append("NHWC")
    if said is not None and said not in possible:
        raise SpecError(f"{place}.layout", expected=f"1, 3 or 4 channels in {said}", got=f"dims {shape}")
    if not possible:
        raise SpecError(f"{place}: images", expected="an input of 1, 3 or 4 channels", got=f"dims {shape}")
    if said is None and len(possible) > 1:
        raise SpecError(f"{place}: dims {shape} can be NCHW and NHWC", action="Say which with layout:")
    return said if said is not None else possible[0]


def _sizes(shape: tuple[int, ...], layout: Layout) -> tuple[int, int, int]:
    """Height, width and channels."""
    first, second, third = shape[-3:]
    return (second, third, first) if layout == "NCHW" else (first, second, third)
