from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from contract.models import write_models
from support.blocking import BlockingClient

from tritonforge_client import Client
from tritonforge_generator.deploy import EmbeddedTriton


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    """A real Triton with every model of ``contract.models``."""
    repository = tmp_path_factory.mktemp("contract") / "models"
    repository.mkdir()
    write_models(repository)
    with EmbeddedTriton(repository, model_control_mode="explicit", load_models=["*"]) as running:
        yield running


KINDS = ("grpc", "http", "grpc-async", "http-async")


def made_client(kind: str, server: EmbeddedTriton | str | list[str], **options: Any) -> Client:
    """A client of one kind, of a server or of targets; asynchronous ones behind blocking methods."""
    protocol, _, is_async = kind.partition("-")
    url: Any = server
    if isinstance(server, EmbeddedTriton):
        url = server.grpc_url if protocol == "grpc" else server.http_url
    return cast("Client", BlockingClient(url, **options)) if is_async else Client(url, **options)


@pytest.fixture(params=KINDS)
def client(request: pytest.FixtureRequest, server: EmbeddedTriton) -> Iterator[Client]:
    """One client of each kind: whatever a test says holds for all four."""
    with made_client(request.param, server) as made:
        yield made


@pytest.fixture(params=["grpc", "grpc-async"])
def grpc_client(request: pytest.FixtureRequest, server: EmbeddedTriton) -> Iterator[Client]:
    """The clients that can do what only gRPC can."""
    with made_client(request.param, server) as made:
        yield made
