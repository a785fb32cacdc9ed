from __future__ import annotations

from dataclasses import replace

import pytest
from load.made_results import bare_result, long_result, made_result, poisson_run
from support.extras import run_without_extras

from tritonforge_load.judge.compare import compare
from tritonforge_load.measure import CampaignResult, GateResult, PhaseResult
from tritonforge_load.report.comparison import text_from_comparison
from tritonforge_load.report.table import text_from_result
from tritonforge_load.report.terminal import Column, table_of, text_of

WIDTHS = [60, 80, 100, 120, 200]


@pytest.fixture(scope="module")
def text() -> str:
    return text_from_result(made_result(), 200)


def line_of(text: str, *starts: str) -> list[str]:
    """The words of the first line that begins with these."""
    return next(line.split() for line in text.splitlines() if line.split()[: len(starts)] == list(starts))


def test_figures_are_those_of_the_result(text: str) -> None:
    row = made_result().phase("steady").row("small")
    words = line_of(text, "steady", "poisson,", "300/s", "small")
    assert words[4:6] == [f"{row.sent:,}", "0"]
    assert float(words[7]) == pytest.approx(row.rate_per_s, rel=1e-3)
    assert float(words[12]) == pytest.approx(row.percentile_ms(99), rel=0.005)
    assert words[14] == "-", "6,900 requests do not tell the 99.99th percentile"


def test_every_part_is_there(text: str) -> None:
    for words in (
        "Campaign digits on grpc://127.0.0.1:8001, latencies in ms",
        "Mean over the runs and its 95 % interval",
        "Search peak over requests/s",
        "The highest load that held is 800/s: 800/s held and held again; 1000/s did not hold.",
        "The server's side, mean times of a request in ms",
        "  burst, small: 16 x Unavailable",
        "  gpu.1.clocks: NVML does not tell them: Not Supported",
        "UNSTEADY burst: p50 rises by 12 % a minute",
        "INVALID burst: slip p99 is 12 ms",
    ):
        assert words in text
    assert text.endswith("Failed, 2 of 5 gates passed")


def test_gates_have_their_verdicts_and_reasons(text: str) -> None:
    gates = text.partition("\nGates\n")[2]
    for verdict, gate in zip(("PASS", "PASS", "INCONCLUSIVE", "INVALID", "FAIL"), made_result().gates, strict=True):
        line = next(line for line in gates.splitlines() if gate.assertion in line)
        assert line.split()[:2] == [verdict, gate.phase]
        assert line.endswith(gate.reason)


def test_repeats_have_an_interval(text: str) -> None:
    words = line_of(text.partition("Mean over the runs")[2], "steady", "all", "together")
    assert words[3] == "3"
    assert words[5] == "\N{PLUS-MINUS SIGN}"


@pytest.mark.parametrize("width", WIDTHS)
def test_fits_the_terminal(width: int) -> None:
    for result in (made_result(), bare_result(), long_result()):
        text = text_from_result(result, width)
        assert max(len(line) for line in text.splitlines()) <= width


def test_eighty_columns_keep_what_matters() -> None:
    text = text_from_result(made_result(), 80)
    heading = next(line for line in text.splitlines() if "req/s" in line).split()
    assert {"phase", "workload", "errors", "req/s", "p50", "p99", "p99.9"} <= set(heading)
    assert "Too narrow for load, rows/s, p90" in text
    assert "all together" in text, "names are whole"


def test_a_name_of_64_letters_folds_rather_than_pushing_figures_out() -> None:
    name = "n" * 64
    result = replace(made_result(), phases=tuple(replace(phase, name=name) for phase in made_result().phases[:2]))
    text = text_from_result(result, 80)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "p99" in text
    assert text.partition("Mean over")[0].count("n") >= 64


def test_words_in_brackets_are_no_markup() -> None:
    reason = "[red]no[/red] [/]"
    gate = GateResult("main", "p99 < 1ms", "fail", None, reason)
    result = replace(bare_result(), campaign="[bold]x", gates=(gate,), problems=("[link=x]worker[/link]",))
    text = text_from_result(result, 120)
    for words in (reason, "Campaign [bold]x on", "PROBLEM [link=x]worker[/link]"):
        assert words in text


def test_without_gates_there_is_no_verdict() -> None:
    text = text_from_result(bare_result(), 120)
    assert "Passed" not in text
    assert "Gates" not in text
    assert text_from_result(replace(bare_result(), problems=("a worker died",)), 120).endswith("Invalid")


def test_nothing_measured_at_all() -> None:
    text = text_from_result(CampaignResult("c", "t", (), problems=("it was stopped early",)), 80)
    assert "PROBLEM it was stopped early" in text


def test_a_phase_whose_search_found_nothing_has_no_figures() -> None:
    peak = made_result().phase("peak")
    assert peak.search is not None
    outcome = replace(peak.search, found=None, reason="100/s did not hold")
    text = text_from_result(CampaignResult("c", "t", (PhaseResult("peak", peak.runs, outcome),)), 120)
    assert "No load held: 100/s did not hold." in text
    assert "1,600" in text


def test_columns_go_by_importance_and_are_said() -> None:
    columns = [Column("a", ["1" * 10]), Column("b", ["2" * 10], keep=2), Column("c", ["3" * 10], keep=1)]
    for width, left_out in ((60, None), (30, "Too narrow for c."), (20, "Too narrow for b, c.")):
        text = text_of(table_of("t", columns, width), width)
        assert (left_out is None and "Too narrow" not in text) or (left_out is not None and left_out in text)
        assert "1" * 10 in text


def test_a_comparison_says_what_changed_beyond_the_noise() -> None:
    def result(rate_per_s: float, seed: int) -> CampaignResult:
        runs = tuple(poisson_run(f"p#{number}", rate_per_s, 4.0, 5.0 * number, seed + number) for number in range(4))
        return CampaignResult("c", "t", (PhaseResult("p", runs),), seed=seed)

    comparison = compare(result(300, 1), replace(result(300, 50), phases=result(800, 50).phases))
    assert comparison.not_compared, "another load is no change of the server"
    same = compare(result(300, 1), result(300, 50))
    spoiled = tuple(
        replace(change, verdict="worse", before=1.0, after=2.0, change=1.0, low=0.8, high=1.2)
        if (change.metric, change.workload) == ("p99", "small")
        else replace(change, verdict="same")
        for change in same.changes
    )
    text = text_from_comparison(replace(same, changes=spoiled), 80)
    assert " ".join(line_of(text, "worse", "p")) == "worse p p99(small) 1 ms 2 ms +100.0 \N{PLUS-MINUS SIGN} 20 %"
    assert "seed: 1, then 50" in text
    assert text.endswith("Worse: at least one figure is")
    assert max(len(line) for line in text.splitlines()) <= 80
    for one in (comparison, same):
        assert max(len(line) for line in text_from_comparison(one, 80).splitlines()) <= 80
    assert "p: another load: poisson 300/s, then poisson 800/s" in text_from_comparison(comparison, 120)


def test_rich_is_only_needed_when_something_is_shown() -> None:
    done = run_without_extras("import tritonforge_load.report.terminal as t\nt.paragraph('x')")
    assert done.returncode == 1
    assert "pip install 'tritonforge[load]'" in done.stderr
