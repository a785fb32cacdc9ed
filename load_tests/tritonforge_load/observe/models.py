"""The server's side of one model: what its counters gained between two moments."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from tritonforge_client.core.statistics import ModelStatistics

_NS_PER_S: Final = 1e9
_MS_PER_S: Final = 1e3


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSnapshot:
    """What the server said of a model at one moment.

    Attributes:
        model: Its name.
        versions: Statistics of each version that is loaded.
        rejected: Requests rejected since the server's start, from its metrics page; ``None`` where it did not tell.
        step_of: Ensembles that the model is observed for, as a step of theirs.
    """

    model: str
    versions: tuple[ModelStatistics, ...]
    rejected: int | None = None
    step_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """One model over a stretch of time, all versions together, in the server's own words.

    A Python model that answers one request of several with an error counts it as answered well. A request that a full
    queue refuses is in no counter at all: only its sender knows of it. A request is counted just after it was answered,
    and its batch after that. Times are sums over requests, so a batch of two requests that runs for 1 s counts 2 s.

    Attributes:
        model: Its name.
        requests: Requests answered well, from the cache or by the model.
        rows: Rows inferred; rows of answers from the cache are not counted.
        executions: Executions of batches, failed ones too.
        failed: Requests that failed, rejected ones too.
        rejected: Requests whose time in the queue ran out; ``None`` where the server did not tell.
        cache_hits: Requests answered from the response cache.
        cache_misses: Requests that the response cache did not hold.
        computed: Requests answered by the model.
        total_s: Whole time of ``requests`` in the server.
        queue_s: Their time in the scheduler.
        compute_input_s: Time in which inputs were prepared.
        compute_infer_s: Time in which the model ran.
        compute_output_s: Time in which outputs were prepared.
        cache_s: Time in which the response cache was asked, and filled.
        batches: Executions by the rows of their batch.
        step_of: Ensembles that the model is observed for, as a step of theirs.
        incomplete: Why something is missing in the counts; empty when nothing is.
    """

    model: str
    requests: int
    rows: int
    executions: int
    failed: int
    rejected: int | None
    cache_hits: int
    cache_misses: int
    computed: int
    total_s: float
    queue_s: float
    compute_input_s: float
    compute_infer_s: float
    compute_output_s: float
    cache_s: float
    batches: dict[int, int]
    step_of: tuple[str, ...] = ()
    incomplete: str = ""

    @property
    def total_mean_ms(self) -> float:
        """Mean time of a request in the server; not a number when there was none."""
        return _ratio(self.total_s, self.requests) * _MS_PER_S

    @property
    def queue_mean_ms(self) -> float:
        """Mean time of a request in the scheduler; not a number when there was none."""
        return _ratio(self.queue_s, self.requests) * _MS_PER_S

    @property
    def compute_input_mean_ms(self) -> float:
        """Mean time in which inputs of a request were prepared; not a number when the model answered none."""
        return _ratio(self.compute_input_s, self.computed) * _MS_PER_S

    @property
    def compute_infer_mean_ms(self) -> float:
        """Mean time in which the model ran for a request; not a number when the model answered none."""
        return _ratio(self.compute_infer_s, self.computed) * _MS_PER_S

    @property
    def compute_output_mean_ms(self) -> float:
        """Mean time in which outputs of a request were prepared; not a number when the model answered none."""
        return _ratio(self.compute_output_s, self.computed) * _MS_PER_S

    @property
    def queue_share(self) -> float:
        """The queue's part of the requests' whole time in the server, 0 to 1; not a number when there was none."""
        # The server adds to its counters while it reads them out.
        return _ratio(min(self.queue_s, self.total_s), self.total_s)

    @property
    def cache_hit_share(self) -> float:
        """Hits of look-ups in the response cache, 0 to 1; not a number when there was none."""
        return _ratio(self.cache_hits, self.cache_hits + self.cache_misses)

    @property
    def batch_rows_mean(self) -> float:
        """Rows of an execution; not a number when there was none."""
        rows = sum(size * count for size, count in self.batches.items())
        return _ratio(rows, sum(self.batches.values()))

    def values(self, interval_s: float) -> dict[str, float]:
        """The values by their names in a ``Timeline``; what does not exist is not there.

        Args:
            interval_s: Length of the stretch in seconds.
        """
        values = {
            "rate_per_s": self.requests / interval_s,
            "rows_per_s": self.rows / interval_s,
            "executions_per_s": self.executions / interval_s,
            "batch_rows_mean": self.batch_rows_mean,
            "queue_ms": self.queue_mean_ms,
            "compute_input_ms": self.compute_input_mean_ms,
            "compute_infer_ms": self.compute_infer_mean_ms,
            "compute_output_ms": self.compute_output_mean_ms,
            "queue_share": self.queue_share,
            "cache_hit_share": self.cache_hit_share,
            "failed_per_s": self.failed / interval_s,
            "rejected_per_s": math.nan if self.rejected is None else self.rejected / interval_s,
        }
        return {f"model.{self.model}.{name}": value for name, value in values.items() if math.isfinite(value)}

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {"batches": [list(item) for item in self.batches.items()], "step_of": list(self.step_of)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelFacts:
        """The facts that ``to_dict`` wrote."""
        batches = {int(rows): int(count) for rows, count in data["batches"]}
        return cls(**{**data, "batches": batches, "step_of": tuple(data["step_of"])})


def facts_between(before: ModelSnapshot, after: ModelSnapshot) -> ModelFacts:
    """Return what a model did between two moments.

    A model that is loaded again begins with new counters. That is seen by counters that went back, and then only what
    came after it is counted. It is not seen once every counter has passed its old value, so moments should be close.

    Args:
        before: The first moment.
        after: The second moment, of the same model.
    """
    counts: Counter[str] = Counter()
    batches: Counter[int] = Counter()
    notes = []
    earlier = {version.version: version for version in before.versions}
    for version in after.versions:
        gained, ran = _counts(version), _batches(version)
        past = earlier.pop(version.version, None)
        if past is not None:
            gained.subtract(_counts(past))
            ran.subtract(_batches(past))
        if min(0, *gained.values(), *ran.values()) < 0:
            notes.append(f"version {version.version} was loaded again; only what came after it is counted")
            gained, ran = _counts(version), _batches(version)
        counts.update(gained)
        batches.update(ran)
    notes += [f"version {version} was unloaded; what it did before that is not counted" for version in earlier]
    return ModelFacts(
        model=after.model,
        requests=counts["requests"],
        rows=counts["rows"],
        executions=counts["executions"],
        failed=counts["failed"],
        rejected=_rejected(before, after),
        cache_hits=counts["cache_hits"],
        cache_misses=counts["cache_misses"],
        computed=counts["computed"],
        total_s=counts["total_ns"] / _NS_PER_S,
        queue_s=counts["queue_ns"] / _NS_PER_S,
        compute_input_s=counts["compute_input_ns"] / _NS_PER_S,
        compute_infer_s=counts["compute_infer_ns"] / _NS_PER_S,
        compute_output_s=counts["compute_output_ns"] / _NS_PER_S,
        cache_s=counts["cache_ns"] / _NS_PER_S,
        batches={rows: count for rows, count in sorted(batches.items()) if count > 0},
        step_of=after.step_of,
        incomplete="; ".join(notes),
    )


def _counts(version: ModelStatistics) -> Counter[str]:
    durations = version.inference_stats
    return Counter(
        requests=durations.success.count,
        rows=version.inference_count,
        executions=version.execution_count,
        failed=durations.fail.count,
        cache_hits=durations.cache_hit.count,
        cache_misses=durations.cache_miss.count,
        computed=durations.compute_infer.count,
        total_ns=durations.success.ns,
        queue_ns=durations.queue.ns,
        compute_input_ns=durations.compute_input.ns,
        compute_infer_ns=durations.compute_infer.ns,
        compute_output_ns=durations.compute_output.ns,
        cache_ns=durations.cache_hit.ns + durations.cache_miss.ns,
    )


def _batches(version: ModelStatistics) -> Counter[int]:
    return Counter({batch.batch_size: batch.compute_infer.count for batch in version.batch_stats})


def _rejected(before: ModelSnapshot, after: ModelSnapshot) -> int | None:
    if before.rejected is None or after.rejected is None:
        return None
    # A model that is loaded again keeps this counter; a server that is started again does not.
    gained = after.rejected - before.rejected
    return gained if gained >= 0 else after.rejected


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan
