"""What long runs keep by the second, without loss and in little memory."""

from __future__ import annotations

import random
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from tritonforge_load.measure import Cell, Histogram
from tritonforge_load.measure.seconds import Second, Seconds
from tritonforge_load.observe.timeline import Sample, Samples

requests = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 2**62), st.booleans()), max_size=200)


@given(requests)
def test_seconds_that_were_packed_are_what_they_were(sent: list[tuple[int, int, bool]]) -> None:
    kept, plain = Seconds(), dict[int, Second]()
    for number, latency_ns, failed in sent:  # in any order, so that packed seconds are added to
        for second in (kept.at(number), plain.setdefault(number, Second())):
            if failed:
                second.errors += 1
            else:
                second.latency.record(latency_ns)
    assert kept == plain
    assert sorted(kept) == sorted(plain)
    assert len(kept) == len(plain)
    assert kept.get(61) is None


@given(st.lists(st.integers(0, 2**57), max_size=100))  # together they stay below 2**64 ns, which are 584 years
def test_a_histogram_comes_back_from_its_bytes(values_ns: list[int]) -> None:
    histogram = Histogram(values_ns)
    assert Histogram.from_bytes(histogram.to_bytes()) == histogram


def test_half_an_hour_of_load_takes_little_memory() -> None:
    draw = random.Random(7)
    cell = Cell()
    tracemalloc.start()
    try:
        for second in range(1800):
            for _ in range(50):
                cell.record(second, round(draw.lognormvariate(0.7, 0.3) * 1e6), 1, None)
        taken_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(cell.seconds) == 1800
    assert taken_bytes < 2e6  # 7 MB before seconds were packed


def test_samples_come_back_in_the_order_of_their_times() -> None:
    given = [
        Sample(2.0, {"b": 2.5}),
        Sample(1.0, {"a": 1.0, "b": float(2**53)}),
        Sample(3.0, {}),
        Sample(2.5, {"b": 0.5}),
    ]
    samples = Samples()
    for sample in given:
        samples.add(sample)
    assert list(samples) == sorted(given, key=lambda sample: sample.at_s)
