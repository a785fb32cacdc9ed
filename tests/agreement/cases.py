"""All cases: the tables in both modes, more by hand, and random combinations."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

from agreement.case import Case
from agreement.cases_more import more_cases, write_composing
from agreement.cases_python import python_cases
from agreement.drawing import Drawn, drawn_cases
from agreement.from_tables import table_cases
from agreement.grammar import onnx_models, python_models
from agreement.grammar_ensembles import ensembles
from generator.lint.ensemble_cases import write_repository
from hypothesis import strategies as st

_RANDOM: Final[tuple[tuple[str, st.SearchStrategy[Drawn], int], ...]] = (
    ("python", python_models(), 150),
    ("onnx", onnx_models(), 100),
    ("ensemble", ensembles(), 120),
)


@cache
def all_cases() -> tuple[Case, ...]:
    """Return every case; their names differ."""
    cases = [*table_cases(), *python_cases(), *more_cases()]
    for kind, models, count in _RANDOM:
        cases += drawn_cases(kind, models, count)
    return tuple(cases)


def write_cases(repository: Path, cases: Iterable[Case]) -> None:
    """Write cases, and what ensembles are made of, into a repository."""
    write_repository(repository)
    write_composing(repository)
    for case in cases:
        case.write(repository)
