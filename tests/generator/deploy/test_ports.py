from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from tritonforge_generator.deploy.ports import choose_ports, listens
from tritonforge_generator.errors import PortInUseError, ServerError


def test_free_ports_are_free_and_different() -> None:
    ports = choose_ports("127.0.0.1", (None, None, None))
    assert len(set(ports)) == 3
    for port in ports:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


def test_a_given_port_is_kept() -> None:
    free = choose_ports("127.0.0.1", (None, None, None))[1]
    assert choose_ports("127.0.0.1", (None, free, None))[1] == free


@pytest.mark.parametrize("holder", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("shared", [False, True])
def test_a_held_port_is_refused_even_when_its_holder_shares_it(holder: str, shared: bool) -> None:
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
        held.bind((holder, 0))
        held.listen()
        port: int = held.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"port {port} .* Choose another port"):
            choose_ports("127.0.0.1", (None, None, port))


def test_an_unknown_host_is_refused() -> None:
    with pytest.raises(ServerError, match=r"cannot listen on no-such-host\.invalid"):
        choose_ports("no-such-host.invalid", (None, None, None))


def test_listens_tells_the_holder_from_others() -> None:
    with socket.socket() as held, subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        assert not listens(os.getpid(), port)  # bound is not yet listening
        held.listen()
        assert listens(os.getpid(), port)
        assert not listens(other.pid, port)
        other.kill()
