"""Tables for a terminal that is as narrow as it happens to be."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tritonforge_client.extras import require_extra

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

_WIDTH: Final = 120  # of what is no terminal
_GAP: Final = 3  # between two columns
_MOST_FOR_A_NAME: Final = 18  # letters; longer ones fold where the terminal is narrow
_MOST_FOR_A_SENTENCE: Final = 24
_STYLES: Final = {
    "PASS": "green", "held": "green", "better": "green", "FAIL": "bold red", "no": "red", "worse": "bold red",
    "INVALID": "yellow", "invalid": "yellow", "INCONCLUSIVE": "yellow", "unknown": "yellow",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: Its heading.
        cells: Its cells, as many as in the other columns.
        keep: The columns with the lowest number go first where the terminal is too narrow; 0 always stays.
        left: Whether it is words rather than figures.
        folds: Whether its cells are sentences, which take several lines where the terminal is narrow.
    """

    name: str
    cells: Sequence[str]
    keep: int = 0
    left: bool = False
    folds: bool = False

    @property
    def width(self) -> int:
        """Letters that it needs."""
        widest = max([len(self.name), *(len(cell) for cell in self.cells)])
        if not self.left:
            return widest
        return min(widest, _MOST_FOR_A_SENTENCE if self.folds else _MOST_FOR_A_NAME)


def table_of(title: str, columns: Sequence[Column], width: int) -> list[RenderableType]:
    """Build a table that fits: columns of less importance are left out, and said to be.

    Args:
        title: Its title.
        columns: Its columns.
        width: Letters that a line holds.

    Raises:
        MissingExtraError: rich is not installed.
    """
    require_extra("rich", "load")
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = list(columns)
    while sum(column.width + _GAP for column in shown) > width and any(column.keep > 0 for column in shown):
        least = min(column.keep for column in shown if column.keep > 0)
        shown.remove(next(column for column in reversed(shown) if column.keep == least))
    left_out = [column.name for column in columns if column not in shown]
    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in shown:
        table.add_column(
            Text(column.name), justify="left" if column.left else "right", overflow="fold", no_wrap=not column.left
        )
    for row in zip(*(column.cells for column in shown), strict=True):
        table.add_row(*(_cell(text) for text in row))
    return [table, Text(f"Too narrow for {', '.join(left_out)}.\n", style="dim")] if left_out else [table]


def _cell(text: str) -> Text:
    from rich.text import Text

    return Text(text, style=_STYLES.get(text, ""))


def paragraph(text: str, style: str = "") -> Text:
    """Words that fold, in which nothing is markup.

    Args:
        text: The words.
        style: A style of rich.

    Raises:
        MissingExtraError: rich is not installed.
    """
    require_extra("rich", "load")
    from rich.text import Text

    return Text(text, style=style)


def text_of(shown: Sequence[RenderableType], width: int | None = None) -> str:
    """Text of renderables, in colour where standard output is a terminal.

    Args:
        shown: The renderables.
        width: Letters that a line holds, ``width_of_output`` if not given.
    """
    from rich.console import Console

    out = io.StringIO()
    colour = sys.stdout.isatty()
    console = Console(
        file=out, width=width or width_of_output(), force_terminal=colour, highlight=False,
        color_system="standard" if colour else None,
    )  # fmt: skip
    for one in shown:
        console.print(one)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())


def width_of_output() -> int:
    """Letters of a line of the terminal; where the output is none, what logs and files hold well."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH
