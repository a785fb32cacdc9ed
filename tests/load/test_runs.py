from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tritonforge_generator.errors import SpecError
from tritonforge_load.arrivals.runs import Run, Runs
from tritonforge_load.campaign import read_campaign

CampaignFile = Callable[..., Path]


def runs_of(path: Path) -> Runs:
    return Runs(read_campaign(path), base=path.parent)


def test_names_loads_and_lengths(campaign_file: CampaignFile) -> None:
    path = campaign_file(
        phases="[{name: users, users: 3, for: 2s, repeat: 2}, {name: even, arrival: constant, rate: 10/s, for: 3s}, "
        "{name: ramp, arrival: curve, points: [[0s, 0/s], [10s, 100/s], [20s, 100/s]]}, "
        "{name: peak, search: {from: 10/s, to: 100/s, step_for: 4s, until: [errors < 1%]}}]"
    )
    runs = runs_of(path)
    assert [(run.name, run.load, run.duration_s) for index in range(3) for run in runs.of_phase(index)] == [
        ("users#1", 3, 2.0),
        ("users#2", 3, 2.0),
        ("even", 10.0, 3.0),
        ("ramp", 75.0, 20.0),  # (500 + 1000) requests in 20 s
    ]
    step = runs.of_search(3, 40.0, 2, 1)
    assert (step.name, step.rate_per_s, step.users, step.duration_s) == ("peak@40/s#2", 40.0, None, 4.0)


def test_the_schedule_is_the_same_in_every_process_and_another_in_every_repetition(campaign_file: CampaignFile) -> None:
    path = campaign_file(phases="[{name: steady, arrival: poisson, rate: 500/s, for: 4s, repeat: 2}]")
    first, second = runs_of(path).of_phase(0)
    here, elsewhere = runs_of(path).schedule(first), runs_of(path).schedule(Run.from_dict(first.to_dict()))
    np.testing.assert_array_equal(here.times_s, elsewhere.times_s)
    np.testing.assert_array_equal(here.workloads, elsewhere.workloads)
    assert not np.array_equal(here.times_s[:100], runs_of(path).schedule(second).times_s[:100])
    # Weights 1 and 0.5; four standard deviations of the share.
    count = len(here.workloads)
    assert np.mean(here.workloads == 0) == pytest.approx(2 / 3, abs=4 * np.sqrt(2 / 9 / count))


class TestTraces:
    def phase(self, campaign_file: CampaignFile, text: str) -> Path:
        path = campaign_file(phases="[{name: replay, arrival: trace, file: arrivals.csv, speed: 2}]")
        (path.parent / "arrivals.csv").write_text(text)
        return path

    def test_names_choose_the_workload(self, campaign_file: CampaignFile) -> None:
        runs = runs_of(self.phase(campaign_file, "time_s,workload\n100,four\n101,one\n104,four\n"))
        (run,) = runs.of_phase(0)
        schedule = runs.schedule(run)
        assert schedule.times_s.tolist() == [0.0, 0.5, 2.0]
        assert schedule.workloads.tolist() == [1, 0, 1]
        assert (run.duration_s, run.load) == (2.0, 1.5)

    def test_an_unknown_workload_is_refused(self, campaign_file: CampaignFile) -> None:
        with pytest.raises(SpecError, match=r"arrivals\.csv: expected workloads one, four, got 'two'"):
            runs_of(self.phase(campaign_file, "0,one\n1,two\n"))

    def test_a_trace_of_one_moment_is_refused(self, campaign_file: CampaignFile) -> None:
        with pytest.raises(SpecError, match="expected arrivals over a time"):
            runs_of(self.phase(campaign_file, "5\n5\n"))
