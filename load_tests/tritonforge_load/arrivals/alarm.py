"""Wakes a greenlet at a moment, about a tenth of a millisecond late at most where a core is free."""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any, Final

from tritonforge_client.extras import require_extra

gevent: Any = require_extra("gevent", "load")

_READ: Final = 1  # of gevent's loops
_TIMER_ABSTIME: Final = 1  # include/uapi/linux/timerfd.h
_NS_PER_S: Final = 1_000_000_000


class _Setting(ctypes.Structure):
    """``struct itimerspec``: rings once when the interval is 0."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("moment_s", ctypes.c_long),
        ("moment_ns", ctypes.c_long),
    )


class Alarm:
    """Lets one greenlet wait for moments, while all others run.

    gevent's own timers are late by up to a millisecond, for epoll counts its time-outs in whole ones. A timer of the
    kernel that is a file (``timerfd_create(2)``, Linux) ends epoll's wait on time, and the process sleeps until then.

    Raises:
        OSError: The kernel gives no timer.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        # The clock is that of time.perf_counter().
        self._file = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._file < 0:
            raise _error()
        self._hub = gevent.get_hub()
        self._rings = self._hub.loop.io(self._file, _READ)
        self._turn = self._hub.loop.timer(0)
        self._setting = _Setting()
        self._setting_address = ctypes.byref(self._setting)
        self._is_cancelled = False

    def wait_until(self, moment_s: float, awake_s: float = 0.0) -> bool:
        """Wait for a moment; for one that has passed, until all other greenlets had their turn.

        Args:
            moment_s: The moment, by ``time.perf_counter()``.
            awake_s: For how long before it the process does not sleep: greenlets go on as before, but where nobody has
                anything to do the event loop goes around.

        Returns:
            Whether it has come; false when ``cancel`` was called.
        """
        while not self._is_cancelled:
            if moment_s - awake_s > time.perf_counter():
                self._set(int((moment_s - awake_s) * _NS_PER_S) + 1)
                self._hub.wait(self._rings)
            else:
                self._hub.wait(self._turn)
            if moment_s <= time.perf_counter():
                break
        return not self._is_cancelled

    def cancel(self) -> None:
        """Wait for nothing any more, and end the wait that there is."""
        self._is_cancelled = True
        self._set(1)

    def close(self) -> None:
        """Give the timer back."""
        self._rings.close()
        self._turn.close()
        os.close(self._file)

    def _set(self, moment_ns: int) -> None:
        self._setting.moment_s, self._setting.moment_ns = divmod(moment_ns, _NS_PER_S)
        if self._libc.timerfd_settime(self._file, _TIMER_ABSTIME, self._setting_address, None) != 0:
            raise _error()


def _error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"timerfd: {os.strerror(code)}")
