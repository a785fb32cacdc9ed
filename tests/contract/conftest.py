from __future__ import annotations

from collections.abc import Iterator

import pytest
from contract.models import write_models

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


@pytest.fixture(params=["grpc", "http"])
def client(request: pytest.FixtureRequest, server: EmbeddedTriton) -> Iterator[Client]:
    """One client for each protocol: whatever a test says holds for both."""
    with Client(server.grpc_url if request.param == "grpc" else server.http_url) as made:
        yield made
