"""The time line, its gaps, and what a load generator's own process takes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time

import pytest

from tritonforge_load.observe import ProcessMeter, Sample, Timeline, timeline
from tritonforge_load.observe.absences import Absences

LINE = Timeline(
    1.0,
    (
        Sample(1.0, {"server.cpu_share": 0.5, "model.a.rate_per_s": 10.0}),
        Sample(2.0, {"server.cpu_share": 0.25}),
        Sample(3.0, {"server.cpu_share": 0.75, "model.a.rate_per_s": 30.0}),
    ),
    {"gpu": "no GPU"},
)


def test_a_series_has_the_times_at_which_it_was_observed() -> None:
    assert LINE.names() == ("model.a.rate_per_s", "server.cpu_share")
    assert LINE.series("model.a.rate_per_s") == ((1.0, 3.0), (10.0, 30.0))
    assert LINE.series("server.cpu_share") == ((1.0, 2.0, 3.0), (0.5, 0.25, 0.75))
    assert LINE.series("gpu.0.power_w") == ((), ())


def test_a_sample_belongs_to_the_time_before_it() -> None:
    part = LINE.between(1.0, 3.0)
    assert part.series("server.cpu_share") == ((2.0, 3.0), (0.25, 0.75))
    assert (part.interval_s, part.absent) == (1.0, {"gpu": "no GPU"})
    assert LINE.between(3.0, 9.0).samples == ()


def test_a_timeline_survives_json() -> None:
    assert Timeline.from_dict(json.loads(json.dumps(LINE.to_dict(), allow_nan=False))) == LINE
    assert Timeline.from_dict(Timeline(0.5).to_dict()) == Timeline(0.5)


def test_every_name_is_in_the_table_once() -> None:
    names = re.findall(r"^``([a-z_<>.]+)`` ", str(timeline.__doc__), re.MULTILINE)
    assert len(names) == len(set(names)) == 25


def test_a_reason_that_held_all_the_time_has_no_times() -> None:
    absences = Absences()
    for at_s in (1.0, 2.0, 3.0):
        absences.note(at_s, {"gpu": "no GPU"})
    assert absences.to_dict() == {"gpu": "no GPU"}


def test_samples_that_follow_one_another_are_one_gap() -> None:
    absences = Absences()
    for at_s, absent in ((1.0, {}), (2.0, {"a": "slow"}), (3.0, {"a": "slow"}), (4.0, {}), (5.0, {"a": "slow"})):
        absences.note(at_s, absent)
    assert absences.to_dict() == {"a": "from 2.0 s to 3.0 s: slow; at 5.0 s: slow"}


def test_another_reason_is_another_gap() -> None:
    absences = Absences()
    for at_s, reason in ((1.0, "slow"), (2.0, "slow"), (3.0, "gone")):
        absences.note(at_s, {"a": reason})
    assert absences.to_dict() == {"a": "from 1.0 s to 2.0 s: slow; at 3.0 s: gone"}


def test_a_server_that_comes_and_goes_does_not_fill_the_report() -> None:
    absences = Absences()
    for at_s in range(1000):
        absences.note(float(at_s), {"a": "gone"} if at_s % 2 else {})
    text = absences.to_dict()["a"]
    assert text.count("gone") == 5
    assert text.endswith("and 495 times more, last at 999.0 s")


def test_a_busy_process_takes_one_core_and_a_sleeping_one_none() -> None:
    meter = ProcessMeter(time.perf_counter())
    began_s, cpu_s = time.perf_counter(), time.process_time()
    while time.perf_counter() < began_s + 0.3:
        pass
    busy = meter.sample(time.perf_counter())
    true_share = (time.process_time() - cpu_s) / (time.perf_counter() - began_s)
    time.sleep(0.3)
    idle = meter.sample(time.perf_counter())
    assert busy.cpu_share == pytest.approx(true_share, abs=0.05)
    assert busy.cpu_share > idle.cpu_share + 0.2
    assert idle.cpu_share < 0.1


MEMORY = """
import resource
import numpy as np
from tritonforge_load.observe.process import ProcessMeter

meter = ProcessMeter(0.0)
before_bytes = meter.sample(1.0).memory_bytes
held = np.ones(64 << 20, np.uint8)
after_bytes = meter.sample(2.0).memory_bytes
print(after_bytes - before_bytes, after_bytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def test_memory_is_what_is_resident() -> None:
    # In a process of its own: in this one, earlier tests may give memory back meanwhile.
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, timeout=60)
    gained_bytes, after_bytes, most_bytes = map(int, done.stdout.split())
    assert gained_bytes == pytest.approx(64 << 20, rel=0.1)
    assert after_bytes <= most_bytes * 1.01


def test_no_time_has_no_share() -> None:
    reading = ProcessMeter(5.0).sample(5.0)
    assert reading.values("2") == {"generator.2.memory_bytes": float(reading.memory_bytes)}


def test_a_reading_is_cheap_enough_for_every_second() -> None:
    meter = ProcessMeter(0.0)
    began_s = time.process_time()
    for at_s in range(1, 1001):
        meter.sample(float(at_s))
    assert (time.process_time() - began_s) / 1000 < 0.001  # a thousandth of a core
