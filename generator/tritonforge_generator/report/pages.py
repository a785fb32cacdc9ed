"""What all pages share: templates, filters and style, and how a file is written."""

from __future__ import annotations

import os
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

from tritonforge_client.extras import require_extra
from tritonforge_generator.report import figures

_TEMPLATES = files("tritonforge_generator.report") / "templates"
_FILTERS = {
    "cosine": figures.cosine,
    "count": figures.count,
    "duration": figures.duration,
    "flops": figures.flops,
    "latency": figures.latency,
    "milliseconds": figures.milliseconds,
    "percent": figures.percent,
    "scientific": figures.scientific,
    "shape": figures.shape,
    "significant": figures.significant,
    "size": figures.size,
}


class Folder(Protocol):
    """Where templates are: a path, or a folder inside an installed package."""

    def __truediv__(self, name: str, /) -> Any:
        """One of its files."""


def page_environment(*folders: Folder) -> Any:
    """What renders templates: ``page.html.j2`` is a whole page, ``macros.html.j2`` what tables and marks look like.

    Args:
        folders: More templates, by names that those of the pages do not have.

    Returns:
        An environment of Jinja2 that escapes whatever it is given, with numbers as people read them for filters.

    Raises:
        MissingExtraError: Jinja2 is not installed.
    """
    jinja2 = require_extra("jinja2", "report")

    def text_of(name: str) -> str | None:
        for folder in (_TEMPLATES, *folders):
            template = folder / name
            if template.is_file():
                return str(template.read_text(encoding="utf-8"))
        return None

    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FunctionLoader(text_of),
    )
    environment.filters.update(_FILTERS)
    environment.globals["style"] = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    return environment


def write_whole(text: str, path: Path) -> Path:
    """Write a file, whole or not at all.

    Args:
        text: Its content.
        path: The file; its folder is made if missing, an older file is replaced.

    Returns:
        The path.

    Raises:
        OSError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o644)  # mkstemp's own mode keeps others from reading it
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
