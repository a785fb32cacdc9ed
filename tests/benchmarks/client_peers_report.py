"""What ``client_peers.py`` measured: ratios and their noise, budgets, and the table on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

BLOCKS, DRAWS = 10, 300


@dataclass(frozen=True)
class Column:
    """A measured value.

    Attributes:
        name: Key of ``Figure.values``; it carries the unit.
        heading: What stands above it.
        form: A format specification, or ``yes/no``.
    """

    name: str
    heading: str
    form: str = ".1f"


@dataclass(frozen=True)
class Part:
    """One kind of measurement. Ratios are those of its first column."""

    title: str
    columns: tuple[Column, ...]


PARTS = {
    "sync": Part("One call after the other, the same tensor both ways (medians)", (Column("call_us", "us"),)),
    "async": Part(
        "Many calls at once in one event loop (medians of rounds)",
        (Column("call_us", "us a call"), Column("client_cpu_us", "client CPU us")),
    ),
    "loop": Part(
        "How late a ticker of 1 ms is in the event loop of large calls",
        (Column("round_ms", "all done ms"), Column("p99_ms", "p99 ms"), Column("max_ms", "max ms")),
    ),
    "import": Part(
        "A fresh interpreter: import and make a client, then one call (medians)",
        (
            Column("made_s", "made s", ".3f"),
            Column("replied_s", "replied s", ".3f"),
            Column("peak_mb", "peak MB", ".0f"),
            Column("has_grpc", "imports grpc", "yes/no"),
        ),
    ),
}


@dataclass(frozen=True)
class Budget:
    """The most that a value of ours, or its ratio to tritonclient, may be."""

    part: str
    case: str
    client: str
    value: str
    limit: float


BUDGETS = (
    Budget("sync", "256 B", "ours grpc", "ratio", 1.05),
    Budget("sync", "0.6 MB", "ours grpc", "ratio", 0.35),
    Budget("sync", "4.2 MB", "ours grpc", "ratio", 0.40),
    Budget("sync", "0.6 MB", "ours grpc, shared memory", "ratio", 0.20),
    Budget("sync", "4.2 MB", "ours grpc, shared memory", "ratio", 0.10),
    Budget("sync", "0.6 MB", "ours http", "ratio", 0.45),
    Budget("sync", "4.2 MB", "ours http", "ratio", 0.65),
    Budget("async", "256 B, 64 at once", "ours grpc", "ratio", 0.80),
    Budget("async", "256 B, 64 at once", "ours http", "ratio", 0.80),
    Budget("loop", "12 MB, 8 at once", "ours grpc", "max_ms", 20.0),
    Budget("loop", "12 MB, 8 at once", "ours http", "max_ms", 20.0),
    Budget("import", "256 B", "ours grpc", "made_s", 0.20),
    Budget("import", "256 B", "ours http", "made_s", 0.20),
)


@dataclass(frozen=True)
class Figure:
    """One client in one case.

    Attributes:
        part: Key of ``PARTS``.
        case: Payload, and how many at once.
        client: Key of the table of clients.
        values: What was measured, by name; empty where ``note`` says why.
        ratio: Of the first column to that of tritonclient over the same protocol.
        ratio_range: Noise: the middle nine tenths of the ratios that other draws of the run's blocks would give.
        note: Why nothing was measured.
    """

    part: str
    case: str
    client: str
    values: Mapping[str, float]
    ratio: float | None = None
    ratio_range: tuple[float, float] | None = None
    note: str = ""


def figures_from_samples(
    part: str,
    case: str,
    samples: Mapping[str, Sequence[float]],
    baselines: Mapping[str, str],
    others: Mapping[str, Mapping[str, float]] | None = None,
) -> Iterator[Figure]:
    """Make the figures of one case.

    Args:
        part: Key of ``PARTS``.
        case: The case.
        samples: Samples of the part's first column by client, one a round; of a client that is not installed, none.
        baselines: The client to compare with, by client.
        others: Values of the other columns by client.
    """
    for client, values in samples.items():
        if len(values) == 0:
            yield Figure(part, case, client, {}, note="not installed")
            continue
        first = {PARTS[part].columns[0].name: float(np.median(values))}
        baseline = samples.get(baselines.get(client, ""), ())
        compared = len(baseline) > 0 and client != baselines[client]
        ratio, noise = _ratio(values, baseline) if compared else (None, None)
        yield Figure(part, case, client, {**first, **(others or {}).get(client, {})}, ratio, noise)


def _ratio(values: Sequence[float], baseline: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Ratio of the medians, and its noise.

    The noise is a block bootstrap: what is slow for a while is slow in neighbouring rounds, so that rounds are drawn
    by consecutive blocks and not one by one.
    """
    pairs = np.array([values, baseline])
    blocks = np.array_split(pairs, min(BLOCKS, len(values)), axis=1)
    draws = np.random.default_rng(0).integers(0, len(blocks), (DRAWS, len(blocks)))
    medians = np.array([np.median(np.concatenate([blocks[one] for one in draw], axis=1), axis=1) for draw in draws])
    low, high = np.percentile(medians[:, 0] / medians[:, 1], [5, 95])
    ratio, to = np.median(pairs, axis=1)
    return float(ratio / to), (float(low), float(high))


def text_from_runs(runs: Mapping[str, Sequence[Figure]]) -> str:
    """Make the tables: a part each, clients in rows, the runs side by side."""
    measured = {figure.part for figures in runs.values() for figure in figures}
    tables = [f"{part.title}\n{_table(name, part, runs)}" for name, part in PARTS.items() if name in measured]
    noise = "The range holds nine tenths of the ratios when blocks of the run are drawn again."
    return "\n\n".join([*tables, f"Ratios are to tritonclient over the same protocol. {noise}"])


def _table(name: str, part: Part, runs: Mapping[str, Sequence[Figure]]) -> str:
    headings = [*(column.heading for column in part.columns), "ratio", "range", "budget"]
    rows = [
        ["", "", *(cell for run in runs for cell in (run, *[""] * (len(headings) - 1)))],
        ["", "", *headings * len(runs)],
    ]
    last_case = ""
    of_runs = [{(one.case, one.client): one for one in figures if one.part == name} for figures in runs.values()]
    for case, client in of_runs[0]:
        cells = [cell for figures in of_runs for cell in _cells(part, figures[case, client])]
        rows.append([case if case != last_case else "", client, *cells])
        last_case = case
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(_justified(row, widths)).rstrip() for row in rows)


def _justified(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.ljust(width) if place < 2 else cell.rjust(width)


def _cells(part: Part, figure: Figure) -> list[str]:
    cells = [_cell(figure.values.get(column.name), column.form) for column in part.columns]
    if figure.note:
        cells[0] = figure.note
    noise = figure.ratio_range
    cells.append("" if figure.ratio is None else f"{figure.ratio:.2f}")
    cells.append("" if noise is None else f"{noise[0]:.2f}..{noise[1]:.2f}")
    return [*cells, _verdict(figure)]


def _cell(value: float | None, form: str) -> str:
    if value is None:
        return ""
    if form == "yes/no":
        return "yes" if value else "no"
    return format(value, form)


def _verdict(figure: Figure) -> str:
    for budget in BUDGETS:
        if (budget.part, budget.case, budget.client) == (figure.part, figure.case, figure.client):
            value = figure.ratio if budget.value == "ratio" else figure.values.get(budget.value)
            if value is not None:
                return f"{budget.limit:g} {'met' if value <= budget.limit else 'missed'}"
    return ""
