"""Comparing answers with the right ones."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tritonforge_generator.errors import SpecError
from tritonforge_load.campaign import ArraySource, Check, Workload
from tritonforge_load.payloads.arrays import path_of, stored_array
from tritonforge_load.payloads.images import image_files
from tritonforge_load.payloads.requests import Request

_TABLE_HEAD: Final = ["file", "label"]


def check_of(workload: Workload, requests: Sequence[Request], *, base: Path) -> AnswerCheck | None:
    """What the answers of a workload are compared with.

    Args:
        workload: What it asks for.
        requests: Its requests.
        base: Folder that relative paths start from.

    Returns:
        The check; ``None`` where the workload asks for none.

    Raises:
        SpecError: The reference is not there or does not have all rows.
    """
    if workload.check is None:
        return None
    place = f"workload {workload.name!r}"
    images = next((source for source in workload.inputs.values() if source.images is not None), None)
    files = [path.name for path in image_files(images, base=base, place=place)] if images is not None else []
    rows = requests[-1].first_row + requests[-1].rows
    return AnswerCheck(workload.check, base=base, rows=rows, place=place, files=files)


class AnswerCheck:
    """Compares answers with the right ones, row by row.

    Args:
        check: What to compare with.
        base: Folder that relative paths start from.
        rows: Rows of the workload's arrays and images that are sent.
        place: Start of error messages.
        files: Names of the images, for labels by file name.

    Raises:
        SpecError: The reference is not there or does not have all rows.
    """

    def __init__(self, check: Check, *, base: Path, rows: int, place: str, files: Sequence[str] = ()) -> None:
        self.sample = check.sample
        self.output = check.output
        self._check = check
        place = f"{place}: check"
        if check.labels is not None:
            self._reference = _labels(check.labels, base=base, files=files[:rows], place=f"{place}.labels")
        elif check.golden is not None:
            self._reference = stored_array(check.golden, base=base, default_key=check.output).read()
        else:
            raise SpecError(place, expected="labels or golden", got="none")
        if self._reference.ndim == 0 or len(self._reference) < rows:
            got = f"shape {self._reference.shape}"
            raise SpecError(f"{place}: reference", expected=f"at least {rows} rows", got=got)

    def correct_rows(self, request: Request, outputs: Mapping[str, NDArray[Any]], *, batched: bool) -> int:
        """Count the right rows of one answer.

        Args:
            request: What was sent.
            outputs: What came back.
            batched: Whether the first dimension of the output is the batch.
        """
        answer = outputs[self.output] if batched else outputs[self.output][np.newaxis]
        wanted = self._reference[request.first_row : request.first_row + request.rows]
        if self._check.labels is not None:
            return int(np.count_nonzero(answer.reshape(len(wanted), -1).argmax(axis=1) == wanted))
        if answer.shape != wanted.shape:
            return 0
        close = np.isclose(answer, wanted, rtol=self._check.rtol, atol=self._check.atol, equal_nan=True)
        return int(np.count_nonzero(close.reshape(len(wanted), -1).all(axis=1)))


def _labels(source: ArraySource, *, base: Path, files: Sequence[str], place: str) -> NDArray[Any]:
    if source.is_table:
        return _labels_by_file(path_of(source, base), files, place)
    labels = stored_array(source, base=base, default_key="labels").read()
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        got = f"{labels.dtype} of shape {labels.shape}"
        raise SpecError(f"{place}: {source.path}", expected="one integer a row", got=got)
    return labels


def _labels_by_file(path: Path, files: Sequence[str], place: str) -> NDArray[np.int64]:
    """Read a table ``file,label``, with or without that head, and put it in the order of the files."""
    found: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as table:
            lines = csv.reader(table, strict=True)
            for fields in lines:
                if not fields or (lines.line_num == 1 and [field.strip() for field in fields] == _TABLE_HEAD):
                    continue
                where = f"{place}: {path}:{lines.line_num}"
                if len(fields) != 2 or not fields[1].strip().isdecimal():
                    raise SpecError(where, expected="file,label with a whole number", got=",".join(fields))
                name = fields[0].strip()
                if name in found:
                    raise SpecError(f"{where}: {name} has a label already", action="Remove one of the lines")
                found[name] = int(fields[1])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SpecError(f"{place}: {path}: cannot be read as CSV: {error}", action="Check the path") from error
    missing = [name for name in files if name not in found]
    if missing:
        what = f"{place}: {path}: {len(missing)} of {len(files)} images have no label, {missing[0]} the first"
        raise SpecError(what, action="Add a line for each")
    return np.array([found[name] for name in files], np.int64)
