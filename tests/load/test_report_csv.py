from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from load.made_results import bare_result, made_result

from tritonforge_load.measure import CampaignResult
from tritonforge_load.report.csv_files import csv_from_result, timeline_csv_from_result


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), strict=True))


def test_one_line_a_run_and_workload_and_one_for_all_together() -> None:
    result = made_result()
    rows = rows_of(csv_from_result(result))
    assert [(row["phase"], row["run"], row["workload"]) for row in rows] == [
        (phase.name, run.run, workload)
        for phase in result.phases
        for run in phase.runs
        for workload in ("small", "large", "*")
    ]


def test_figures_are_those_of_the_result() -> None:
    run = made_result().phase("burst").runs[0]
    row = next(row for row in rows_of(csv_from_result(made_result())) if row["run"] == "burst")
    measured = run.row("small")
    assert float(row["p99.9_ms"]) == measured.percentile_ms(99.9)
    assert float(row["service_p99_ms"]) == measured.service_ms(99)
    assert float(row["slip_p99_ms"]) == measured.slip_ms(99)
    assert (row["sent"], row["shed"], row["errors"]) == (str(measured.sent), "41", "Unavailable=16")
    assert row["invalid"].split("; ") == list(run.invalid)
    assert (row["offered_per_s"], row["users"]) == ("500.0", "")


def test_what_does_not_exist_is_empty() -> None:
    (row, _) = rows_of(csv_from_result(bare_result()))
    assert (row["users"], row["offered_per_s"], row["slip_p99_ms"], row["scheduled"]) == ("2", "", "", "")
    assert "nan" not in csv_from_result(made_result()).lower()


def test_only_runs_at_the_load_that_was_found_are_judged() -> None:
    rows = [row for row in rows_of(csv_from_result(made_result())) if row["phase"] == "peak" and row["workload"] == "*"]
    assert [row["run"] for row in rows if row["judged"] == "1"] == ["peak@800/s", "peak@800/s#2"]
    assert len(rows) == 8


def test_words_with_commas_quotes_and_newlines_come_back() -> None:
    reason = 'a "quoted", reason\nof two lines'
    result = bare_result()
    (run,) = result.phases[0].runs
    phase = replace(result.phases[0], runs=(replace(run, invalid=(reason,)),))
    assert rows_of(csv_from_result(replace(result, phases=(phase,))))[0]["invalid"] == reason


def test_one_line_a_sample_with_its_run() -> None:
    timeline = made_result().timeline
    rows = rows_of(timeline_csv_from_result(made_result()))
    assert [float(row["at_s"]) for row in rows] == [sample.at_s for sample in timeline.samples]
    assert set(rows[0]) == {"at_s", "run", *timeline.names()}
    by_time = {float(row["at_s"]): row for row in rows}
    assert [by_time[at]["run"] for at in (5.0, 6.0, 17.0, 18.0)] == ["", "single", "single", ""]
    assert float(by_time[6.0]["gpu.0.power_w"]) == timeline.samples[5].values["gpu.0.power_w"]
    assert by_time[3.0]["model.digits.queue_ms"] == "", "nothing was asked then"


@pytest.mark.parametrize("text_from_result", [csv_from_result, timeline_csv_from_result])
def test_a_result_without_anything_is_a_heading(text_from_result: Callable[[CampaignResult], str]) -> None:
    assert text_from_result(CampaignResult("c", "t", ())).count("\n") == 1
