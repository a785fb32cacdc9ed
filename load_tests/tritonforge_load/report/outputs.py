"""The files that a campaign writes at its end."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from tritonforge_client.extras import MissingExtraError, require_extra
from tritonforge_generator.report.pages import write_whole
from tritonforge_load.errors import LoadError
from tritonforge_load.measure import CampaignResult, json_from_result
from tritonforge_load.report.csv_files import csv_from_result, timeline_csv_from_result
from tritonforge_load.report.junit import junit_from_result
from tritonforge_load.report.page import page_from_result

_FILES: Final[dict[str, tuple[tuple[str, Callable[[CampaignResult], str]], ...]]] = {
    "json": (("{}.json", json_from_result),),
    "csv": (("{}.csv", csv_from_result), ("{}-timeline.csv", timeline_csv_from_result)),
    "junit": (("{}.xml", junit_from_result),),
    "html": (("{}.html", page_from_result),),
}


def check_outputs(formats: Sequence[str]) -> None:
    """Check that outputs can be made, before load starts.

    Args:
        formats: ``json``, ``csv``, ``junit``, ``html``.

    Raises:
        MissingExtraError: A package that one of them needs is not installed.
    """
    if "html" in formats:
        require_extra("jinja2", "report")
        require_extra("matplotlib", "report")


def check_folder(folder: Path, *, action: str) -> None:
    """Check that files can be written to a folder, before load starts; it is made if missing.

    Args:
        folder: The folder.
        action: What to do if not.

    Raises:
        LoadError: They cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        raise LoadError(f"{folder}: outputs cannot be written: {error.strerror}", action=action) from error


def write_outputs(result: CampaignResult, folder: Path, formats: Sequence[str]) -> tuple[Path, ...]:
    """Write the outputs of a campaign, each file whole or not at all; one that fails does not keep back the others.

    Args:
        result: The result.
        folder: Where to; it is made if missing, and older files of the same campaign are replaced.
        formats: ``json`` (``<campaign>.json``), ``csv`` (``<campaign>.csv`` and ``<campaign>-timeline.csv``), ``junit``
            (``<campaign>.xml``) and ``html`` (``<campaign>.html``).

    Returns:
        The files. The simplest are written first: none waits for a page to be drawn.

    Raises:
        LoadError: Files could not be written: all others are.
    """
    written = []
    failures = []
    for path, text_from_result in _wanted(result, folder, formats):
        try:
            written.append(write_whole(text_from_result(result), path))
        except OSError as error:
            failures.append(f"{path}: {error.strerror}")
        except MissingExtraError as error:
            failures.append(f"{path}: {error}")
    if failures:
        there = ", ".join(path.name for path in written) or "nothing"
        rest = "; 'tritonforge load report' writes the rest from the JSON output" if _has_json(written) else ""
        action = f"Written: {there}. Mend the cause{rest}"
        raise LoadError(f"outputs could not be written: {'; '.join(failures)}", action=action)
    return tuple(written)


def _has_json(paths: Sequence[Path]) -> bool:
    return any(path.suffix == ".json" for path in paths)


def write_page(result: CampaignResult, path: Path) -> Path:
    """Write the HTML page of a result, whole or not at all.

    Args:
        result: The result.
        path: The file; its folder is made if missing.

    Returns:
        The path.

    Raises:
        LoadError: It cannot be written.
        MissingExtraError: Jinja2 or matplotlib is not installed.
    """
    document = page_from_result(result)
    try:
        return write_whole(document, path)
    except OSError as error:
        raise LoadError(f"{path}: cannot be written: {error.strerror}", action="Choose another path") from error


def _wanted(
    result: CampaignResult, folder: Path, formats: Sequence[str]
) -> Iterator[tuple[Path, Callable[[CampaignResult], str]]]:
    # A stored result may have been changed by hand, and its name must not lead out of the folder.
    campaign = re.sub(r"[^\w.-]", "_", result.campaign)
    for name, files in _FILES.items():
        if name in formats:
            for pattern, text_from_result in files:
                yield folder / pattern.format(campaign), text_from_result
