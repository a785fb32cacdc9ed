"""The campaign for a GPU host, and the script that plays it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks import load_gpu
from benchmarks.load_gpu import CAMPAIGN, Host, document_from_result, settings_for_two_cores
from load.made_results import bare_result, made_result
from support.judged import campaign_of
from support.marks import write_between_marks

from tritonforge_load.campaign import read_campaign
from tritonforge_load.measure import read_result
from tritonforge_load.plan import plan_from_campaign

HOST = Host(gpu="NVIDIA H200, driver 580.1", cpus=16, platform="tensorrt_plan", instances=2)
OF_MADE = campaign_of(
    workload=[{"name": "small", "model": "digits"}, {"name": "large", "model": "encoder"}], baseline=None
)


def rows_of(text: str) -> list[list[str]]:
    """Cells of the table's lines, without its heading."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


class TestCampaign:
    def test_it_takes_no_longer_than_five_minutes(self) -> None:
        assert plan_from_campaign(read_campaign(CAMPAIGN), CAMPAIGN.parent).duration_s <= 300

    def test_every_phase_has_a_short_form(self) -> None:
        campaign = read_campaign(CAMPAIGN)
        short = read_campaign(CAMPAIGN, settings=settings_for_two_cores(campaign))
        assert [phase.name for phase in short.phases] == [phase.name for phase in campaign.phases]
        assert plan_from_campaign(short, CAMPAIGN.parent).duration_s < 20
        assert short.workers == 2
        assert short.gates == ()


class TestTable:
    def test_has_a_line_a_run_and_of_a_search_those_at_what_was_found(self) -> None:
        result = made_result()
        rows = rows_of(document_from_result(result, OF_MADE, HOST))
        assert [row[0] for row in rows] == [
            "single",
            "steady",
            "steady#2",
            "steady#3",
            "burst",
            "peak@800/s",
            "peak@800/s#2",
        ]
        assert rows[0][1] == "closed, 1 user"
        assert {len(row) for row in rows} == {9}

    def test_batches_queue_and_gpu_are_those_of_the_run(self) -> None:
        rows = {row[0]: row for row in rows_of(document_from_result(made_result(), OF_MADE, HOST))}
        light, heavy = rows["steady"], rows["peak@800/s"]
        assert float(light[5]) < float(heavy[5])
        assert int(light[6].rstrip("%")) < int(heavy[6].rstrip("%"))
        assert int(light[7].rstrip("%")) < int(heavy[7].rstrip("%"))

    def test_an_invalid_run_is_told_with_its_reasons(self) -> None:
        text = document_from_result(made_result(), OF_MADE, HOST)
        assert {row[0]: row[8] for row in rows_of(text)}["burst"] == "INVALID"
        assert "- burst is invalid: slip p99 is 12 ms, expected < 2 ms; the busiest generator" in text

    def test_the_search_the_knee_and_the_gates_are_told(self) -> None:
        text = document_from_result(made_result(), OF_MADE, HOST)
        assert "- `peak`: The highest load that held is 800/s: " in text
        assert "- In peak the knee is at " in text
        assert "- Gates: 2 of 5 passed." in text

    def test_what_was_not_observed_is_not_known_and_the_reason_stands_once(self) -> None:
        result = bare_result()
        absent = {"gpu": "NVML: this host has no GPU", "statistics": "the server did not answer"}
        result = replace(result, timeline=replace(result.timeline, absent=absent))
        text = document_from_result(
            result, campaign_of(workload=[{"name": "small", "model": "digits"}], baseline=None), HOST
        )
        (row,) = rows_of(text)
        assert row[5:8] == ["not known"] * 3
        assert text.count("- Not known: GPU busy: NVML: this host has no GPU.") == 1
        assert text.count("- Not known: rows a batch: the server did not answer.") == 1

    def test_the_machine_is_told(self) -> None:
        first = document_from_result(made_result(), OF_MADE, HOST).splitlines()[0]
        assert "(tensorrt_plan, 2 instances, NVIDIA H200, driver 580.1)" in first
        assert "over GRPC from 2 workers on the server's own machine (16 CPUs), 2030-01-02." in first


class TestMarks:
    def test_only_what_is_between_them_is_replaced(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text("before\n<!-- gpu:begin -->\nold\n<!-- gpu:end -->\nafter\n")
        for _ in range(2):
            write_between_marks(page, "gpu", "new\nlines")
            assert page.read_text() == "before\n<!-- gpu:begin -->\nnew\nlines\n<!-- gpu:end -->\nafter\n"

    def test_the_page_about_load_tests_has_them(self) -> None:
        page = (Path(__file__).parents[2] / "docs" / "load-testing.md").read_text()
        assert page.count("<!-- gpu:begin -->") == page.count("<!-- gpu:end -->") == 1
        assert page.index("<!-- gpu:begin -->") < page.index("<!-- gpu:end -->")

    def test_a_page_without_them_stays_as_it_is(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text("<!-- gpu:begin --> <!-- other:end -->")
        with pytest.raises(SystemExit, match=r"expected <!-- gpu:begin --> and <!-- gpu:end -->"):
            write_between_marks(page, "gpu", "new")
        assert page.read_text() == "<!-- gpu:begin --> <!-- other:end -->"


@pytest.mark.slow
@pytest.mark.triton
@pytest.mark.timeout(300)
def test_the_script_makes_a_model_serves_it_plays_and_writes_everything(tmp_path: Path) -> None:
    page, out = tmp_path / "page.md", tmp_path / "out"
    page.write_text("<!-- gpu:begin -->\n<!-- gpu:end -->\n")
    script = [sys.executable, str(load_gpu.__file__), "--out", str(out), "--markdown", str(page)]
    done = subprocess.run(
        [*script, "--small", "--platform", "onnxruntime"], capture_output=True, text=True, timeout=280, check=False
    )
    result = read_result(out / "resnet50.json")
    assert done.returncode == result.exit_code, done.stderr
    files = {"host.json", "resnet50.json", "resnet50.csv", "resnet50-timeline.csv", "resnet50.xml", "resnet50.html"}
    assert {path.name for path in out.iterdir()} == files
    host = json.loads((out / "host.json").read_text())
    assert host["instances"] == 2
    assert host["platform"].startswith("onnxruntime")
    assert {phase.name for phase in result.phases} == {
        phase.name for phase in read_campaign(CAMPAIGN).phases if phase.measure
    }
    # All workers send in every phase, whatever came before it.
    for run in (run for phase in result.phases for run in phase.runs):
        assert run.generator.workers == 2
        assert run.generator.scheduled in {None, run.total.sent + run.total.shed}
    rows = {row[0]: row for row in rows_of(page.read_text())}
    assert float(rows["offline"][5]) >= 1  # rows a batch
    assert rows["offline"][6].endswith("%")
    assert rows["offline"][2] in done.stdout  # the table is printed too

    written = page.read_text()
    page.write_text("<!-- gpu:begin -->\n<!-- gpu:end -->\n")
    again = subprocess.run([*script, "--earlier"], capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == done.returncode
    assert page.read_text() == written
