"""Y1 to Y7, Y17, D3 to D7, L19, L20: the ``model.py`` that the Python back-end serves, and where it runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.python_completion import COMPLETION
from tritonforge_generator.lint.rule import Hit, rule
from tritonforge_generator.python_syntax import CLASS, PythonSlip, PythonSource, call_failure

_ENVIRONMENT: Final = "EXECUTION_ENV_PATH"
_DIRECTORY: Final = "$$TRITON_MODEL_DIRECTORY"
_CPU_TENSORS: Final = "FORCE_CPU_ONLY_INPUT_TENSORS"
_SHELL: Final = frozenset(";|&$`<>()[]{}\\\"'*?~#!")
_GZIP: Final = b"\x1f\x8b"
_TAR: Final = b"ustar"
_TAR_AT: Final = 257


def _parameter(model: Model, name: str) -> str | None:
    parameters = model.config.parameters
    return str(parameters[name].string_value) if model.is_python and name in parameters else None


def _value_path(name: str) -> str:
    return f'parameters["{name}"].value.string_value'


def _sources(model: Model) -> Iterator[tuple[int, PythonSource]]:
    """Yield ``(version, its Python file)`` where the file can be read and is Python."""
    for version, source in model.pythons.items() if model.is_python else ():
        if isinstance(source, PythonSource):
            yield version, source


@rule(
    "Y1",
    text="Incorrect value for FORCE_CPU_ONLY_INPUT_TENSORS: {value}'",
    fix='Write "yes" (tensors are copied to the CPU first, the default) or "no", in small letters.',
)
def cpu_tensors_is_yes_or_no(model: Model) -> Iterator[Hit]:
    """The parameter ``FORCE_CPU_ONLY_INPUT_TENSORS`` of the Python back-end is ``yes`` or ``no``."""
    value = _parameter(model, _CPU_TENSORS)
    if value is not None and value not in {"yes", "no"}:
        yield Hit(_value_path(_CPU_TENSORS), {"value": value})


def _environment(model: Model) -> tuple[str, Path | None]:
    """Return the environment's path as the server resolves it, and that path where it may be looked at."""
    written = _parameter(model, _ENVIRONMENT) or ""
    value = str(model.directory) + written.removeprefix(_DIRECTORY) if _is_anchored(written) == "model" else written
    path = Path(value)
    return value, path if _is_anchored(written) != "" and model.reaches(path) else None


def _is_anchored(path: str) -> str:
    return "model" if path.startswith(_DIRECTORY) else "root" if path.startswith("/") else ""


@rule(
    "Y2",
    needs="dir",
    text="Failed to get the canonical path for {path}.",
    fix="Put the environment (a conda-pack archive, or its unpacked directory) into the model's directory and begin "
    "the path with $$TRITON_MODEL_DIRECTORY/.",
)
def environment_exists(model: Model) -> Iterator[Hit]:
    """The environment that ``EXECUTION_ENV_PATH`` names exists.

    ``$$TRITON_MODEL_DIRECTORY`` stands for the model's directory, but only at the beginning. A relative path would be
    looked for in the directory that the server happens to be started in. What lies outside of the repositories is not
    looked at.
    """
    value, path = _environment(model)
    is_relative = value != "" and _is_anchored(_parameter(model, _ENVIRONMENT) or "") == ""
    if is_relative or (path is not None and not path.exists()):
        yield Hit(_value_path(_ENVIRONMENT), {"path": value})


@rule(
    "Y3",
    needs="dir",
    text="Path {path} does not exist. The Python environment should contain an 'activate' script.",
    fix="Give the environment's own directory, as conda-pack unpacks it.",
)
def environment_can_be_activated(model: Model) -> Iterator[Hit]:
    """An environment that is a directory has ``bin/activate``."""
    _, path = _environment(model)
    if path is not None and path.is_dir() and not (path / "bin" / "activate").exists():
        yield Hit(_value_path(_ENVIRONMENT), {"path": Path(os.path.realpath(path)) / "bin" / "activate"})


@rule(
    "D6",
    needs="dir",
    text="archive_read_open_filename() failed.",
    fix="Pack the environment with conda-pack. A file that Git LFS or a copy left empty is no archive either.",
)
def environment_is_an_archive(model: Model) -> Iterator[Hit]:
    """An environment that is a file is a ``tar.gz`` archive. This is a rule of ours with the server's text."""
    _, path = _environment(model)
    if path is not None and path.is_file() and not _is_archive(path):
        yield Hit(_value_path(_ENVIRONMENT), file=path)


def _is_archive(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(_TAR_AT + len(_TAR))
    except OSError:
        return True
    return head.startswith(_GZIP) or head[_TAR_AT:] == _TAR


@rule(
    "Y4",
    since="26.06",
    text="Invalid stub name: contains invalid characters",
    fix="Rename '{name}': letters, digits, '_', '-' and '.' are safe.",
)
def names_are_safe_for_a_shell(model: Model) -> Iterator[Hit]:
    """Neither the model's name nor that of an instance group has a character that means something to a shell.

    Release 24.10 does not say so, but waits without end for most such models; 26.06 does.
    """
    if not model.is_python:
        return
    names = {"name": model.config.name}
    names |= {f"instance_group[{index}].name": group.name for index, group in enumerate(model.config.instance_group)}
    for field, name in names.items():
        if _SHELL & set(name):
            yield Hit(field, {"name": name})
            return


@rule(
    "Y5",
    needs="dir",
    text="Python model file not found in '{path}'",
    fix="Put the model there, or name the file in `default_model_filename`.",
)
def python_file_exists(model: Model) -> Iterator[Hit]:
    """The Python file exists in every version directory that is loaded. Release 24.10 waits for it without end."""
    for version, path in model.python_files.items():
        if path.suffix == ".py" and not path.exists():
            yield Hit("default_model_filename", {"path": path}, at=(version,), file=path)


@rule(
    "Y6",
    text="Model name must end with '.py'. Model name is \"{name}\".",
    fix="Rename the file to end in .py.",
)
def python_file_is_named_so(model: Model) -> Iterator[Hit]:
    """``default_model_filename`` of a Python model ends in ``.py``."""
    name = model.config.default_model_filename
    if model.is_python and not name.endswith(".py"):
        yield Hit("default_model_filename", {"name": name})


@rule(
    "D3",
    needs="file",
    text="{problem}",
    fix="Mend the file there: the server imports it when the model is loaded.",
)
def file_is_python(model: Model) -> Iterator[Hit]:
    """The model file is Python. The text is that of Python itself, here of the one that runs the linter."""
    for version, source in model.pythons.items() if model.is_python else ():
        if isinstance(source, PythonSlip):
            path = model.python_files[version]
            yield Hit(
                values={"problem": source.message}, at=(version,), file=path, line=source.line, column=source.column
            )


@rule(
    "D4",
    needs="file",
    text=f"AttributeError: module '{{module}}' has no attribute '{CLASS}'",
    fix=f"Name the model's class {CLASS}.",
)
def file_has_the_class(model: Model) -> Iterator[Hit]:
    """The Python file defines ``TritonPythonModel``, itself or by importing it."""
    for version, source in _sources(model):
        if source.has_class is False:
            module = f"{version}.{source.path.stem}"
            yield Hit(values={"module": module}, at=(version,), file=source.path, line=1, column=1)


def _refusals(model: Model, names: tuple[str, ...], arguments: tuple[int, ...]) -> Iterator[Hit]:
    """Yield the methods that cannot be called as the server calls them."""
    for version, source in _sources(model):
        for place, (name, count) in enumerate(zip(names, arguments, strict=True)):
            method = source.methods.get(name)
            problem = "" if method is None else call_failure(method, count, on_class=name == COMPLETION)
            if method is not None and problem != "":
                values = {"problem": problem, "name": name}
                at = (version, place)
                yield Hit(values=values, at=at, file=source.path, line=method.line, column=method.column)


@rule(
    "D5",
    needs="file",
    text="{problem}",
    fix="Write `def initialize(self, args)`; the class itself is made without arguments.",
)
def model_can_be_initialized(model: Model) -> Iterator[Hit]:
    """The class can be made without arguments, and ``initialize``, if there is one, takes one beside ``self``."""
    yield from _refusals(model, ("__init__", "initialize"), (0, 1))


@rule(
    "D7",
    needs="file",
    text="{problem}",
    fix="Write `@staticmethod` above `def auto_complete_config(auto_complete_model_config)`.",
)
def completion_can_be_called(model: Model) -> Iterator[Hit]:
    """``auto_complete_config`` takes one argument and no ``self``: the server calls it of the class.

    With completion off it is not called.
    """
    if not model.strict:
        yield from _refusals(model, (COMPLETION,), (1,))


@rule(
    "Y7",
    needs="file",
    severity="warning",
    text="Python model {path} does not implement `execute` method.",
    fix="Add `def execute(self, requests)`, which returns a response for each request.",
)
def model_executes(model: Model) -> Iterator[Hit]:
    """The class has ``execute``. The model loads without it; the server says so to the first request."""
    for version, source in _sources(model):
        if source.has_class and source.has("execute") is False:
            values = {"path": source.path}
            yield Hit(values=values, at=(version,), file=source.path, line=source.line, column=1)


@rule(
    "L19",
    needs="file",
    severity="warning",
    text="the server calls `{name}` in another way: {problem}",
    fix="Write `def execute(self, requests)` and `def finalize(self)`.",
)
def requests_can_be_executed(model: Model) -> Iterator[Hit]:
    """``execute`` takes the requests and ``finalize`` nothing. The model loads, and then each request fails."""
    yield from _refusals(model, ("execute", "finalize"), (1, 0))


@rule(
    "L20",
    needs="file",
    severity="warning",
    text="BLS is only supported during the 'execute' function.",
    fix="Call other models in `execute`; `{name}` runs before or after there are requests.",
)
def models_are_called_while_executing(model: Model) -> Iterator[Hit]:
    """A Python model calls other models only in ``execute``; elsewhere the server raises an exception.

    The text is the server's; the place tells where such a call stands, not that it is reached.
    """
    for version, source in _sources(model):
        for name in ("__init__", "initialize", COMPLETION, "finalize"):
            method = source.methods.get(name)
            for line, column in () if method is None else method.calls_of_models():
                yield Hit(values={"name": name}, at=(version, line), file=source.path, line=line, column=column)


@rule(
    "Y17",
    needs="file",
    severity="warning",
    text="Python model '{model}' is using the decoupled mode and the execute function must return None.",
    fix="Send responses through each request's `get_response_sender()` and return None, or let the model answer each "
    "request once.",
)
def decoupled_model_returns_nothing(model: Model) -> Iterator[Hit]:
    """``execute`` of a decoupled model returns ``None``.

    Reported where a list is returned in plain sight. The model loads; the server says so to the first request.
    """
    served = model.served
    if served is None or not served.model_transaction_policy.decoupled:
        return
    for version, source in _sources(model):
        method = source.methods.get("execute")
        for line, column in () if method is None else method.returned_lists():
            yield Hit(at=(version, line), file=source.path, line=line, column=column)
