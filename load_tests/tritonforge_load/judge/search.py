"""The search for the highest load that a server holds, as a machine without a clock: loads come out, verdicts go in.

As MLPerf LoadGen finds peak performance (``FindPeakPerformanceMode`` in
https://github.com/mlcommons/inference/blob/master/loadgen/loadgen.cc): the load is doubled until one fails, then the
stretch between the highest that held and the lowest that failed is halved until it is narrow enough. Beyond that, the
load that comes out is played again. When it then fails, chance had decided: it counts as failed, the search goes on
below it, and after each further time in a stretch that begins twice as far below.

A load at which the generator did not keep up says nothing about the server. As a moment's pause of its host is enough
for that, it is played once more before the search gives up there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tritonforge_load.campaign.phases import Search
from tritonforge_load.measure.results import SearchOutcome, SearchStep

_SMALLEST_STEP: Final = 1
"""Users are whole."""


class SearchPlan:
    """One search.

    ::

        plan = SearchPlan(search)
        while (load := plan.next_load()) is not None:
            ...
            plan.record(run, load, held, reasons, generator_was_limit=...)
        outcome = plan.outcome()
    """

    def __init__(self, search: Search) -> None:
        """Begin.

        Args:
            search: What is looked for.
        """
        self._search = search
        self._steps: list[SearchStep] = []
        self._held: set[float] = set()
        self._paused: set[float] = set()
        self._failed: _Failed | None = None
        self._confirmed = 0
        self._disagreements = 0

    def next_load(self) -> float | int | None:
        """The load to play next, users as a whole number; ``None`` when the search has ended."""
        load = self._next()
        return load if load is None or self._search.over == "rate" else int(load)

    def record(
        self, run: str, load: float, held: bool, reasons: Sequence[str] = (), *, generator_was_limit: bool = False
    ) -> None:
        """Add what was found at the load that was to be played next.

        Args:
            run: Name of its run.
            load: The load.
            held: Whether every assertion held and the generator kept up.
            reasons: Why it did not hold.
            generator_was_limit: Whether the run is invalid, so that it says nothing about the server.

        Raises:
            ValueError: Another load was to be played, or none.
        """
        expected = self.next_load()
        if load != expected:
            raise ValueError(f"expected the load {expected}, got {load}")
        self._steps.append(SearchStep(run, load, held, tuple(reasons)))
        if generator_was_limit and load not in self._paused:
            self._paused.add(load)
            return
        again = load in self._held
        if held:
            self._confirmed += again
            self._held.add(load)
            return
        ceiling = load
        if again:
            # Chance grows where the server is near its limit: the search keeps off, further each time.
            ceiling = load * (1 - self._search.precision * (2**self._disagreements - 1))
            self._disagreements += 1
        self._confirmed = 0
        self._held = {known for known in self._held if known < ceiling}
        self._failed = _Failed(load, ceiling, by_generator=generator_was_limit, again=again)

    def outcome(self) -> SearchOutcome:
        """What was found; nothing when the search has not ended."""
        over, steps = self._search.over, tuple(self._steps)
        if self._next() is not None:
            return SearchOutcome(over, None, False, "the search was stopped before its end", steps)
        is_limit = self._failed is not None and not self._failed.by_generator
        return SearchOutcome(over, self._best, is_limit, self._why_ended(), steps)

    @property
    def _best(self) -> float | None:
        return max(self._held, default=None)

    def _next(self) -> float | None:
        search, best = self._search, self._best
        if best is None:
            return None if self._failed is not None else search.from_
        if self._failed is None:
            if best < search.to:
                return min(best * 2, search.to)
        else:
            stretch = self._failed.ceiling - best
            if search.over == "rate" and stretch > search.precision * best:
                return best + stretch / 2
            if search.over == "users" and stretch > max(_SMALLEST_STEP, search.precision * best):
                return best + max(_SMALLEST_STEP, stretch // 2)
        return best if self._confirmed < search.confirm else None

    def _text(self, load: float) -> str:
        return f"{load:.4g}/s" if self._search.over == "rate" else f"{load:.0f} users"

    def _why_ended(self) -> str:
        failed = self._failed
        if failed is None:
            return f"the highest load to try, {self._text(self._search.to)}, held: raise to"
        load = self._text(failed.load)
        if failed.by_generator:
            return f"the generator was the limit at {load}: add workers"
        if self._best is not None:
            return f"{load} did not hold{' when played again' if failed.again else ''}"
        if failed.again:
            return f"no load held twice, the last {load}: make the steps longer"
        return f"the lowest load, {load}, did not hold: begin lower"


@dataclass(frozen=True, slots=True)
class _Failed:
    """The lowest load that did not hold.

    Attributes:
        load: The load.
        ceiling: Where the search goes on below.
        by_generator: Whether the generator was the limit there.
        again: Whether it had held before.
    """

    load: float
    ceiling: float
    by_generator: bool
    again: bool


def usual_steps(search: Search) -> int:
    """Steps of a search whose limit lies near the highest load that it may try, and is confirmed at once."""
    return _doublings(search) + _halvings(search) + search.confirm


def longest_steps(search: Search) -> int:
    """Steps that no search exceeds, however server and generator scatter."""
    steps = usual_steps(search)
    if search.confirm > 0:
        # Each disagreement moves the ceiling down by twice as much, until nothing is below it.
        disagreements = math.ceil(math.log2(1 + 1 / search.precision)) + 1
        steps += disagreements * (_halvings(search) + search.confirm)
    return 2 * steps  # each may find the generator paused, and is played once more


def _doublings(search: Search) -> int:
    return 1 + math.ceil(math.log2(search.to / search.from_))


def _halvings(search: Search) -> int:
    """At most: a stretch is no longer than the load at its lower end, or than all there is."""
    if search.over == "rate":
        return math.ceil(math.log2(1 / search.precision))
    return math.ceil(math.log2(min(1 / search.precision, search.to)))
