"""Writes the names that TensorRT's Python bindings have, one JSON file a version, read from the real wheels.

    python collect.py [VERSION ...]

A wheel is downloaded from PyPI and its extension module imported with empty libraries in the place of TensorRT's own,
which takes neither a GPU nor CUDA. Needs a C compiler, and the Python that a wheel was built for. Only the standard
library is used, because the same file runs in that Python.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
WHEELS = {  # by version: the package, and the Python to import it with
    "8.6.0": ("tensorrt==8.6.0", "3.10"),
    "10.16.1.11": ("tensorrt-cu13-bindings==10.16.1.11", "3.10"),
    "11.4.0.106": ("tensorrt-cu13-bindings==11.4.0.106", "3.10"),
}
_PLATFORMS = ("manylinux_2_17_x86_64", "manylinux_2_28_x86_64")
_LIBRARIES = re.compile(rb"libnv\w+\.so\.\d+")
_MISSING = re.compile(r"undefined symbol: (\w+)")


class CannotCollectError(Exception):
    """Something that collecting takes is not on this machine."""


def python_of(version: str) -> str:
    """The interpreter of a Python version.

    Raises:
        CannotCollectError: It is not installed.
    """
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    candidates = [shutil.which(f"python{version}")]
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates += [str(path) for path in sorted(root.glob(f"versions/{version}.*/bin/python"))]
    for path in candidates:
        if path is not None and subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            return path
    raise CannotCollectError(f"Python {version} is not installed here")


def names_of_wheel(version: str, work: Path) -> dict[str, Any]:
    """Download a wheel and read its names.

    Args:
        version: One of ``WHEELS``.
        work: An empty folder.

    Raises:
        CannotCollectError: A compiler or the right Python is missing.
    """
    requirement, python_version = WHEELS[version]
    python = python_of(python_version)
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise CannotCollectError("there is no C compiler here")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--implementation=cp", "--abi=none", f"--abi=cp{python_version.replace('.', '')}"]
    command += [f"--python-version={python_version}", *(f"--platform={one}" for one in _PLATFORMS)]
    subprocess.run([*command, "--dest", str(work), requirement], check=True)
    (wheel,) = work.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        members = [one for one in archive.namelist() if re.fullmatch(r"\w+/(__init__\.py|tensorrt\.so)", one)]
        archive.extractall(work, members)
    wheel.unlink()  # 8.6.0 has 800 MB
    (extension,) = work.glob("*/tensorrt.so")
    functions: list[str] = []
    while True:
        _write_libraries(extension, compiler, functions)
        environment = {**os.environ, "LD_LIBRARY_PATH": str(extension.parent), "PYTHONPATH": str(work)}
        command = [python, __file__, "--names", extension.parent.name]
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        if done.returncode == 0:
            names: dict[str, Any] = json.loads(done.stdout)
            return names
        missing = _MISSING.search(done.stderr)
        if missing is None or missing[1] in functions:
            raise CannotCollectError(f"{wheel.name} cannot be imported: {done.stderr}")
        functions.append(missing[1])


def _write_libraries(extension: Path, compiler: str, functions: list[str]) -> None:
    """Write the libraries that an extension module is linked with, empty but for functions that it needs at once."""
    source = extension.with_name("empty.c")
    source.write_text("".join(f"long {name}(void) {{ return 0; }}\n" for name in functions), encoding="utf-8")
    for library in set(_LIBRARIES.findall(extension.read_bytes())):
        target = extension.with_name(library.decode())
        subprocess.run([compiler, "-shared", "-o", str(target), str(source)], check=True)


def names_of_module(package: str) -> dict[str, Any]:
    """Names of an importable package of bindings.

    Returns:
        ``version``; ``functions``; ``constants``: by name, the enum's member that it is; ``enums``: by name, its
        members; ``classes``: by name, its ``base``, and the ``methods``, ``properties`` and ``attributes`` that it
        adds to that. Nested classes and enums are called ``Outer.Inner``.
    """
    sys.setdlopenflags(os.RTLD_LAZY)  # the functions of TensorRT's libraries are not there
    module = importlib.import_module(package)
    names: dict[str, Any] = {
        "version": module.__version__,
        "functions": [],
        "constants": {},
        "enums": {},
        "classes": {},
    }
    for name, value in sorted(vars(module).items()):
        if name.startswith("_") or type(value).__name__ == "module":
            continue
        if isinstance(value, type):
            _add_class(names, name, value)
        elif callable(value):
            names["functions"].append(name)
        elif hasattr(type(value), "__members__"):
            names["constants"][name] = f"{type(value).__qualname__}.{value.name}"
    return names


def _add_class(names: dict[str, Any], name: str, kind: type) -> None:
    if hasattr(kind, "__members__"):
        names["enums"][name] = sorted(kind.__members__)
        return
    found: dict[str, Any] = {"base": "", "methods": [], "properties": [], "attributes": []}
    names["classes"][name] = found
    base = kind.__mro__[1]
    if not base.__name__.startswith("pybind11") and base is not object:
        found["base"] = base.__name__
    for key, value in sorted(vars(kind).items()):
        if key.startswith("_"):
            continue
        if isinstance(value, type):
            _add_class(names, f"{name}.{key}", value)
        elif isinstance(value, property):
            found["properties"].append(key)
        elif callable(value) or isinstance(value, staticmethod):
            found["methods"].append(key)
        else:
            found["attributes"].append(key)


def text_of_names(names: dict[str, Any]) -> str:
    """Names as they are kept in a file: one line a class or enum."""
    parts = []
    for key, value in names.items():
        if key in {"enums", "classes"}:
            lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(one)}" for name, one in value.items())
            parts.append(f" {json.dumps(key)}: {{\n{lines}\n }}")
        else:
            parts.append(f" {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main(arguments: list[str]) -> None:
    """Collect the versions named, or all."""
    if arguments[:1] == ["--names"]:
        json.dump(names_of_module(arguments[1]), sys.stdout)
        return
    for version in arguments or WHEELS:
        with tempfile.TemporaryDirectory() as work:
            names = names_of_wheel(version, Path(work))
        (FOLDER / f"{version}.json").write_text(text_of_names(names), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
