"""Phases as a Locust load shape."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from tritonforge_client.extras import require_extra
from tritonforge_load.campaign import Phase

if TYPE_CHECKING:
    import locust
else:
    locust = require_extra("locust", "load")

gevent: Any = require_extra("gevent", "load")

_USERS_TIMEOUT_S: Final = 60.0
_SETTLE_S: Final = 0.5
_POLL_S: Final = 0.02


class PhaseShape(locust.LoadTestShape):
    """Plays phases one after the other.

    Locust asks a shape what to do next. Each phase is two answers: first its users are started or stopped; then, once
    all are there and have worked for half a second, the phase begins and the shape sleeps until it is over. So every
    phase is exactly as long as declared, none is skipped while users are started, and a phase is only measured with
    all of its users at work. After the last phase all users are stopped, which lets their last requests end.

    Args:
        phases: The phases.
        prepare: Called before the first phase.
        begin: Called with the index of a phase when it begins.
        finish: Called when all users have stopped.
    """

    abstract = True

    def __init__(
        self,
        phases: Sequence[Phase],
        *,
        prepare: Callable[[], None],
        begin: Callable[[int], None],
        finish: Callable[[], None],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Locust's is not annotated
        self._phases = tuple(phases)
        self._prepare = prepare
        self._begin = begin
        self._finish = finish
        self._steps = self._play()

    def restart(self) -> None:
        """Start from the first phase again at the next tick."""
        self._steps = self._play()

    def tick(self) -> tuple[int, float] | None:
        """Locust's question: how many users now, started at which rate per second; ``None`` at the end."""
        return next(self._steps, None)

    def _play(self) -> Iterator[tuple[int, float]]:
        self._prepare()
        # All users at once: Locust blocks while it starts users, and a constant rate keeps equal steps equal.
        spawn_rate = float(max(phase.users for phase in self._phases))
        for index, phase in enumerate(self._phases):
            yield phase.users, spawn_rate
            self._wait_for_users(phase.users)
            _sleep(_SETTLE_S)
            self._begin(index)
            _sleep(phase.duration_s)
        yield 0, spawn_rate
        self._wait_for_users(0)
        self._finish()

    def _wait_for_users(self, wanted: int) -> None:
        """Wait until Locust runs the wanted number of users, or long enough that the result shall show it."""
        with gevent.Timeout(_USERS_TIMEOUT_S, False):
            while self.runner is not None and self.runner.user_count != wanted:
                gevent.sleep(_POLL_S)


def _sleep(duration_s: float) -> None:
    """Sleep no less than asked: the event loop counts from its last turn, which may be long ago on a busy core."""
    end_s = time.perf_counter() + duration_s
    while (left_s := end_s - time.perf_counter()) > 0:
        gevent.sleep(left_s)
