from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.stand_in_plans import TENSORRT_VERSIONS, stand_in_tensorrt


@pytest.fixture(params=TENSORRT_VERSIONS)
def version(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each TensorRT in turn, as a stand-in that has exactly its names; timing caches go to a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    with stand_in_tensorrt(request.param):
        yield request.param


@pytest.fixture
def tensorrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The stand-in of one TensorRT, where the version does not matter."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    with stand_in_tensorrt():
        yield
