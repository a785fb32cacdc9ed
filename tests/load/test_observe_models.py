"""What a model did between two moments, from counters as a server would give them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge_client.core.statistics import ModelStatistics, model_statistics_from_json
from tritonforge_load.observe import ModelFacts, ModelSnapshot, facts_between

MS = 1_000_000
DURATIONS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")


def statistics(
    *,
    version: str = "1",
    rows: int = 0,
    executions: int = 0,
    batches: dict[int, int] | None = None,
    **durations: tuple[int, int],
) -> ModelStatistics:
    """One version; durations are (count, milliseconds in all)."""
    entry: dict[str, Any] = {
        "name": "m",
        "version": version,
        "inference_count": rows,
        "execution_count": executions,
        "inference_stats": {name: {"count": n, "ns": ms * MS} for name, (n, ms) in durations.items()},
        "batch_stats": [
            {"batch_size": size, "compute_infer": {"count": count, "ns": 1}} for size, count in (batches or {}).items()
        ],
    }
    return model_statistics_from_json(entry)


def snapshot(*versions: ModelStatistics, rejected: int | None = None) -> ModelSnapshot:
    return ModelSnapshot(model="m", versions=versions, rejected=rejected)


BEFORE = statistics(
    rows=100, executions=60, batches={1: 20, 2: 40}, success=(70, 700), fail=(1, 9), queue=(70, 70),
    compute_input=(60, 6), compute_infer=(60, 480), compute_output=(60, 12), cache_hit=(10, 1), cache_miss=(60, 3),
)  # fmt: skip
AFTER = statistics(
    rows=180, executions=85, batches={1: 25, 2: 50, 4: 10}, success=(120, 1700), fail=(4, 99), queue=(120, 320),
    compute_input=(100, 14), compute_infer=(100, 1080), compute_output=(100, 52),
    cache_hit=(20, 4), cache_miss=(100, 8),
)  # fmt: skip


def test_facts_are_what_the_counters_gained() -> None:
    facts = facts_between(snapshot(BEFORE, rejected=2), snapshot(AFTER, rejected=5))
    assert (facts.requests, facts.rows, facts.executions, facts.failed, facts.rejected) == (50, 80, 25, 3, 3)
    assert (facts.cache_hits, facts.cache_misses, facts.computed) == (10, 40, 40)
    assert facts.batches == {1: 5, 2: 10, 4: 10}
    assert facts.total_s == pytest.approx(1.0)
    assert facts.queue_s == pytest.approx(0.25)
    assert facts.cache_s == pytest.approx(0.008)
    assert facts.incomplete == ""


def test_means_are_over_the_requests_that_took_part() -> None:
    facts = facts_between(snapshot(BEFORE), snapshot(AFTER))
    assert facts.total_mean_ms == pytest.approx(1000 / 50)
    assert facts.queue_mean_ms == pytest.approx(250 / 50)
    assert facts.compute_input_mean_ms == pytest.approx(8 / 40)  # not the requests that the cache answered
    assert facts.compute_infer_mean_ms == pytest.approx(600 / 40)
    assert facts.compute_output_mean_ms == pytest.approx(40 / 40)
    assert facts.queue_share == pytest.approx(0.25)
    assert facts.cache_hit_share == pytest.approx(10 / 50)
    assert facts.batch_rows_mean == pytest.approx((5 + 20 + 40) / 25)


def test_values_have_the_names_of_the_timeline() -> None:
    values = facts_between(snapshot(BEFORE, rejected=2), snapshot(AFTER, rejected=5)).values(2.0)
    assert values["model.m.rate_per_s"] == 25.0
    assert values["model.m.rows_per_s"] == 40.0
    assert values["model.m.executions_per_s"] == 12.5
    assert values["model.m.failed_per_s"] == values["model.m.rejected_per_s"] == 1.5
    assert values["model.m.queue_ms"] == pytest.approx(5.0)
    assert len(values) == 12


def test_a_stretch_without_requests_has_rates_and_no_means() -> None:
    values = facts_between(snapshot(AFTER), snapshot(AFTER)).values(1.0)
    assert {name.removeprefix("model.m."): value for name, value in values.items()} == {
        "rate_per_s": 0.0,
        "rows_per_s": 0.0,
        "executions_per_s": 0.0,
        "failed_per_s": 0.0,
    }


def test_rejections_that_were_not_told_are_not_zero() -> None:
    facts = facts_between(snapshot(BEFORE, rejected=2), snapshot(AFTER))
    assert facts.rejected is None
    assert "model.m.rejected_per_s" not in facts.values(1.0)


def test_versions_are_added_up_and_a_new_one_counts_from_its_start() -> None:
    second = statistics(version="2", rows=7, executions=7, batches={1: 7}, success=(7, 70))
    facts = facts_between(snapshot(BEFORE), snapshot(AFTER, second))
    assert (facts.requests, facts.rows, facts.executions, facts.incomplete) == (57, 87, 32, "")
    assert facts.batches == {1: 12, 2: 10, 4: 10}


def test_a_model_that_was_loaded_again_says_so_and_counts_what_came_after() -> None:
    fresh = statistics(rows=8, executions=4, batches={2: 4}, success=(8, 80), queue=(8, 8))
    facts = facts_between(snapshot(AFTER, rejected=5), snapshot(fresh, rejected=1))
    assert (facts.requests, facts.rows, facts.executions, facts.rejected, facts.batches) == (8, 8, 4, 1, {2: 4})
    assert facts.queue_share == pytest.approx(0.1)
    assert facts.incomplete == "version 1 was loaded again; only what came after it is counted"


def test_a_single_counter_that_went_back_is_enough() -> None:
    fresh = statistics(rows=500, executions=300, batches={4: 300}, success=(500, 5000))
    facts = facts_between(snapshot(AFTER), snapshot(fresh))
    assert (facts.requests, facts.batches) == (500, {4: 300})
    assert "loaded again" in facts.incomplete


def test_a_version_that_was_unloaded_is_named() -> None:
    second = statistics(version="2", success=(3, 30))
    facts = facts_between(snapshot(AFTER), snapshot(second))
    assert facts.requests == 3
    assert facts.incomplete == "version 1 was unloaded; what it did before that is not counted"


def test_facts_survive_json() -> None:
    facts = facts_between(snapshot(BEFORE, rejected=1), snapshot(AFTER, rejected=1))
    assert ModelFacts.from_dict(json.loads(json.dumps(facts.to_dict(), allow_nan=False))) == facts


DURATION = st.tuples(st.integers(0, 50), st.integers(0, 50))
VERSION = st.builds(
    statistics,
    version=st.sampled_from(["1", "2"]),
    rows=st.integers(0, 50),
    executions=st.integers(0, 50),
    batches=st.dictionaries(st.integers(1, 4), st.integers(0, 50), max_size=3),
    **dict.fromkeys(DURATIONS, DURATION),
)
SNAPSHOT = st.builds(
    lambda versions, rejected: snapshot(*versions, rejected=rejected),
    st.lists(VERSION, max_size=2, unique_by=lambda entry: entry.version),
    st.none() | st.integers(0, 9),
)


@given(SNAPSHOT, SNAPSHOT)
def test_no_figure_is_ever_negative_or_beyond_its_bounds(before: ModelSnapshot, after: ModelSnapshot) -> None:
    facts = facts_between(before, after)
    figures = facts.to_dict()
    assert all(value >= 0 for value in figures.values() if isinstance(value, (int, float)))
    assert all(value >= 0 and math.isfinite(value) for value in facts.values(1.0).values())
    assert math.isnan(facts.queue_share) or 0 <= facts.queue_share <= 1
    assert math.isnan(facts.cache_hit_share) or 0 <= facts.cache_hit_share <= 1
    assert ModelFacts.from_dict(json.loads(json.dumps(figures))) == facts
