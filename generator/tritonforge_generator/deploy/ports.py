"""TCP ports for a server: free ones, checked ones, and who listens on them."""

from __future__ import annotations

import contextlib
import errno
import socket
from pathlib import Path

from tritonforge_generator.errors import PortInUseError, ServerError

_LISTEN = "0A"  # state in /proc/net/tcp (net/tcp_states.h)


def choose_ports(host: str, requested: tuple[int | None, int | None, int | None]) -> tuple[int, int, int]:
    """Return ports for the HTTP, gRPC and metrics services that are free at this moment, all different.

    Args:
        host: Address to listen on.
        requested: Ports asked for; ``None`` stands for any free one.

    Raises:
        PortInUseError: A port that was asked for is taken.
        ServerError: The host is not an address of this machine, or a port is out of range or given twice.
    """
    given = [port for port in requested if port is not None]
    for port in given:
        if not 1 <= port <= 65535:
            raise ServerError("a port is out of range", expected="1 to 65535, or None for a free one", got=str(port))
        if given.count(port) > 1:
            raise ServerError(f"port {port} was given twice", expected="a port of its own for each service")
    with contextlib.ExitStack() as held:
        # All sockets stay open until every port is known, so that no port comes out twice.
        http, grpc, metrics = (held.enter_context(_bound(host, port)).getsockname()[1] for port in requested)
    return http, grpc, metrics


def port_in_use(port: int, host: str) -> PortInUseError:
    """Return the error for a taken port."""
    return PortInUseError(
        f"port {port} on {host} is in use by another process",
        action=f"Choose another port, or none to get a free one; `ss -ltnp 'sport = :{port}'` shows who holds it",
    )


def listens(pid: int, port: int) -> bool:
    """Tell whether a process itself listens on a TCP port, and not another one that got there first.

    Args:
        pid: The process; it belongs to this user.
        port: The port.
    """
    inodes = set()
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                inodes.add(str(descriptor.readlink()))
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for row in Path(f"/proc/{pid}/net/{table}").read_text("ascii").splitlines()[1:]:
                fields = row.split()
                here = fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port
                if here and f"socket:[{fields[9]}]" in inodes:
                    return True
    return False


def _bound(host: str, port: int | None) -> socket.socket:
    """Return a listening socket; its port is free for whoever binds it next."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # As the server does it: ports of closed connections (TIME_WAIT) count as free, listening ones do not.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port or 0))
        listener.listen()
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE and port is not None:
            raise port_in_use(port, host) from error
        raise ServerError(
            f"the server cannot listen on {host}" + (f" port {port}" if port is not None else ""),
            expected="an IPv4 address or host name of this machine, and a port that this user may open",
            got=str(error),
        ) from error
    return listener
