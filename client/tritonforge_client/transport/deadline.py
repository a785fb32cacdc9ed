"""Sockets whose timeout is that of the whole exchange.

A socket's own timeout starts again with every byte that arrives, so a slow server can keep a caller waiting for ever.
Here ``settimeout`` starts a clock, and each operation after it gets only what is left.
"""

from __future__ import annotations

import io
import socket
import time
from typing import Any, Final, Literal

import urllib3
from urllib3.connection import HTTPConnection

# Below this size one more copy is cheaper than one more system call.
_GATHER_BELOW_BYTES: Final = 64 * 1024


class DeadlineSocket:
    """The part of a socket that ``http.client`` and urllib3 use, with a deadline.

    What is sent is gathered up to some size, so that the headers and a small body leave in one packet.

    Args:
        inner: A connected socket; its own timeout becomes the first deadline.
    """

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        self._gathered = bytearray()
        self._end_s: float | None = None
        self.settimeout(inner.gettimeout())

    def settimeout(self, timeout_s: float | None) -> None:
        """Give all that follows this many seconds."""
        self._end_s = None if timeout_s is None else time.monotonic() + timeout_s

    def sendall(self, data: bytes | memoryview) -> None:
        """Send all of a buffer before the deadline; a small one waits for the next or for ``makefile``."""
        if len(self._gathered) + len(data) < _GATHER_BELOW_BYTES:
            self._gathered += data
            return
        self._flush()
        self.arm()
        self._inner.sendall(data)

    def makefile(self, mode: Literal["rb"]) -> io.BufferedReader:
        """Send what was gathered and return a reader of what arrives before the deadline."""
        self._flush()
        return io.BufferedReader(_DeadlineReader(self, self._inner.makefile(mode, buffering=0)))

    def fileno(self) -> int:
        """Return the file descriptor, for polling."""
        return self._inner.fileno()

    def close(self) -> None:
        """Close the socket once its readers are closed."""
        self._inner.close()

    def shutdown(self, how: int) -> None:
        """Shut down the connection."""
        self._inner.shutdown(how)

    def arm(self) -> None:
        """Allow the next operation what is left.

        Raises:
            TimeoutError: Nothing is left.
        """
        if self._end_s is None:
            self._inner.settimeout(None)
            return
        left_s = self._end_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        self._inner.settimeout(left_s)

    def _flush(self) -> None:
        if len(self._gathered) > 0:
            self.arm()
            self._inner.sendall(self._gathered)
            self._gathered = bytearray()


class _DeadlineReader(io.RawIOBase):
    def __init__(self, owner: DeadlineSocket, raw: socket.SocketIO) -> None:
        self._owner = owner
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._owner.arm()
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class DeadlineConnection(HTTPConnection):
    """A connection over a ``DeadlineSocket``."""

    def connect(self) -> None:
        """Connect, and let the timeout count for the whole exchange."""
        super().connect()
        self.sock: Any = DeadlineSocket(self.sock)


class DeadlinePool(urllib3.HTTPConnectionPool):
    """A connection pool whose ``Timeout(total=...)`` covers sending and receiving every byte."""

    ConnectionCls = DeadlineConnection  # pyright: ignore[reportAssignmentType] - as urllib3's own pools do
