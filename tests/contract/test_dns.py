"""A real Triton behind a name with several addresses."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from contract.conftest import KINDS, made_client

from tritonforge_client import Attempt, BreakerPolicy, Client, ConnectionFailed, ModelSpec, Options, TensorSpec
from tritonforge_generator.deploy import EmbeddedTriton

pytestmark = pytest.mark.triton

INPUTS = {"a": np.ones((1, 4), np.float32), "b": np.ones((1, 4), np.float32)}
REPEAT = ModelSpec(
    name="repeat",
    inputs=(TensorSpec(name="count", datatype="INT32", dims=(1,)),),
    outputs=(TensorSpec(name="index", datatype="INT32", dims=(1,)),),
    decoupled=True,
)
NAME = "triton.test"
# Nothing listens at the second one.
ALIVE, DEAD = "127.0.0.1", "127.0.0.2"


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses of the name."""
    found = [DEAD, ALIVE]
    real: Any = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if host != NAME:
            return real(host, port, *args, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return found


def url_of(server: EmbeddedTriton, kind: str) -> str:
    return server.grpc_url if kind.startswith("grpc") else server.http_url


def port_of(server: EmbeddedTriton, kind: str) -> str:
    return url_of(server, kind).rpartition(":")[2]


def named_client(server: EmbeddedTriton, kind: str, name: str = NAME, **options: Any) -> Client:
    target = f"{kind.partition('-')[0]}+dns://{name}:{port_of(server, kind)}"
    return made_client(kind, target, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_a_real_name_leads_to_its_addresses(server: EmbeddedTriton, kind: str) -> None:
    with named_client(server, kind, "localhost") as client:
        client.wait_ready("add_sub", timeout_s=10)
        reply = client.infer("add_sub", INPUTS)
        assert client.ready()
    assert reply.value["sum"].tolist() == [[2.0] * 4]
    assert f"://{reply.endpoint}" in url_of(server, kind).replace("localhost", ALIVE)


@pytest.mark.parametrize("kind", ["grpc", "grpc-async"])
def test_grpcs_own_spelling_means_the_same(server: EmbeddedTriton, kind: str, addresses: list[str]) -> None:
    port = port_of(server, kind)
    with made_client(kind, f"dns:///{NAME}:{port}") as client:
        assert {client.infer("add_sub", INPUTS).endpoint for _ in range(4)} == {f"{ALIVE}:{port}"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_dead_address_is_not_noticed(server: EmbeddedTriton, kind: str, addresses: list[str]) -> None:
    with named_client(server, kind) as client:
        model = client.bind(client.spec("add_sub"))
        for _ in range(20):
            assert model.infer(INPUTS)["sum"].tolist() == [[2.0] * 4]


class Watcher:
    """A hook that notes where attempts go."""

    def __init__(self) -> None:
        self.hosts: list[str] = []

    @contextmanager
    def attempt(self, attempt: Attempt) -> Iterator[Mapping[str, str]]:
        self.hosts.append(attempt.endpoint.rpartition(":")[0])
        yield {}


@pytest.mark.parametrize("kind", KINDS)
def test_each_address_has_its_breaker(server: EmbeddedTriton, kind: str, addresses: list[str]) -> None:
    watcher = Watcher()
    options = Options(retry=None, breaker=BreakerPolicy(min_calls=1, open_s=60))
    with named_client(server, kind, options=options, hooks=[watcher]) as client:
        with pytest.raises(ConnectionFailed):
            client.infer("add_sub", INPUTS)
        for _ in range(10):
            client.infer("add_sub", INPUTS)
    assert watcher.hosts == [DEAD] + [ALIVE] * 10


@pytest.mark.parametrize("kind", KINDS)
def test_without_retries_calls_go_where_the_name_has_moved_to(
    server: EmbeddedTriton, kind: str, addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tritonforge_client.core.resolve._ASKED_AGAIN_S", 0.0)
    addresses.remove(ALIVE)
    with named_client(server, kind, options=Options(retry=None)) as client:
        with pytest.raises(ConnectionFailed):
            client.infer("add_sub", INPUTS)
        addresses[:] = [ALIVE]
        for _ in range(3):
            client.infer("add_sub", INPUTS)


@pytest.mark.parametrize("kind", ["grpc", "grpc-async"])
def test_streams_ask_for_the_addresses(server: EmbeddedTriton, kind: str, addresses: list[str]) -> None:
    watcher = Watcher()
    addresses.remove(DEAD)
    with named_client(server, kind, hooks=[watcher]) as client:
        model = client.bind(REPEAT)  # no other call comes first
        assert [int(one["index"][0]) for one in model.stream({"count": np.array([3], np.int32)})] == [0, 1, 2]
    assert set(watcher.hosts) == {ALIVE}
