"""Fixtures for pytest: a real Triton server, a client of it, and a server that is only pretended.

Loaded by pytest itself wherever ``tritonforge`` is installed, so nothing is imported before a fixture needs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from tritonforge_client.client import Client
    from tritonforge_client.testing import AsyncFakeTransport, FakeTransport


class TritonServer(Protocol):
    """What ``triton_server`` gives: an ``EmbeddedTriton`` of ``tritonforge_generator.deploy``."""

    @property
    def grpc_url(self) -> str:
        """Address of the gRPC service, ``grpc://host:port``."""
        ...

    @property
    def http_url(self) -> str:
        """Address of the HTTP service, ``http://host:port``."""
        ...

    @property
    def metrics_url(self) -> str:
        """Address of the Prometheus metrics, ``http://host:port/metrics``."""
        ...

    @property
    def log(self) -> list[str]:
        """The last lines of the server's log."""
        ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a project say what ``triton_server`` serves."""
    what = "model repository that the fixture triton_server serves"
    parser.getgroup("tritonforge").addoption("--triton-repository", metavar="FOLDER", type=Path, help=what)
    parser.addini("triton_repository", f"{what}, relative to the ini-file", type="paths", default=[])


@pytest.fixture(scope="session")
def triton_server(pytestconfig: pytest.Config) -> Iterator[TritonServer]:
    """A real Triton on free ports of 127.0.0.1, which ends with the session.

    It serves the folder of ``--triton-repository`` or, without it, those of the ini option ``triton_repository``. Tests
    are skipped where no server is installed.
    """
    repositories = _repositories(pytestconfig)
    if len(repositories) == 0:
        text = "triton_server: expected a model repository, got none; give --triton-repository or set triton_repository"
        pytest.fail(text, pytrace=False)
    # By name: the client does not depend on the generator.
    deploy = pytest.importorskip("tritonforge_generator.deploy", exc_type=ImportError)
    errors = pytest.importorskip("tritonforge_generator.errors", exc_type=ImportError)
    try:
        server = deploy.EmbeddedTriton(repositories).start()
    except errors.ServerNotInstalledError as error:
        pytest.skip(f"triton_server: {error}")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def triton_url(triton_server: TritonServer) -> str:
    """Address of the server, over gRPC. A project may override it, with ``triton_server.http_url`` for example."""
    return triton_server.grpc_url


@pytest.fixture
def triton_client(triton_url: str) -> Iterator[Client]:
    """A client of the server, closed after the test."""
    from tritonforge_client.client import Client

    with Client(triton_url) as client:
        yield client


@pytest.fixture
def fake_triton() -> FakeTransport:
    """A transport for ``Client`` that answers without a server; ``add`` tells it what."""
    from tritonforge_client.testing import FakeTransport

    return FakeTransport()


@pytest.fixture
def async_fake_triton() -> AsyncFakeTransport:
    """A transport for ``AsyncClient`` that answers without a server; ``add`` tells it what."""
    from tritonforge_client.testing import AsyncFakeTransport

    return AsyncFakeTransport()


def _repositories(config: pytest.Config) -> list[Path]:
    given: Path | None = config.getoption("--triton-repository")
    if given is not None:
        return [config.invocation_params.dir / given]
    listed: list[Path] = config.getini("triton_repository")
    return listed
