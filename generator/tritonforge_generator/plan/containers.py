"""Which TensorRT each Triton container brings, and whether a plan loads there.

Sources: ``build.py``, release notes and issues 5812, 5975, 7374 and 7613 of triton-inference-server/server,
and published images. Releases that are not here were not confirmed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tritonforge_generator.errors import PlanError
from tritonforge_generator.plan import tensorrt_api

TENSORRT_BY_RELEASE: Final[Mapping[str, str]] = {
    "23.04": "8.6.1.2",
    "23.05": "8.6.1.2",
    "23.06": "8.6.1",
    "23.07": "8.6.1",
    "23.08": "8.6.1",
    "23.09": "8.6.1",
    "23.10": "8.6.1",
    "23.11": "8.6.1",
    "23.12": "8.6.1",
    "24.02": "8.6.3",
    "24.03": "8.6.3",
    "24.04": "8.6.3",
    "24.05": "10.0.1.6",
    "24.06": "10",
    "24.07": "10",
    "24.08": "10.3.0.26",
    "24.09": "10",
    "24.10": "10.4.0.26",
    "24.11": "10.6.0.26",
    "24.12": "10.7.0.23",
    "25.01": "10",
    "25.02": "10",
    "25.03": "10.9.0.34",
    "25.04": "10",
    "25.05": "10",
    "25.06": "10",
    "25.07": "10",
    "25.08": "10",
    "25.09": "10",
    "25.10": "10",
    "25.11": "10",
    "25.12": "10.14.1",
    "26.01": "10",
    "26.02": "10",
    "26.03": "10",
    "26.04": "10.16.1",
    "26.05": "10",
    "26.06": "11.0.0.114",
    "26.07": "11.1.0.106",
    "26.08": "11.2.1",
    "26.09": "11",
    "26.10": "11",
}
"""By release, the parts of TensorRT's version that are known."""


def tensorrt_of_release(release: str) -> str:
    """The TensorRT version of a Triton release, as far as it is known.

    Raises:
        PlanError: The release is not in the table.
    """
    known = TENSORRT_BY_RELEASE.get(release)
    if known is None:
        raise PlanError(
            f"the TensorRT version of Triton {release} is not known",
            expected=f"a release from {min(TENSORRT_BY_RELEASE)} to {max(TENSORRT_BY_RELEASE)}, such as 26.08",
            got=release,
            action="Leave server out; then nothing is checked.",
        )
    return known


def objection_of_release(release: str, plan_version: tuple[int, ...], *, version_compatible: bool) -> str:
    """Why a plan does not load in a Triton release; empty when it does, as far as is known.

    A plan needs the TensorRT that built it, in all four parts of the version. A version-compatible one also loads in
    the next major version (NVIDIA's support matrix: 8 in 10, 10 in 11, 8 not in 11), and in newer ones of its own.

    Args:
        release: For example ``"26.08"``.
        plan_version: From the plan's header, or what is known of the TensorRT that will build it.
        version_compatible: Whether it was built so.
    """
    server = tensorrt_of_release(release)
    theirs = tuple(int(part) for part in server.split("."))
    shared = min(len(theirs), len(plan_version))
    known, ours = theirs[:shared], plan_version[:shared]
    if version_compatible:
        next_major = {8: 10, 10: 11}.get(ours[0])
        if known[0] == next_major or (known[0] == ours[0] and known >= ours):
            return ""
    elif ours == known:
        return ""
    version = ".".join(str(part) for part in plan_version)
    return f"Triton {release} has TensorRT {server}, the plan was built by {version}"


def require_release(release: str, *, version_compatible: bool) -> None:
    """Make sure that a Triton release can load what the installed TensorRT builds, before it is built.

    Raises:
        PlanError: It cannot, or the release is not known.
    """
    installed = tuple(int(part) for part in tensorrt_api.version().split("."))
    objection = objection_of_release(release, installed, version_compatible=version_compatible)
    if objection != "":
        raise PlanError(
            "a plan that is built here does not load in the server",
            expected=f"TensorRT {tensorrt_of_release(release)}, as Triton {release} has",
            got=f"TensorRT {tensorrt_api.version()}",
            action="Build where that TensorRT is installed, for example in the container, or correct server.",
        )
