from __future__ import annotations

import re

import pytest

from tritonforge_generator.errors import PlanError
from tritonforge_generator.plan import objection_of_release
from tritonforge_generator.plan.containers import TENSORRT_BY_RELEASE, tensorrt_of_release

Version = tuple[int, int, int, int]


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("23.04", (8, 6, 1, 2)),
        ("23.12", (8, 6, 1, 6)),  # of this release three parts are known
        ("24.12", (10, 7, 0, 23)),
        ("26.05", (10, 16, 1, 11)),
        ("26.07", (11, 1, 0, 106)),
    ],
)
def test_a_plan_of_the_servers_version_loads(release: str, version: Version) -> None:
    assert objection_of_release(release, version, version_compatible=False) == ""


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("23.04", (8, 6, 0, 12)),  # Triton 23.04 answered: expecting library version 8.6.1.2 got 8.6.0.12
        ("23.05", (8, 6, 1, 6)),
        ("24.12", (10, 7, 0, 22)),
        ("26.07", (10, 16, 1, 11)),
        ("26.06", (11, 1, 0, 106)),
    ],
)
def test_all_four_parts_of_the_version_must_match(release: str, version: Version) -> None:
    objection = objection_of_release(release, version, version_compatible=False)
    assert objection == (
        f"Triton {release} has TensorRT {TENSORRT_BY_RELEASE[release]}, the plan was built by "
        + ".".join(str(part) for part in version)
    )


@pytest.mark.parametrize(
    ("release", "version", "loads"),
    [
        ("24.12", (8, 6, 0, 12), True),  # one major version up
        ("26.07", (10, 16, 1, 11), True),
        ("26.07", (8, 6, 0, 12), False),  # not two
        ("24.04", (8, 6, 0, 12), True),  # newer of its own
        ("24.12", (10, 6, 0, 26), True),
        ("24.12", (10, 9, 0, 34), False),  # not older
        ("23.04", (10, 0, 1, 6), False),
    ],
)
def test_a_version_compatible_plan_loads_in_what_is_newer(release: str, version: Version, loads: bool) -> None:
    assert (objection_of_release(release, version, version_compatible=True) == "") is loads


def test_a_release_that_is_not_known_is_named() -> None:
    with pytest.raises(PlanError, match=r"Triton 19\.01 is not known: expected a release from 23\.04 to 26\.10"):
        tensorrt_of_release("19.01")


def test_the_table_is_in_order_and_never_goes_back() -> None:
    assert list(TENSORRT_BY_RELEASE) == sorted(TENSORRT_BY_RELEASE)
    majors = [int(version.partition(".")[0]) for version in TENSORRT_BY_RELEASE.values()]
    assert majors == sorted(majors)
    assert all(re.fullmatch(r"2\d\.(0[1-9]|1[0-2])", release) for release in TENSORRT_BY_RELEASE)
