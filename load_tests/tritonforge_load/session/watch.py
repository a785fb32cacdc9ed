"""Looks at the server, its GPUs and the load generators while a campaign runs."""

from __future__ import annotations

import time
from typing import Any, Final

from tritonforge_client import Client, Options
from tritonforge_client.extras import require_extra
from tritonforge_load.campaign import Campaign
from tritonforge_load.observe.models import ModelFacts
from tritonforge_load.observe.process import ProcessReading
from tritonforge_load.observe.server import ServerObserver, Snapshot
from tritonforge_load.observe.server_process import ServerProcess
from tritonforge_load.observe.timeline import Sample, Samples, Timeline
from tritonforge_load.users import make_client

gevent: Any = require_extra("gevent", "load")

_METRICS_PORT: Final = 8002  # Triton's own choice
_PORTS: Final = {"grpc": 8001, "http": 8000}  # the same
_LONGEST_LOOK_S: Final = 2.0


class Watch:
    """The time line of a campaign.

    Args:
        campaign: The campaign.
    """

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign
        self._client: Client | None = None
        self._observer: ServerObserver | None = None
        self._greenlet: Any = None
        self._samples = Samples()
        self._starts_s = 0.0

    def start(self, starts_s: float) -> None:
        """Begin a time line.

        Args:
            starts_s: Its start, by ``time.perf_counter``.
        """
        self.stop()
        self._samples = Samples()
        self._starts_s = starts_s
        observe, target = self._campaign.observe, self._campaign.target
        if not observe.server:
            return
        # A look must not take longer than to the next one, and a failed one is to be seen, not repeated.
        self._client = make_client(target.url, options=Options(timeout_s=_LONGEST_LOOK_S, retry=None))
        host, port = _address(target.url)
        metrics_url = target.metrics if target.metrics is not None else f"http://{host}:{_METRICS_PORT}/metrics"
        self._observer = ServerObserver(
            self._client,
            list(dict.fromkeys(workload.model for workload in self._campaign.workload)),
            metrics_url=metrics_url if observe.metrics else None,
            gpu_host=host if observe.gpu == "auto" else None,
            process=ServerProcess(host, port),
        )
        self._greenlet = gevent.spawn(self._look_on)

    def stop(self) -> None:
        """Look no more; what was seen stays."""
        if self._greenlet is not None:
            self._greenlet.kill()
            self._greenlet = None
        if self._observer is not None:
            self._observer.close()
        if self._client is not None:
            self._client.close()
            self._client = None

    def statistics(self) -> Snapshot | None:
        """The counters of the models now; ``None`` when nobody looks."""
        return None if self._observer is None else self._observer.snapshot(self._now_s())

    def facts_since(self, before: Snapshot | None) -> tuple[ModelFacts, ...]:
        """What the models did since the counters were read."""
        if before is None or self._observer is None:
            return ()
        return tuple(self._observer.snapshot(self._now_s()).facts_since(before).values())

    def add_process(self, worker: str, at_s: float, cpu_share: float, memory_bytes: int) -> None:
        """Add a reading of a load generator.

        Args:
            worker: Its name.
            at_s: When it was read, by this process's ``time.perf_counter``.
            cpu_share: As in ``ProcessReading``.
            memory_bytes: As in ``ProcessReading``.
        """
        values = ProcessReading(cpu_share, memory_bytes).values(worker)
        self._samples.add(Sample(at_s - self._starts_s, values))

    def timeline(self) -> Timeline:
        """What was seen until now."""
        absent = {} if self._observer is None else self._observer.absent
        if not self._campaign.observe.server:
            absent = {"statistics": "the campaign asked not to look at the server (observe.server: false)"}
        return Timeline(self._campaign.observe.every_s, tuple(self._samples), absent)

    def _now_s(self) -> float:
        return time.perf_counter() - self._starts_s

    def _look_on(self) -> None:
        observer, every_s = self._observer, self._campaign.observe.every_s
        number = 0
        while observer is not None:
            at_s = self._now_s()
            self._samples.add(Sample(at_s, observer.sample(at_s)))
            number = max(number + 1, int(at_s / every_s) + 1)
            gevent.sleep(max(number * every_s - self._now_s(), 0))


def _address(url: str) -> tuple[str, int]:
    """Host, with the brackets of IPv6, and port of a target."""
    scheme, _, address = url.partition("://")
    host, _, port = address.rpartition(":")
    return (host, int(port)) if host and port.isdigit() else (address, _PORTS[scheme])
