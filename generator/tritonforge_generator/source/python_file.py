"""Models of Triton's Python backend: a file with the class ``TritonPythonModel``, and what it needs beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tritonforge_generator.errors import SourceError
from tritonforge_generator.hashing import sha256_of_file
from tritonforge_generator.python_syntax import CLASS, PythonSlip, PythonSource, python_from_file
from tritonforge_generator.source.source_model import SourceFile, SourceModel


def source_from_python(path: Path, files: Sequence[Path] = ()) -> SourceModel:
    """Open a Python model and the files that it needs. Nothing of it is imported or run.

    Args:
        path: The Python file.
        files: Files that are to lie beside it.

    Raises:
        SourceError: A file is missing, or Python refuses the model.
    """
    python_source(path)
    return SourceModel(format="python", file=_file(path), external_data=tuple(_file(one) for one in files))


def python_source(path: Path) -> PythonSource | None:
    """What a Python model says about itself; ``None`` where only running it would tell.

    Args:
        path: The Python file.

    Raises:
        SourceError: It is missing, Python refuses it, or it has no model (rule Y7).
    """
    if not path.is_file():
        raise SourceError(f"{path} cannot be read", expected="a Python file", got="no such file")
    found = python_from_file(path)
    if isinstance(found, PythonSlip):
        raise SourceError(f"{path}:{found.line}:{found.column}: Python refuses it", got=found.message)
    if found is None:
        return None
    missing = f"the class {CLASS}" if found.has_class is False else ""
    if missing == "" and found.has("execute") is False:
        missing = f"{CLASS}.execute"
    if missing != "":
        raise SourceError(f"{path} is no model of the Python backend", expected=missing, got="none")
    return found


def _file(path: Path) -> SourceFile:
    if not path.is_file():
        raise SourceError(f"{path} cannot be read", expected="a file", got="no such file")
    return SourceFile(path=path, location=path.name, size_bytes=path.stat().st_size, sha256=sha256_of_file(path))
