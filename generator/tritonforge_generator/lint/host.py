"""The server and the machine that a repository is meant for, as declared; nothing here is looked up on this machine.

Each fact is optional: a rule that needs one that was not declared stays silent. Only the server's own options, such as
``--cache-config``, count as not given then.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from tritonforge_generator.errors import SpecError
from tritonforge_generator.lint.proto import Message, enum_name

Feature: TypeAlias = Literal["gpu", "ensemble", "metrics"]
"""What a server can be built without."""

_RELEASE: Final = re.compile(r"(\d\d)\.(0[1-9]|1[0-2])")
_CAPABILITY: Final = re.compile(r"(\d+)\.(\d)")
_RESOURCE: Final = re.compile(r"(?P<name>[^:]+):(?P<count>\d+)(?::(?P<device>\d+))?")

# Release 24.10 does not know these; which release brought them is not known.
_NEWER_FIELDS: Final = ("model_metrics", "ensemble_scheduling.max_inflight_requests")
_LAST_WITHOUT: Final = "24.10"

Capability: TypeAlias = tuple[int, int]
"""A CUDA compute capability, for example ``(9, 0)``."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One ``--rate-limit-resource`` of the server.

    Attributes:
        name: Its name.
        count: How many there are.
        device: The GPU that has them; ``None`` for each of them.
    """

    name: str
    count: int
    device: int | None = None


@dataclass(frozen=True)
class Host:
    """Where a repository is to be served.

    Attributes:
        release: The Triton release, for example ``"26.08"``; empty when it is not known.
        gpus: Number of GPUs; ``None`` when it is not known.
        compute_capability: Of every GPU.
        minimum_capability: Compute capability below which the server does not use a GPU.
        backends: The installed back-ends, each by its name, such as ``python``, or by its files, such as
            ``pytorch/libtriton_pytorch.so`` and ``pytorch/model.py``; ``None`` when they are not known.
        agents: Names of the installed repository agents; ``None`` when they are not known.
        backend_directory: Where the server looks for back-ends.
        agent_directory: Where the server looks for repository agents.
        has_cache: Whether the server is started with ``--cache-config``.
        rate_limit: Whether it is started with ``--rate-limit=execution_count``.
        resources: Its ``--rate-limit-resource`` options.
        without: What the server was built without.
    """

    release: str = ""
    gpus: int | None = None
    compute_capability: Capability | None = None
    minimum_capability: Capability = (6, 0)
    backends: frozenset[str] | None = None
    agents: frozenset[str] | None = None
    backend_directory: str = "/opt/tritonserver/backends"
    agent_directory: str = "/opt/tritonserver/repoagents"
    has_cache: bool = False
    rate_limit: bool = False
    resources: tuple[Resource, ...] = ()
    without: frozenset[Feature] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        if self.release != "" and _RELEASE.fullmatch(self.release) is None:
            raise SpecError(
                f"{self.release!r} is no Triton release",
                expected="year and month of the container, such as 26.08",
                got=self.release,
            )
        if self.gpus is not None and self.gpus < 0:
            raise SpecError("the number of GPUs is negative", expected="0 or more", got=str(self.gpus))

    @property
    def tensorrt(self) -> str:
        """TensorRT's version in that release, as far as it is known; empty otherwise."""
        from tritonforge_generator.plan.containers import TENSORRT_BY_RELEASE  # brings all that builds plans

        return TENSORRT_BY_RELEASE.get(self.release, "")

    @property
    def supported_gpus(self) -> tuple[int, ...] | None:
        """Ids of the GPUs that the server uses; ``None`` when that is not known."""
        if "gpu" in self.without or self.gpus == 0:
            return ()
        if self.gpus is None:
            return None
        if self.compute_capability is not None and self.compute_capability < self.minimum_capability:
            return ()
        return tuple(range(self.gpus))

    @property
    def installed(self) -> frozenset[str]:
        """Names of the installed back-ends; none when they are not known."""
        return frozenset(entry.partition("/")[0] for entry in self.backends or ())

    def backend_has(self, backend: str, file: str) -> bool | None:
        """Whether a back-end has a file; ``None`` when that is not known.

        Args:
            backend: Name of the back-end.
            file: Path from its directory; it may lead into that of another one.
        """
        if self.backends is None:
            return None
        path = posixpath.normpath(f"{backend}/{file.lstrip('/')}")
        owner = path.partition("/")[0]
        if not {backend, owner} <= {*self.installed, ".."}:
            return False
        files = {entry for entry in self.backends if entry.startswith(f"{owner}/")}
        return path in files if files else None

    def has(self, release: str) -> bool:
        """Whether the server is of a release, or newer; an unknown one is taken to be the newest.

        Args:
            release: For example ``"25.03"``; empty for what every server has.
        """
        # Two digits each, so that the order of the texts is that of the releases.
        return self.release == "" or self.release >= release

    def unknown_field(self, is_written: Callable[[str], bool]) -> str:
        """Return the first written field that the server's schema is too old for; empty when it knows them all.

        Args:
            is_written: Whether a field stands in a config, by its path.
        """
        if not "" < self.release <= _LAST_WITHOUT:
            return ""
        return next((path for path in _NEWER_FIELDS if is_written(path)), "")


def resolved_kind(group: Message, host: Host | None) -> str:
    """Return an instance group's kind as the server settles it; KIND_AUTO when that takes an unknown host.

    KIND_AUTO becomes KIND_GPU when there is a GPU and all that are listed exist, KIND_CPU otherwise.
    """
    kind = enum_name(group, "kind")
    supported = None if host is None else host.supported_gpus
    if kind != "KIND_AUTO" or supported is None:
        return kind
    return "KIND_GPU" if supported != () and set(group.gpus) <= set(supported) else "KIND_CPU"


def capability_from(text: str) -> Capability:
    """Read a compute capability.

    Args:
        text: For example ``"9.0"``.

    Raises:
        SpecError: It is none.
    """
    match = _CAPABILITY.fullmatch(text)
    if match is None:
        raise SpecError(f"{text!r} is no compute capability", expected="major and minor number, such as 9.0", got=text)
    return int(match.group(1)), int(match.group(2))


def resource_from(text: str) -> Resource:
    """Read a resource as the server's option has it.

    Args:
        text: ``name:count`` or ``name:count:device``.

    Raises:
        SpecError: It is neither.
    """
    match = _RESOURCE.fullmatch(text)
    if match is None:
        raise SpecError(f"{text!r} is no resource", expected="name:count or name:count:device, such as R1:10", got=text)
    parts: Mapping[str, str | None] = match.groupdict()
    device = parts["device"]
    return Resource(str(parts["name"]), int(str(parts["count"])), None if device is None else int(device))
