from __future__ import annotations

import pytest

from tritonforge_generator.plan.facts import releases_from_version


@pytest.mark.parametrize(
    ("version", "sure", "possible"),
    [
        ((8, 6, 1, 2), ("23.04", "23.05"), ("23.06", "23.07", "23.08", "23.09", "23.10", "23.11", "23.12")),
        ((8, 6, 0, 12), (), ()),
        ((10, 3, 0, 26), ("24.08",), ("24.06", "24.07", "24.09")),
        ((10, 9, 0, 34), ("25.03",), tuple(f"25.{month:02}" for month in (1, 2, 4, 5, 6, 7, 8, 9, 10, 11))),
        ((11, 2, 1, 2), (), ("26.08", "26.09", "26.10")),
    ],
)
def test_releases_that_load_a_plan(
    version: tuple[int, int, int, int], sure: tuple[str, ...], possible: tuple[str, ...]
) -> None:
    found = releases_from_version(version)
    assert (found.sure, found.possible) == (sure, possible)


def test_version_compatible_plans_load_in_newer_ones_of_their_major_and_in_the_next() -> None:
    found = releases_from_version((8, 6, 1, 2)).version_compatible
    assert (found[0], found[-1]) == ("24.02", "26.05")
    found = releases_from_version((10, 9, 0, 34)).version_compatible
    assert (found[0], found[-1]) == ("25.12", "26.10")
