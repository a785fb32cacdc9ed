"""How many calls a client makes at once."""

from __future__ import annotations

import threading

from tritonforge_client.core.call import Call
from tritonforge_client.errors import ErrorContext, TooManyInFlight


class InFlight:
    """The calls in flight of one client. Threads may share it.

    One call too many fails at once instead of waiting: dynamic batching hides overload until the queue is deep, and a
    second queue in the client would hide it longer.

    Args:
        limit: Calls at once; ``None`` for any number.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._count = 0
        self._lock = threading.Lock()

    def enter(self, call: Call | None = None) -> None:
        """Begin a call. ``leave`` ends it, unless this raises.

        Args:
            call: Named in the error.

        Raises:
            TooManyInFlight: As many calls as the limit are in flight.
        """
        if self._limit is None:
            return
        with self._lock:
            if self._count < self._limit:
                self._count += 1
                return
        context: ErrorContext = call.error_context() if call is not None else {}
        raise TooManyInFlight(
            f"{self._limit} calls are in flight, as many as max_in_flight allows, so nothing was sent; "
            "wait for some to end, make fewer at once, or raise max_in_flight",
            **context,
        )

    def leave(self) -> None:
        """End a call."""
        if self._limit is None:
            return
        with self._lock:
            self._count -= 1
