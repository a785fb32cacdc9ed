"""Every rule broken alone and its neighbour, in both modes, from the tables that the linter's own tests go through."""

from __future__ import annotations

from collections.abc import Iterator

from agreement.case import Case, in_both_modes
from generator.lint.ensemble_cases import ENSEMBLES
from generator.lint.table import CASES


def table_cases() -> Iterator[Case]:
    """Yield the models of the tables; a neighbour that several rules share comes once."""
    seen: set[tuple[str, str | None, frozenset[tuple[str, str | bytes]]]] = set()
    for number, case in enumerate(CASES):
        yield from in_both_modes(case.rule, number, "broken", case.broken, case.broken_files or case.files)
        key = (case.rule[0], case.valid, frozenset(case.files.items()))
        if key not in seen:
            seen.add(key)
            yield from in_both_modes(case.rule, number, "neighbour", case.valid, case.files)
    for number, ensemble in enumerate(ENSEMBLES, start=len(CASES)):
        yield from in_both_modes(ensemble.rule, number, "broken", ensemble.broken, {"1/": ""})
    yield from in_both_modes("E1", len(CASES), "neighbour", ENSEMBLES[0].valid, {"1/": ""})
