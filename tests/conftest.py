"""Order of the tests."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start servers come first: they take longest, and so two workers end at about the same time."""
    serving = {item.path for item in items if item.get_closest_marker("triton") is not None}
    items.sort(key=lambda item: item.path not in serving)
