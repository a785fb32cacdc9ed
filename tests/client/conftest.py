"""Fixtures of the tests of the fake server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.fakes import COUNTER, DIGITS, SUM, Fake, made

from tritonforge_client import Client


@pytest.fixture(params=["blocking", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pair(kind: str) -> Iterator[tuple[Client, Fake]]:
    """A client of each kind and the fake below it: whatever a test says holds for both."""
    client, fake = made(kind, DIGITS, COUNTER, SUM)
    with client:
        yield client, fake
