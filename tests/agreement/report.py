"""How often the linter and the server agree, by group of rules."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from agreement.case import Case
from agreement.known import Known, known_reason
from agreement.server import Judgement
from rich.console import Console
from rich.table import Table

from tritonforge_generator.lint import Finding

_GROUPS: Final = {
    "A": "back-end by names and files",
    "B": "batch inputs and outputs",
    "C": "config as a whole",
    "D": "model files",
    "E": "ensembles alone",
    "G": "instance groups",
    "I": "inputs and outputs",
    "M": "labels, libraries",
    "N": "ONNX settings",
    "O": "ONNX tensors",
    "P": "reading",
    "R": "repository",
    "S": "sequences, states",
    "V": "versions",
    "W": "warm-up",
    "X": "ensembles and models",
    "Y": "Python back-end",
    "random": "combinations",
}


@dataclass(frozen=True)
class Outcome:
    """What both say of one case.

    Attributes:
        case: The case.
        first: The linter's first error; ``None`` without any.
        judged: The server's judgement.
        config_differences: Where ``inspect --completed`` differs from the config that the server serves; ``None`` when
            the server serves none, or when only running the back-end tells what it completes.
    """

    case: Case
    first: Finding | None
    judged: Judgement
    config_differences: tuple[str, ...] | None = None

    @property
    def verdict_agrees(self) -> bool:
        """Whether both refuse or both accept the model."""
        return (self.first is None) == (self.judged.refusal == "")

    @property
    def text_agrees(self) -> bool:
        """Whether the linter's first text is the server's, letter for letter."""
        return ("" if self.first is None else self.first.text.rstrip()) == self.judged.refusal

    @property
    def known(self) -> Known | None:
        """Why they differ; ``None`` when they agree or nobody knows."""
        rule = "" if self.first is None else self.first.rule
        return None if self.text_agrees else known_reason(rule, self.judged.refusal)

    @property
    def counts(self) -> bool:
        """Whether the case decides anything: the embedded server enforces what it is about."""
        return self.known is None or self.known.kind != "not enforced here"

    def to_json(self) -> dict[str, Any]:
        """Return what is needed to look into a difference."""
        return {
            "case": self.case.name,
            "group": self.case.group,
            "rule": "" if self.first is None else self.first.rule,
            "lint": "" if self.first is None else self.first.text,
            "server": self.judged.refusal,
            "crashes": self.judged.crashes,
            "reason": "" if self.known is None else self.known.reason,
            "config_differences": self.config_differences,
        }


@dataclass(frozen=True)
class Report:
    """Agreement over many cases.

    Attributes:
        outcomes: One a case.
        deaths: How many times a server died, or answered no more.
        interrupted: Names of the cases that were being loaded then.
    """

    outcomes: Sequence[Outcome]
    deaths: int = 0
    interrupted: Sequence[str] = ()

    @cached_property
    def counted(self) -> list[Outcome]:
        """The cases that decide something."""
        return [outcome for outcome in self.outcomes if outcome.counts]

    @property
    def verdict_share(self) -> float:
        """Share of the counted cases with the same verdict."""
        return sum(outcome.verdict_agrees for outcome in self.counted) / len(self.counted)

    @property
    def text_share(self) -> float:
        """Share of the counted cases with the same first text."""
        return sum(outcome.text_agrees for outcome in self.counted) / len(self.counted)

    @property
    def unexplained(self) -> list[Outcome]:
        """Cases that differ and nobody knows why."""
        return [one for one in self.outcomes if not one.text_agrees and one.known is None]

    @property
    def crashes(self) -> list[Outcome]:
        """Cases that the server died of at least once."""
        return [outcome for outcome in self.outcomes if outcome.judged.crashes > 0]

    @property
    def wrong_configs(self) -> list[Outcome]:
        """Cases whose completed config differs from the one that the server serves."""
        return [outcome for outcome in self.outcomes if outcome.config_differences]

    def _row(self, outcomes: Sequence[Outcome]) -> list[str]:
        counted = [outcome for outcome in outcomes if outcome.counts]
        completed = [outcome for outcome in outcomes if outcome.config_differences is not None]
        return [
            str(len(outcomes)),
            str(sum(outcome.judged.refusal == "" for outcome in outcomes)),
            f"{sum(outcome.verdict_agrees for outcome in counted)}/{len(counted)}",
            f"{sum(outcome.text_agrees for outcome in counted)}/{len(counted)}",
            str(len(outcomes) - len(counted)),
            f"{sum(outcome.config_differences == () for outcome in completed)}/{len(completed)}",
        ]

    def table(self) -> Table:
        """Return the agreement by group."""
        table = Table(title="Agreement of lint with Triton 2.51")
        for number, title in enumerate(
            ("group", "", "cases", "load", "same verdict", "same first text", "not enforced here", "same config")
        ):
            table.add_column(title, justify="left" if number < 2 else "right")
        for group, meaning in _GROUPS.items():
            outcomes = [outcome for outcome in self.outcomes if outcome.case.group == group]
            if outcomes:
                table.add_row(group, meaning, *self._row(outcomes))
        table.add_section()
        table.add_row("all", "", *self._row(self.outcomes))
        return table

    def differences(self) -> list[str]:
        """Return a line a reason with how often it occurs, then what nobody knows the reason of, and crashes."""
        reasons = Counter(one.known.reason for one in self.outcomes if one.known is not None)
        lines = [f"{count} x {reason}" for reason, count in reasons.most_common()]
        for one in self.unexplained:
            lint = "loads" if one.first is None else f"{one.first.rule}: {one.first.text}"
            lines.append(f"UNKNOWN {one.case.name}\n  lint:   {lint}\n  server: {one.judged.refusal or 'loads'}")
        lines += [f"CRASH {one.case.name}: {one.judged.crashes} times" for one in self.crashes]
        lines += [f"CONFIG {one.case.name}: {', '.join(one.config_differences or ())}" for one in self.wrong_configs]
        return [*lines, f"The server died {self.deaths} times, while it loaded: {', '.join(self.interrupted) or '-'}"]

    def show(self) -> None:
        """Print the table and the differences."""
        console = Console(width=140)
        console.print(self.table())
        for line in self.differences():
            console.print(line, highlight=False, markup=False)

    def write(self, path: Path) -> None:
        """Write every outcome as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = {
            "cases": len(self.outcomes),
            "counted": len(self.counted),
            "verdict_share": self.verdict_share,
            "text_share": self.text_share,
            "deaths": self.deaths,
            "interrupted": list(self.interrupted),
            "outcomes": [outcome.to_json() for outcome in self.outcomes],
        }
        path.write_text(json.dumps(whole, indent=1))
