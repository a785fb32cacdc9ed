"""The addresses of a host name, from the system's resolver."""

from __future__ import annotations

import socket


class Resolver:
    """Asks for the addresses of one host name.

    Args:
        host: The name.
        port: The port that is to be connected to.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port

    def addresses(self, timeout_s: float | None = None) -> list[str]:  # noqa: ARG002 - nothing ends the system's call
        """Ask in this thread.

        Args:
            timeout_s: Is not kept: the system's resolver has a limit of its own.

        Returns:
            Addresses of IPv4 and IPv6, the preferred one first.

        Raises:
            OSError: The name has no address, or nobody answers.
            ValueError: It cannot be a name.
        """
        found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        return [str(socket_address[0]) for *_, socket_address in found]
