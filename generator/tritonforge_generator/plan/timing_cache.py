"""Measured tactics, kept between builds: one file for each GPU model and TensorRT version."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tritonforge_generator.environment import user_cache_folder
from tritonforge_generator.plan.cuda import Gpu


def default_folder() -> Path:
    """Where caches are kept unless the user says another place."""
    return user_cache_folder() / "tritonforge" / "timing"


def cache_path(folder: Path, gpu: Gpu, tensorrt_version: str) -> Path:
    """The file for a GPU model and a TensorRT version; tactics do not carry over to others."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", gpu.name).strip("-").lower()
    return folder / f"{name}-sm{gpu.compute_capability.replace('.', '')}-tensorrt-{tensorrt_version}.cache"


def load_into(config: Any, path: Path) -> int:
    """Give a builder configuration what is known.

    Args:
        config: TensorRT's ``IBuilderConfig``.
        path: The cache's file; it need not exist.

    Returns:
        Bytes read; 0 for a new cache, also when TensorRT does not take the file.
    """
    known = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(known) if known else None
    if cache is not None and config.set_timing_cache(cache, False):
        return len(known)
    config.set_timing_cache(config.create_timing_cache(b""), False)
    return 0


def save_from(config: Any, path: Path) -> int:
    """Write what is known now, together with what other builds wrote meanwhile.

    Returns:
        Bytes written.
    """
    cache = config.get_timing_cache()
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.with_suffix(".lock")):
        if path.is_file():
            others = config.create_timing_cache(path.read_bytes())
            if others is not None:
                cache.combine(others, False)
        content = bytes(cache.serialize())
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise
    return len(content)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
