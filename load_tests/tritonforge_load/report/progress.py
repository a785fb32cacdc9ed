"""What is seen of a campaign while it runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TextIO

from typing_extensions import Self

from tritonforge_client.extras import require_extra
from tritonforge_generator.report.figures import count, latency, milliseconds, significant
from tritonforge_load.events import text_from_event
from tritonforge_load.report.terminal import paragraph

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.table import Table

_PLAIN_EVERY_S: Final = 10
_LINES_AROUND: Final = 5  # of the terminal that the runs do not take: heading, caption, what was there before
_WIDE: Final = 100  # letters of a line that also holds the load
_BAR_WIDTH: Final = 14
_NARROW_NAME: Final = 16
_VERDICT_STYLES: Final = {"held": "green", "no": "red"}


@dataclass(slots=True)
class _Run:
    """One run, as far as it has come."""

    name: str
    load: str
    duration_s: float
    measured: bool
    at_s: float = 0.0
    rate_per_s: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    errors: int = 0
    shed: int = 0
    verdict: str = ""


class Progress:
    """Shows the events of a campaign: a table that moves on a terminal, plain lines elsewhere.

    Elsewhere there is a line a run, one each ten seconds of it, and one for whatever is out of the ordinary.

    Args:
        file: Where to; standard error if not given, so that standard output holds the result alone.

    Raises:
        MissingExtraError: rich is not installed.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        require_extra("rich", "load")
        from rich.console import Console

        self._file = file if file is not None else sys.stderr
        self._console = Console(file=self._file, highlight=False)
        self._live: Live | None = None
        self._runs: list[_Run] = []

    def __enter__(self) -> Self:
        from rich.live import Live

        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            if error is None:
                self._end_last_run()
                self._live.update(self._table())
            self._live.stop()
            self._live = None

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Take in one event.

        Args:
            event: As ``tritonforge_load.events`` describes them; one of another kind is passed over.
        """
        kind = event.get("event")
        if kind == "phase":
            self._end_last_run()
            users = event["users"]
            load = f"{event['arrival']}, " + (
                f"{event['rate_per_s']:,.6g}/s" if users is None else f"{users} user{'s' if users != 1 else ''}"
            )
            self._runs.append(_Run(event["run"], load, event["duration_s"], event["measured"]))
        elif kind == "second":
            self._second(event)
        elif kind == "search":
            for run in self._runs:
                if run.name == event["run"]:
                    run.verdict = "held" if event["held"] else "no"
        elif kind != "note":
            return
        self._show(event)

    def _end_last_run(self) -> None:
        if self._runs:
            self._runs[-1].at_s = self._runs[-1].duration_s

    def _second(self, event: Mapping[str, Any]) -> None:
        run = next((run for run in reversed(self._runs) if run.name == event["run"]), None)
        if run is None:
            return
        run.at_s = event["at_s"]
        run.rate_per_s, run.p50_ms, run.p99_ms = event["rate_per_s"], event["p50_ms"], event["p99_ms"]
        run.errors += event["errors"]
        run.shed += event["shed"]

    def _show(self, event: Mapping[str, Any]) -> None:
        if self._live is None:
            line = self._plain_second(event) if event["event"] == "second" else text_from_event(event)
            if line is not None:
                self._file.write(f"{line}\n")
                self._file.flush()
            return
        if event["event"] == "note":
            self._live.console.print(paragraph(str(event["text"]), "yellow"))
        self._live.update(self._table(), refresh=True)

    def _plain_second(self, event: Mapping[str, Any]) -> str | None:
        if event["at_s"] <= 0 or round(event["at_s"]) % _PLAIN_EVERY_S != 0:
            return None
        run = next((run for run in reversed(self._runs) if run.name == event["run"]), None)
        if run is None:
            return None
        told = [f"{significant(run.rate_per_s or 0.0)} requests/s"]
        told += [f"p50 {latency(run.p50_ms)}"] if run.p50_ms is not None else []
        told += [f"p99 {latency(run.p99_ms)}"] if run.p99_ms is not None else []
        told += [f"{run.errors:,} errors"] if run.errors else []
        told += [f"{run.shed:,} shed"] if run.shed else []
        return f"  {run.name} at {run.at_s:.0f} s: {', '.join(told)}"

    def _table(self) -> Table:
        from rich.table import Table

        wide = self._console.width >= _WIDE
        shown = self._runs[-max(1, self._console.height - _LINES_AROUND) :]
        columns: list[tuple[str, list[RenderableType]]] = [
            ("run", [paragraph(self._name(run, wide=wide)) for run in shown]),
            ("load", [paragraph(run.load) for run in shown if wide]),
            ("", [_bar(run, wide=wide) for run in shown]),
            ("time", [paragraph(f"{run.at_s:.0f}/{run.duration_s:.0f} s") for run in shown]),
            ("req/s", [paragraph("" if run.rate_per_s is None else significant(run.rate_per_s)) for run in shown]),
            ("p50 ms", [paragraph("" if run.p50_ms is None else milliseconds(run.p50_ms)) for run in shown]),
            ("p99 ms", [paragraph("" if run.p99_ms is None else milliseconds(run.p99_ms)) for run in shown]),
            ("errors", [paragraph(count(run.errors), "red" if run.errors else "") for run in shown]),
            ("shed", [paragraph(count(run.shed), "yellow") for run in shown if any(one.shed for one in shown)]),
            ("", [paragraph(run.verdict, _VERDICT_STYLES.get(run.verdict, "")) for run in shown]),
        ]
        columns = [(name, cells) for name, cells in columns if cells]
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name, _ in columns:
            is_words = name in {"run", "load", ""}
            table.add_column(name, justify="left" if is_words else "right", no_wrap=True, overflow="ellipsis")
        for place, run in enumerate(shown):
            table.add_row(*(cells[place] for _, cells in columns), style="" if run is self._runs[-1] else "dim")
        if len(shown) < len(self._runs):
            table.caption = f"after {len(self._runs) - len(shown)} earlier runs"
        return table

    @staticmethod
    def _name(run: _Run, *, wide: bool) -> str:
        name = run.name if run.measured else f"({run.name})"
        return name if wide or len(name) <= _NARROW_NAME else f"{name[: _NARROW_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"


def _bar(run: _Run, *, wide: bool) -> RenderableType:
    from rich.progress_bar import ProgressBar

    completed = min(run.at_s, run.duration_s)
    return ProgressBar(total=run.duration_s, completed=completed, width=_BAR_WIDTH if wide else _BAR_WIDTH // 2)
