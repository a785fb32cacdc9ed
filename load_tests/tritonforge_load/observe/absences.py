"""What could not be observed, since when and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

_MOST_GAPS: Final = 5


@dataclass(frozen=True, slots=True)
class Reading:
    """What one source said at one moment.

    Attributes:
        values: Finite values by name.
        absent: Why something is not among them, by kind; see ``Timeline``.
    """

    values: dict[str, float] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Gap:
    from_s: float
    to_s: float
    reason: str


class Absences:
    """Gaps by kind: the same reason in samples that follow one another is one gap."""

    def __init__(self) -> None:
        self._gaps: dict[str, list[_Gap]] = {}
        self._first_s = 0.0
        self._last_s: float | None = None

    def note(self, at_s: float, absent: Mapping[str, str]) -> None:
        """Add one sample.

        Args:
            at_s: Its time in seconds.
            absent: Why something is not in it, by kind. A gap of any other kind has ended.
        """
        if self._last_s is None:
            self._first_s = at_s
        for kind, reason in absent.items():
            gaps = self._gaps.setdefault(kind, [])
            if gaps and gaps[-1].to_s == self._last_s and gaps[-1].reason == reason:
                gaps[-1].to_s = at_s
            else:
                gaps.append(_Gap(at_s, at_s, reason))
        self._last_s = at_s

    def to_dict(self) -> dict[str, str]:
        """The reasons by kind, each with its times where it was not so in all samples."""
        return {kind: self._text(gaps) for kind, gaps in self._gaps.items()}

    def _text(self, gaps: list[_Gap]) -> str:
        if (gaps[0].from_s, gaps[0].to_s) == (self._first_s, self._last_s):
            return gaps[0].reason
        texts = [f"{_when(gap)}: {gap.reason}" for gap in gaps[:_MOST_GAPS]]
        if len(gaps) > _MOST_GAPS:
            texts.append(f"and {len(gaps) - _MOST_GAPS} times more, last {_when(gaps[-1])}")
        return "; ".join(texts)


def _when(gap: _Gap) -> str:
    return f"at {gap.from_s:.1f} s" if gap.from_s == gap.to_s else f"from {gap.from_s:.1f} s to {gap.to_s:.1f} s"
