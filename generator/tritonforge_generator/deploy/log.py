"""What the server's log says about a failed start."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

_ERROR_LINE: Final = re.compile(
    r"E\d{4} [\d:.]+ \d+ \S+\] (?P<server>.*)|(?P<plain>error: .*)|.*\[E:onnxruntime:[^\]]*\] (?P<ort>[^\x1b]*)"
)
_LOADING: Final = re.compile(r'\] "loading: ([^"]+):\d+"')
_LOADED: Final = re.compile(r"\] \"successfully loaded '([^']+)'")
_FAILED_LOAD: Final = re.compile(
    r"failed to load '(?P<model>[^']*)' version (?P<version>\d+): (?P<status>.*)", re.DOTALL
)
_PORT_TAKEN: Final = re.compile(r"Socket '[^']*:(\d+)' already in use")
_HARMLESS: Final = ("CudaDriverHelper has not been initialized",)  # said on every machine without a GPU
_USAGE: Final = "Usage: tritonserver [options]"
_TAIL_LINES: Final = 15
# Where our own backends raised says nothing to a user; frames of anybody else's model.py stay.
_OWN_FRAMES: Final = re.compile(r"\s*At:\n(\s*\S*/tritonforge-\w+/backends/\w+/model\.py\(\d+\): \S+\n?)+$")


def port_taken(log: Sequence[str]) -> int | None:
    """Return the port that the server could not open, or ``None``."""
    for line in log:
        found = _PORT_TAKEN.search(line)
        if found is not None:
            return int(found.group(1))
    return None


def unready_models(log: Sequence[str]) -> dict[str, str]:
    """Return the models that are not ready, with their status.

    They are in a table that the server prints once it has tried all models; one that crashes before has only said
    of each what was wrong. A key is ``name`` or ``name version N``.
    """
    unready: dict[str, str] = {}
    for text in _error_texts(log):
        failed = _FAILED_LOAD.match(text)
        if failed is not None:
            unready[f"{failed['model']} version {failed['version']}"] = failed["status"]
    current: str | None = None
    for model, version, status in _model_rows(log):
        if model != "":
            current = model if version == "-" else f"{model} version {version}"
            if status != "READY":
                unready[current] = status
        elif current in unready:
            unready[current] += "\n" + status  # a status of several lines goes on in rows of its own
    return {model: _OWN_FRAMES.sub("", status) for model, status in unready.items()}


def failure_from_log(log: Sequence[str]) -> str:
    """Return why a start failed, in the server's own words.

    Args:
        log: Lines of the log.

    Returns:
        The unready models; without any, what is wrong with the arguments, what it was loading when it crashed, the
        error lines, or the end of the log.
    """
    unready = unready_models(log)
    if len(unready) > 0:
        return _listed("models that did not load", [f"{model}: {status}" for model, status in unready.items()])
    if _USAGE in log:
        # The help text has blanks in front or ends in a colon; what is wrong stands before or after it.
        plain = [line for line in log if line.strip() != "" and not line[0].isspace() and not line.endswith(":")]
        return _listed("it does not take its arguments", [line for line in plain if line != _USAGE])
    errors = list(_error_texts(log))
    loading = [found[1] for line in log if (found := _LOADING.search(line)) is not None]
    loaded = {found[1] for line in log if (found := _LOADED.search(line)) is not None}
    unfinished = [model for model in loading if model not in loaded]
    if len(unfinished) > 0:
        return _listed(f"it was loading {', '.join(unfinished)}", errors)
    return _listed("its errors", errors) if len(errors) > 0 else _listed("the end of its log", log[-_TAIL_LINES:])


def _listed(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"{title}:", *(f"  {line}" for line in lines)])


def _error_texts(log: Sequence[str]) -> Iterator[str]:
    """What the error lines say, with the line breaks that the server escapes."""
    for line in log:
        found = _ERROR_LINE.match(line)
        if found is not None and not any(text in line for text in _HARMLESS):
            yield next(text for text in found.groups() if text is not None).strip('"').replace("\\n", "\n")


def _model_rows(log: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Cells of the table ``| Model | Version | Status |``."""
    inside = False
    for line in log:
        cells = [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|", 2)]
        if cells == ["Model", "Version", "Status"]:
            inside = True
        elif inside and line.startswith("|") and len(cells) == 3:
            yield cells[0], cells[1], cells[2]
        elif not line.startswith("+"):
            inside = False
