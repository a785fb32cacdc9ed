"""The only reader of the process environment: one function a variable."""

from __future__ import annotations

import os
from pathlib import Path


def inherited() -> dict[str, str]:
    """Return a copy of all variables, for a child process."""
    return dict(os.environ)


def library_search_path() -> str:
    """Return ``LD_LIBRARY_PATH``: folders of shared libraries, separated by colons; empty when unset."""
    return os.environ.get("LD_LIBRARY_PATH", "")


def program_search_path() -> str:
    """Return ``PATH``: folders of programs, separated by colons; empty when unset."""
    return os.environ.get("PATH", "")


def user_cache_folder() -> Path:
    """Return ``XDG_CACHE_HOME``, or ``~/.cache`` when unset (XDG base directory specification)."""
    folder = os.environ.get("XDG_CACHE_HOME", "")
    return Path(folder) if folder != "" else Path.home() / ".cache"
