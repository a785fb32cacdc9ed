"""A server that sends back what it gets, in a process of its own; it can be told to do nothing for a while."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import time
from typing import Final

from support.child import Child, say
from typing_extensions import Self

_MOST_BYTES: Final = 4096


class Echo:
    """A server on 127.0.0.1 in a process of its own.

    Args:
        core: The CPU that it may use; any when ``None``.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, core: int | None = None) -> None:
        self._child = Child("support.echo", *([] if core is None else [str(core)]))
        self.port = int(self._child.said["port"])

    def freeze(self, for_s: float) -> None:
        """Let it do nothing from now on, for so many seconds; what comes waits in the kernel."""
        self._child.tell(for_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close()


def serve() -> None:
    """Serve until the standard input ends; a number on it freezes."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    say({"port": listener.getsockname()[1]})
    connections: dict[int, socket.socket] = {}
    polling = select.epoll()
    polling.register(listener, select.EPOLLIN)
    polling.register(sys.stdin, select.EPOLLIN)
    while True:
        for file, _ in polling.poll():
            if file == listener.fileno():
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[connection.fileno()] = connection
                polling.register(connection, select.EPOLLIN)
            elif file == sys.stdin.fileno():
                said = os.read(file, _MOST_BYTES)
                if said == b"":
                    return
                time.sleep(float(said))
            else:
                data = b""
                with contextlib.suppress(ConnectionError):
                    data = connections[file].recv(_MOST_BYTES)
                    connections[file].sendall(data)
                if data == b"":
                    polling.unregister(file)
                    connections.pop(file).close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        os.sched_setaffinity(0, {int(sys.argv[1])})
    serve()
