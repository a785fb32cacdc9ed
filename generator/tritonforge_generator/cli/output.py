"""What commands share: tables, progress and JSON on the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import click

from tritonforge_client.extras import require_extra

if TYPE_CHECKING:
    from tritonforge_generator.verify import Verification


class OnStage(Protocol):
    """Told when a model enters a stage."""

    def __call__(self, model: str, stage: str, /) -> None:
        """Show it."""


def print_json(data: Any) -> None:
    """Print data for programs, and nothing else, to standard output."""
    click.echo(json.dumps(data, indent=2, default=str))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, wide: int | None = None) -> None:
    """Print a table as wide as the terminal; plain text when the output is no terminal.

    Args:
        title: Heading.
        columns: Column names.
        rows: Cells.
        wide: Index of the column that may fold.
    """
    require_extra("rich", "generator")
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=wide is not None and index != wide)
    for row in rows:
        table.add_row(*(_styled(Text, cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _styled(text: Any, cell: str) -> Any:
    styles = {"passed": "green", "yes": "green", "ok": "green", "FAILED": "bold red", "error": "red"}
    styles |= {"no": "yellow", "skipped": "yellow"}
    return text(cell, style=styles.get(cell, ""))


def print_verification(verification: Verification) -> None:
    """Print the gates of a model with the figures of each output."""
    rows = []
    for check in verification.checks:
        rows.append([check.name, check.verdict, check.summary])
        rows += [
            [f"  {figures.name}", "", _figures_text(figures.max_abs, figures.max_rel, figures.cosine, figures.top1)]
            for figures in check.figures
        ]
    print_table(f"{verification.model}: {verification.samples}", ["gate", "verdict", "evidence"], rows, wide=2)


def _figures_text(max_abs: float | None, max_rel: float | None, cosine: float | None, top1: float | None) -> str:
    parts = [
        ("max abs", f"{max_abs:.3g}" if max_abs is not None else None),
        ("max rel", f"{max_rel:.3g}" if max_rel is not None else None),
        ("cosine", f"{cosine:.9f}" if cosine is not None else None),
        ("top-1", f"{top1:.2%}" if top1 is not None else None),
    ]
    return ", ".join(f"{label} {value}" for label, value in parts if value is not None) or "equal"


@contextmanager
def progress(*, quiet: bool) -> Iterator[OnStage]:
    """Show the stages of long work: a moving line on a terminal, plain lines elsewhere.

    Args:
        quiet: Show nothing, for ``--json``.
    """
    if quiet:
        yield lambda _model, _stage, /: None
    elif sys.stderr.isatty():
        require_extra("rich", "generator")
        from rich.console import Console
        from rich.status import Status

        with Status("", console=Console(stderr=True)) as status:
            yield lambda model, stage, /: status.update(f"{model}: {stage}")
    else:
        yield lambda model, stage, /: click.echo(f"{model}: {stage}", err=True)
