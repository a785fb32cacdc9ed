from __future__ import annotations

import pytest

from tritonforge_load.arrivals.clocks import ClockReading, Clocks


def test_a_moment_is_translated_both_ways() -> None:
    clocks = Clocks()
    clocks.add("a", ClockReading(sent_s=10.0, answered_s=10.2, clock_s=110.1))
    assert clocks.theirs_s("a", 20.0) == pytest.approx(120.0)
    assert clocks.ours_s("a", 120.0) == pytest.approx(20.0)


def test_the_reading_with_the_shortest_way_counts() -> None:
    clocks = Clocks()
    clocks.add("a", ClockReading(10.0, 11.0, 105.9))  # came back slowly: off by 0.4 s
    clocks.add("a", ClockReading(12.0, 12.01, 107.005))
    clocks.add("a", ClockReading(13.0, 13.5, 109.0))
    assert clocks.theirs_s("a", 0.0) == pytest.approx(95.0)


def test_the_error_is_that_of_the_two_worst_known() -> None:
    clocks = Clocks()
    for worker, way_s in (("a", 0.02), ("b", 0.04), ("c", 0.01)):
        clocks.add(worker, ClockReading(0.0, way_s, 5.0))
    assert clocks.error_s({"a", "b", "c"}) == pytest.approx(0.03)
    assert clocks.error_s({"a"}) == 0.0
