"""Random cases that are the same each time."""

from __future__ import annotations

from typing import Final, TypeAlias

from agreement.case import Case, Files
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

Drawn: TypeAlias = tuple[str, Files]
"""A config, in which SELF stands for the model's name, and the model's other files."""

_SEED: Final = 20241


def drawn_cases(kind: str, models: st.SearchStrategy[Drawn], count: int) -> tuple[Case, ...]:
    """Draw models from a fixed seed, none twice.

    Args:
        kind: Part of their names.
        models: Where they are drawn from.
        count: How many are kept.
    """
    found: dict[tuple[str, frozenset[tuple[str, str | bytes]], bool], Case] = {}

    # More than are kept: hypothesis draws some twice.
    @seed(_SEED)
    @settings(
        max_examples=2 * count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(models, st.booleans())
    def draw(model: Drawn, strict: bool) -> None:
        config, files = model
        name = f"random_{kind}_{len(found)}"
        key = (config, frozenset(files.items()), strict)
        found.setdefault(key, Case(name, config.replace("SELF", name), files, strict, "", "random"))

    draw()
    return tuple(found.values())[:count]
