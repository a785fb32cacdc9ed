"""The HTTP transport in a process that gevent has patched, as Locust's are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PREAMBLE = """
from gevent import monkey
monkey.patch_all()
import sys
sys.path.insert(0, sys.argv[1])
import gevent
from support.http_ends import OK, Blocking, each, request_from, tcp_server
"""
ROUNDS = """
def answer(server, connection):
    for _ in range(2):  # then the connection is closed without a word
        request_from(connection)
        connection.sendall(OK)

with tcp_server(answer) as server:
    client = Blocking(server.port)
    for number in range(6):
        assert client.send(b"a").body == b"ok"
        if number % 2:
            server.ended.acquire()
            gevent.sleep(0.01)  # the end has arrived
    client.close()
    assert server.connections == 3, server.connections
"""
UNASKED = """
with tcp_server(each(OK + OK, OK)) as server:
    client = Blocking(server.port)
    assert [client.send(b"a").body for _ in range(2)] == [b"ok"] * 2
    assert server.connections == 2, server.connections
    client.close()
"""
LATE = """
def answer(server, connection):
    request_from(connection)
    connection.sendall(OK)
    gevent.sleep(0.05)
    connection.sendall(OK)  # for a request that nobody made
    server.stopping.wait(10)

with tcp_server(answer) as server:
    client = Blocking(server.port)
    for _ in range(2):
        assert client.send(b"a").body == b"ok"
        gevent.sleep(0.1)
    assert server.connections == 2, server.connections
    client.close()
"""
NO_TURN = """
def echo(server, connection):
    while request_from(connection) != (b"", b""):
        connection.sendall(OK)

with tcp_server(echo) as server:
    client = Blocking(server.port)
    client.send(b"a")
    (idle,) = client.transport._pool._idle
    turns = []
    gevent.spawn(turns.append, 1)
    assert not idle.is_stale()
    assert turns == [], "looking at an idle connection gave others their turn"
    client.close()
"""


@pytest.mark.parametrize(
    "script",
    [ROUNDS, UNASKED, LATE, NO_TURN],
    ids=["closed while idle", "more than was asked", "more while idle", "no turn of the loop"],
)
def test_connections_are_kept_only_while_they_are_good(script: str) -> None:
    command = [sys.executable, "-c", PREAMBLE + script, str(TESTS)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stderr
