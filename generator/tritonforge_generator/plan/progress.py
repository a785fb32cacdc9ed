"""How far a build is, from what TensorRT tells."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, Final

from tritonforge_generator.plan import tensorrt_api

OnProgress = Callable[[float | None, str], None]
"""Called with the share done, 0 to 1 or ``None`` when unknown, and what is being done."""

_LAYERS: Final = re.compile(r"After .*: (\d+) layers")
_COSTS: Final = re.compile(r"=+ Computing costs for\s*(.*)")
_LEAST_PAUSE_S: Final = 0.2


class LogProgress:
    """Reads the progress off the log, for TensorRT 8.6, which has no progress monitor.

    The builder says how many layers are left after its optimisations, and then whose costs it computes.
    """

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._total = 0
        self._done = 0
        self._last_s = 0.0

    def take(self, message: str) -> None:
        """Look at one message of the log."""
        if (found := _LAYERS.search(message)) is not None:
            self._total = int(found[1])
        elif (found := _COSTS.search(message)) is not None:
            self._done += 1
            now = time.monotonic()
            if now - self._last_s >= _LEAST_PAUSE_S:
                self._last_s = now
                share = min(self._done / self._total, 0.99) if self._total > 0 else None
                self._on_progress(share, f"timing {found[1].strip()}")


def monitor(on_progress: OnProgress) -> Any | None:
    """An ``IProgressMonitor`` for TensorRT 10 and later; ``None`` for versions without."""
    trt = tensorrt_api.tensorrt()
    if not hasattr(trt, "IProgressMonitor"):
        return None

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]  # the base is only known at run time
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, tuple[int, bool]] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = (num_steps, parent_phase is None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            count, outermost = self._steps.get(phase_name, (0, False))
            if count > 0:
                on_progress(step / count if outermost else None, phase_name)
            return True

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

    return Monitor()
