"""Servers of known behaviour under a campaign of one phase: what the campaign says, and what is true."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from support.freezing_proxy import Freeze, FreezingProxy
from support.plain_locust import REQUESTS_PER_USER, plain_locust
from support.responder import MODEL, Answered, Responder, connected, timed_request

from tritonforge_load.measure import WorkloadResult
from tritonforge_load.runner import run_campaign

_PHASE: Final = "steady"

# Nothing but the requests goes to the server. The first ones make connections, and Python ready.
_CAMPAIGN: Final = """\
campaign: truth
version: 1
target: {{url: "{url}", wait_ready: 30s}}
workload: [{{name: one, model: {model}}}]
phases:
{phases}
observe: {{server: false, metrics: false, gpu: none}}
workers: {workers}
"""
_OPEN_PHASES: Final = """\
- {{name: warm-up, arrival: poisson, rate: 400/s, for: 2s, measure: false}}
- {{name: {phase}, arrival: {arrival}, rate: {rate}/s, for: {duration}s}}"""
_CLOSED_PHASE: Final = "- {{name: {phase}, users: {users}, for: {duration}s}}"


@dataclass(frozen=True, slots=True)
class Load:
    """Requests at a rate for a while, after a warm-up.

    Attributes:
        rate_per_s: Requests per second.
        duration_s: How long.
        arrival: ``constant`` or ``poisson``.
    """

    rate_per_s: int
    duration_s: int
    arrival: str = "constant"

    def run(self, url: str, model: str, *, workers: int, begun: Callable[[], object] = lambda: None) -> WorkloadResult:
        """Run the campaign.

        Args:
            url: URL of the server.
            model: A model that takes ``x`` of FP32 [16].
            workers: Processes that generate the load.
            begun: Called when its phase begins.
        """

        def hear(event: Mapping[str, Any]) -> None:
            if event["event"] == "phase" and event["run"] == _PHASE:
                begun()

        phases = _OPEN_PHASES.format(phase=_PHASE, arrival=self.arrival, rate=self.rate_per_s, duration=self.duration_s)
        return _played(_CAMPAIGN.format(url=url, model=model, phases=phases, workers=workers), hear)


def closed(users: int, latency_ms: float, *, duration_s: int) -> WorkloadResult:
    """What a campaign says of a ``Responder`` of one latency, asked by so many users that wait for their answers."""
    with Responder((latency_ms,)) as server:
        phases = _CLOSED_PHASE.format(phase=_PHASE, users=users, duration=duration_s)
        return _played(_CAMPAIGN.format(url=server.url, model=MODEL, phases=phases, workers=1), lambda _: None)


def _played(text: str, hear: Callable[[Mapping[str, Any]], None]) -> WorkloadResult:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "truth.yaml"
        path.write_text(text, encoding="utf-8")
        result = run_campaign(path, on_event=hear)
    assert result.problems == ()
    return result.phase(_PHASE).total


# ---- a server that stands still ----


@dataclass(frozen=True, slots=True)
class Stall:
    """Load on a server that stands still once, in the middle.

    Attributes:
        load: At a constant rate.
        frozen_s: How long it stands still.
    """

    load: Load
    frozen_s: float

    @property
    def begins_s(self) -> float:
        """When, from the first request."""
        return (self.load.duration_s - self.frozen_s) / 2

    def ours(self, url: str, model: str, *, workers: int) -> tuple[WorkloadResult, Freeze]:
        """What a campaign says of a server behind a proxy that freezes, and the freeze as it was."""
        with FreezingProxy(url) as proxy:
            begun = partial(proxy.freeze, after_s=self.begins_s, for_s=self.frozen_s)
            return self.load.run(proxy.url, model, workers=workers, begun=begun), proxy.frozen()

    def plain(self, url: str, model: str) -> Mapping[str, str]:
        """What plain Locust says of it; see ``plain_locust``."""
        users, duration_s = self.load.rate_per_s // REQUESTS_PER_USER, self.load.duration_s
        with FreezingProxy(url) as proxy:
            proxy.freeze(after_s=self.begins_s, for_s=self.frozen_s)
            return plain_locust(proxy.url, model, users=users, duration_s=duration_s)


def stalled_ms(load: Load, frozen_s: float, percent: float) -> float:
    """What a percentile is at least, in milliseconds, when a server stands still once.

    Of the requests that are due in the freeze, which is one every ``gap_s``, one waits for all of it, the next for
    ``frozen_s - gap_s``, and so on. The share ``above`` of all requests is a stretch of ``above * duration_s`` of the
    schedule, so when that is shorter than the freeze, those of them that wait longest wait for at least
    ``frozen_s - above * duration_s``. The freeze begins anywhere between two requests, which is at most one gap less.

    Args:
        load: At a constant rate; the freeze is within it.
        frozen_s: How long the server stands still.
        percent: From 0 to 100.
    """
    above, gap_s = 1 - percent / 100, 1 / load.rate_per_s
    return max(0.0, frozen_s - above * load.duration_s - gap_s) * 1e3


# ---- a server of known latency ----


def known(
    load: Load, latencies_ms: Sequence[float], *, workers: int, core: int | None = None
) -> tuple[WorkloadResult, list[Answered]]:
    """What a campaign says of a ``Responder``, and the times that it took by its own clock meanwhile."""
    with Responder(latencies_ms, core=core) as server:
        total = load.run(server.url, MODEL, workers=workers, begun=server.answered)
        return total, server.answered()


def bare(
    requests: int, latencies_ms: Sequence[float], *, core: int | None = None
) -> tuple[list[float], list[Answered]]:
    """What a bare socket sees of a ``Responder``, one request after the other, in seconds; and the times it took."""
    with Responder(latencies_ms, core=core) as server, connected(server.url) as connection:
        return [timed_request(connection) for _ in range(requests)], server.answered()


def percentile_ms(seconds: Iterable[float], percent: float) -> float:
    """An exact percentile by nearest rank, as in a report, in milliseconds."""
    ordered = sorted(seconds)
    rank = max(1, math.ceil(round(percent * len(ordered) / 100, 9)))
    return ordered[rank - 1] * 1e3


def true_ms(answered: Iterable[Answered], percent: float) -> float:
    """A percentile of the times that a server took."""
    return percentile_ms((one.took_s for one in answered), percent)
