"""A server, observed from outside: the counters of its models, its metrics page, and its GPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tritonforge_client import Client
from tritonforge_client.core.metrics import Metrics
from tritonforge_client.core.statistics import ModelStatistics
from tritonforge_client.errors import ModelNotFound, NotReady, TritonError
from tritonforge_load.observe.absences import Absences, Reading
from tritonforge_load.observe.gpu import GpuObserver
from tritonforge_load.observe.models import ModelFacts, ModelSnapshot, facts_between
from tritonforge_load.observe.page import (
    FAILURES,
    GPU_FAMILIES,
    HOST_FAMILIES,
    HOST_KINDS,
    gpu_uuids_from_page,
    gpus_from_page,
    host_from_page,
    rejected_from_page,
)
from tritonforge_load.observe.server_process import ServerProcess

# All that ``page`` reads: a page of many models is mostly of other ones.
_FAMILIES: Final = (*HOST_FAMILIES, *GPU_FAMILIES, FAILURES)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The counters of a server's models at one moment.

    Attributes:
        at_s: The moment, in seconds.
        models: What the server said, by model.
        absent: Why something is not there, by kind; see ``Timeline``.
    """

    at_s: float
    models: dict[str, ModelSnapshot] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def facts_since(self, before: Snapshot) -> dict[str, ModelFacts]:
        """What each model did since another moment; only models that both moments have."""
        both = [name for name in self.models if name in before.models]
        return {name: facts_between(before.models[name], self.models[name]) for name in both}


class ServerObserver:
    """Watches one server while it is under load. A server that is slow or gone leaves a gap, with the reason.

    Where a model is an ensemble, the models that it is composed of are watched too. Models that a Python model calls
    by itself are not told by any config; name them.

    Args:
        client: A client of this server alone, with a short deadline and no retries: a server that does not answer
            holds up each call by that time, twice at most.
        models: The models that the load calls.
        metrics_url: Address of the server's metrics page; ``None`` when it has none.
        gpu_host: The server's host, whose GPUs are read through NVML if it is this one; ``None`` for the metrics page
            alone.
        process: Reads the memory of the server's processes; ``None`` does not.
    """

    def __init__(
        self,
        client: Client,
        models: Sequence[str],
        *,
        metrics_url: str | None,
        gpu_host: str | None = None,
        process: ServerProcess | None = None,
    ) -> None:
        self._client = client
        self._step_of: dict[str, tuple[str, ...]] = dict.fromkeys(models, ())
        self._asked: set[str] = set()
        self._metrics_url = metrics_url
        self._gpu_host = gpu_host
        self._process = process
        self._gpus: GpuObserver | None = None
        self._last: dict[str, tuple[float, ModelSnapshot]] = {}
        self._absences = Absences()

    @property
    def absent(self) -> dict[str, str]:
        """What the samples until now lack, by kind, with the reason and when; see ``Timeline``."""
        return self._absences.to_dict()

    def snapshot(self, at_s: float) -> Snapshot:
        """Read the counters of all models.

        Args:
            at_s: The time now, in seconds; the counters are taken to be of this time.
        """
        return self._read(at_s)[0]

    def sample(self, at_s: float) -> dict[str, float]:
        """Read everything.

        Args:
            at_s: The time now, in seconds; the counters are taken to be of this time.

        Returns:
            Values by their names in a ``Timeline``. Those of a model cover the time since the last sample in which it
            was read, so the first sample has none.
        """
        snapshot, page, reason = self._read(at_s)
        host = host_from_page(page) if page is not None else Reading(absent=dict.fromkeys(HOST_KINDS, reason))
        gpus = self._read_gpus(page, reason)
        process = self._process.sample() if self._process is not None else Reading()
        values = host.values | gpus.values | process.values
        absent = snapshot.absent | host.absent | gpus.absent | process.absent
        for name, now in snapshot.models.items():
            since_s, past = self._last.get(name, (at_s, now))
            self._last[name] = (at_s, now)
            facts = facts_between(past, now)
            if facts.incomplete:
                absent[f"model.{name}"] = facts.incomplete
            elif at_s > since_s:
                values |= facts.values(at_s - since_s)
        self._absences.note(at_s, absent)
        return values

    def close(self) -> None:
        """Let go of the GPUs. The client is the caller's to close."""
        if self._gpus is not None:
            self._gpus.close()

    def _read(self, at_s: float) -> tuple[Snapshot, Metrics | None, str]:
        """The counters, and the metrics page or why there is none."""
        absent: dict[str, str] = {}
        versions = self._read_versions(absent)
        page, reason = self._read_page()
        rejected = rejected_from_page(page) if page is not None else None
        if rejected is None:
            absent["rejected"] = reason or "the server's metrics page does not tell why requests failed"
        models = {
            name: ModelSnapshot(
                model=name,
                versions=entries,
                rejected=rejected[name] if rejected is not None else None,
                step_of=self._step_of[name],
            )
            for name, entries in versions.items()
        }
        return Snapshot(at_s, models, absent), page, reason

    def _read_versions(self, absent: dict[str, str]) -> dict[str, tuple[ModelStatistics, ...]]:
        versions: dict[str, tuple[ModelStatistics, ...]] = {}
        try:
            self._find_steps()
            for name in list(self._step_of):
                try:
                    versions[name] = tuple(self._client.statistics(name))
                except (ModelNotFound, NotReady) as error:
                    absent[f"model.{name}"] = error.text
        except TritonError as error:
            # The next model's call would wait for as long.
            absent["statistics"] = error.text
        return versions

    def _read_page(self) -> tuple[Metrics | None, str]:
        if self._metrics_url is None:
            return None, "no address of the server's metrics page was given"
        try:
            return self._client.metrics(self._metrics_url, families=_FAMILIES), ""
        except TritonError as error:
            return None, error.text

    def _find_steps(self) -> None:
        """Add the models that ensembles are composed of, as soon as the server tells."""
        queue = [model for model in self._step_of if model not in self._asked]
        for model in queue:  # grows on the way: a step may be an ensemble too
            try:
                steps = steps_from_config(self._client.config(model))
            except (ModelNotFound, NotReady):
                continue  # nor are there statistics, which says why
            self._asked.add(model)
            for step in steps:
                if step not in self._step_of:
                    queue.append(step)
                self._step_of[step] = tuple(dict.fromkeys((*self._step_of.get(step, ()), model)))

    def _read_gpus(self, page: Metrics | None, reason: str) -> Reading:
        """Read the GPUs through NVML, or what the metrics page has of them."""
        if self._gpus is None and self._gpu_host is not None:
            self._gpus = GpuObserver(self._gpu_host, uuids=gpu_uuids_from_page(page) if page is not None else ())
        no_nvml = "NVML was not asked for" if self._gpus is None else self._gpus.reason
        if self._gpus is not None and no_nvml == "":
            return self._gpus.sample()
        reading = gpus_from_page(page) if page is not None else Reading(absent={"gpu": reason})
        if "gpu" in reading.absent:
            return Reading(absent={"gpu": f"{reading.absent['gpu']}; {no_nvml}"})
        absent = dict.fromkeys(("gpu.clocks", "gpu.temperature"), f"the server's metrics page has none; {no_nvml}")
        return Reading(reading.values, reading.absent | absent)


def steps_from_config(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the models that an ensemble is composed of, each once; empty for any other model.

    Args:
        config: JSON form of a ``ModelConfig`` with proto field names.
    """
    steps = config.get("ensemble_scheduling", {}).get("step", ())
    return tuple(dict.fromkeys(str(step["model_name"]) for step in steps))
