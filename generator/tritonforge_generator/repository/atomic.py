"""The few system calls that make publishing atomic."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Final

from tritonforge_generator.errors import RepositoryError

_AT_FDCWD: Final = -100
_RENAME_NOREPLACE: Final = 1
_RENAME_EXCHANGE: Final = 2
_NO_SUPPORT: Final = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


def exchange(first: Path, second: Path) -> None:
    """Swap two folders in one step; nobody sees either missing.

    Source: ``renameat2(2)`` with ``RENAME_EXCHANGE`` (Linux 3.15; ext4, xfs, btrfs, tmpfs, overlayfs).

    Raises:
        RepositoryError: The file system cannot do it.
    """
    _rename(first, second, _RENAME_EXCHANGE)


def move_new(source: Path, target: Path) -> None:
    """Move a folder to a name that is not taken, in one step.

    Raises:
        RepositoryError: The name is taken, or the file system cannot do it.
    """
    _rename(source, target, _RENAME_NOREPLACE)


def _rename(source: Path, target: Path, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flags) == 0:
        return
    number = ctypes.get_errno()
    action = (
        "Publish to a local file system (ext4, xfs, btrfs) and copy from there."
        if number in _NO_SUPPORT
        else "Check the folder's permissions and that nothing else changes it."
    )
    raise RepositoryError(
        f"{target} was not published", expected="an atomic rename", got=os.strerror(number), action=action
    )


def sync_tree(root: Path) -> None:
    """Force a folder with all its files to the disk. What links lead to is not of the folder, or not there."""
    for folder, _, files in os.walk(root):
        for name in files:
            path = Path(folder) / name
            if not path.is_symlink():
                sync_path(path)
        sync_path(Path(folder))


def sync_path(path: Path) -> None:
    """Force one file or folder entry to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
