"""Stages of the way through the generator, and the time that each takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

Stage = Literal["source", "graph", "precision", "plan", "config", "verify", "serve", "publish"]
OnStage = Callable[[str, str], None]
"""Called with the model's name when a stage begins, and while a plan is built."""


@contextmanager
def timed(model: str, stage: Stage, stage_s: dict[Stage, float], on_stage: OnStage) -> Iterator[None]:
    """Say that a stage begins, and add its seconds.

    Args:
        model: Model name.
        stage: The stage.
        stage_s: Seconds by stage so far.
        on_stage: Told.
    """
    on_stage(model, stage)
    start = time.perf_counter()
    yield
    stage_s[stage] = stage_s.get(stage, 0.0) + time.perf_counter() - start
