"""The order in which the ensembles of a spec are made: each after those that it is made of."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches

from tritonforge_generator.errors import ConfigError
from tritonforge_generator.spec import EnsembleOptions


def ensembles_in_order(
    ensembles: Sequence[EnsembleOptions], *, models: Collection[str], published: Collection[str]
) -> list[EnsembleOptions]:
    """Put ensembles after the ensembles that are steps of them; refuse steps that nobody serves.

    Args:
        ensembles: As declared.
        models: Names of the spec's models.
        published: Names of the models that are in the repository already.

    Raises:
        ConfigError: A step names no model (rule X1), or ensembles lead back to themselves (rule X2).
    """
    names = {ensemble.name for ensemble in ensembles}
    known = sorted({*names, *models, *published})
    for ensemble in ensembles:
        for index, step in enumerate(ensemble.steps):
            if step.model_name not in known:
                close = get_close_matches(step.model_name, known, n=1)
                raise ConfigError(
                    f"ensemble '{ensemble.name}': ensemble_scheduling.step[{index}].model_name is no model",
                    expected=f"a model of the spec or of the repository: {', '.join(known)}",
                    got=f"'{step.model_name}'",
                    action=f"Did you mean '{close[0]}'?" if close else "Declare it under models, or publish it first.",
                )
    ordered: list[EnsembleOptions] = []
    waiting = list(ensembles)
    while waiting:
        blocked = {ensemble.name for ensemble in waiting}
        ready = [one for one in waiting if not blocked & {step.model_name for step in one.steps}]
        if not ready:
            raise ConfigError(
                "ensembles lead back to themselves",
                expected="steps that are models, or other ensembles that do not lead back",
                got=" -> ".join(_circle(waiting)),
            )
        ordered += ready
        waiting = [one for one in waiting if one not in ready]
    return ordered


def _circle(ensembles: Sequence[EnsembleOptions]) -> list[str]:
    """Follow ensembles that all wait for one another until one comes again."""
    waiting = {ensemble.name: ensemble for ensemble in ensembles}
    way = [ensembles[0].name]
    while way.count(way[-1]) == 1:
        way.append(next(step.model_name for step in waiting[way[-1]].steps if step.model_name in waiting))
    return way[way.index(way[-1]) :]
