"""The files that a campaign reads, and the memory that its values take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tritonforge_generator.errors import SpecError
from tritonforge_load.campaign import ArraySource, Campaign, InputSource, TracePhase, Workload
from tritonforge_load.payloads.arrays import path_of, stored_array
from tritonforge_load.payloads.images import image_files


@dataclass(frozen=True, slots=True)
class FilePlan:
    """A file or a folder of images that is read before load starts.

    Attributes:
        place: What reads it, for example ``workload 'digits': images``.
        path: Where it is.
        size_bytes: Its size on disk; of a folder that of its images.
    """

    place: str
    path: Path
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PayloadPlan:
    """The values of one input.

    Attributes:
        workload: The workload.
        input: The input.
        source: Where they come from, in words.
        rows: How many different rows there are; ``None`` for random and given values.
        size_bytes: Memory that they take in each process that sends; ``None`` when the model has to be asked.
    """

    workload: str
    input: str
    source: str
    rows: int | None
    size_bytes: int | None


Found: TypeAlias = FilePlan | PayloadPlan | SpecError


def files_of(campaign: Campaign, base: Path) -> Iterator[Found]:
    """Find everything that a campaign reads.

    Args:
        campaign: The campaign.
        base: Folder that relative paths start from.

    Yields:
        Files, the values in them, and errors for those that are not there or hold something else.
    """
    for workload in campaign.workload:
        yield from _of_workload(workload, base)
    for phase in campaign.phases:
        # Reading a trace tells what is wrong with it.
        if isinstance(phase, TracePhase) and (base / phase.file).is_file():
            yield _file(f"phase {phase.name!r}", base / phase.file)
    if campaign.baseline is not None:
        yield _file("baseline", base / campaign.baseline)


def _of_workload(workload: Workload, base: Path) -> Iterator[Found]:
    place = f"workload {workload.name!r}"
    rows: dict[str, int] = {}
    for name, source in workload.inputs.items():
        for found in _of_input(workload.name, name, source, base):
            if isinstance(found, PayloadPlan) and found.rows is not None:
                rows[name] = found.rows
            yield found
    if len(set(rows.values())) > 1:
        got = ", ".join(f"{name} {count}" for name, count in rows.items())
        yield SpecError(f"{place}: rows", expected="as many for each input", got=got)
    sent = _rows_sent(min(rows.values(), default=0), workload.batches)
    if len(set(rows.values())) == 1 and sent == 0:
        yield SpecError(
            f"{place}: rows", expected=f"at least {workload.batches[0]} (batch)", got=str(min(rows.values()))
        )
    if workload.check is not None and workload.check.labels is not None:
        yield from _of_reference(f"{place}: check.labels", workload.check.labels, "labels", base, sent)
    if workload.check is not None and workload.check.golden is not None:
        yield from _of_reference(f"{place}: check.golden", workload.check.golden, workload.check.output, base, sent)


def _rows_sent(rows: int, batches: tuple[int, ...]) -> int:
    """Rows that are sent before the first is sent again: whole requests, whose sizes take turns."""
    sent = rows // sum(batches) * sum(batches)
    for batch in batches:
        if sent + batch > rows:
            break
        sent += batch
    return sent


def _of_input(workload: str, name: str, source: InputSource, base: Path) -> Iterator[Found]:
    place = f"workload {workload!r}: {name}"
    try:
        if source.array is not None:
            array = stored_array(source.array, base=base, default_key=name)
            yield _file(place, array.path)
            rows = f"{array.dtype} rows of shape {array.shape[1:]}"
            yield PayloadPlan(workload, name, rows, array.count, array.size_bytes)
        elif source.images is not None:
            images = image_files(source, base=base, place=place)
            yield FilePlan(place, base / source.images, sum(path.stat().st_size for path in images))
            yield PayloadPlan(workload, name, "images", len(images), None)
        else:
            made = "given" if source.values is not None else f"random ({source.random})"
            yield PayloadPlan(workload, name, made, None, None)
    except SpecError as error:
        yield _placed(place, error)


def _of_reference(place: str, reference: ArraySource, default_key: str, base: Path, rows: int) -> Iterator[Found]:
    try:
        if reference.is_table:
            yield _file(place, path_of(reference, base))
            return
        array = stored_array(reference, base=base, default_key=default_key)
        yield _file(place, array.path)
        if array.count < rows:
            yield SpecError(place, expected=f"at least {rows} rows", got=str(array.count))
    except SpecError as error:
        yield _placed(place, error)


def _file(place: str, path: Path) -> FilePlan | SpecError:
    if not path.is_file():
        return SpecError(f"{place}: {path}: no such file", action="Check the path")
    return FilePlan(place, path, path.stat().st_size)


def _placed(place: str, error: SpecError) -> SpecError:
    what = error.what if error.what.startswith(place) else f"{place}: {error.what}"
    return SpecError(what, expected=error.expected, got=error.got, action=error.action)
