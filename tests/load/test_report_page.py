from __future__ import annotations

import html
import json
import re
import statistics
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
from load.made_results import bare_result, long_result, made_result, poisson_run, run_of
from support.pages import cells_of, outline_of

from tritonforge_client.extras import MissingExtraError
from tritonforge_generator.report import RunReport, render_report
from tritonforge_load.measure import (
    CampaignResult,
    Cell,
    GateResult,
    PhaseResult,
    WorkloadResult,
    dict_from_result,
    result_from_dict,
)
from tritonforge_load.report.over_time import MOST_POINTS
from tritonforge_load.report.page import page_from_result, section_from_result

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>$\\frac{1}{$'
STUDENT_2 = 4.302653  # 95 %, two-sided, 2 degrees of freedom
FIGURES = "Figures per phase and workload"


@pytest.fixture(scope="module")
def page() -> str:
    return page_from_result(made_result())


def titles_of(document: str) -> list[str]:
    return [html.unescape(title) for title in re.findall(r"<figcaption>(.*?)</figcaption>", document)]


def descriptions_of(document: str) -> Iterator[str]:
    return (html.unescape(words) for words in re.findall(r'<svg[^>]*aria-label="([^"]*)"', document))


def test_is_well_formed_and_stands_alone(page: str) -> None:
    outline = outline_of(page)

    assert page.startswith("<!DOCTYPE html>")
    assert "script" not in outline.tags
    assert len(outline.ids) == len(set(outline.ids))
    assert [link for link in outline.links if not link.startswith(("#", "data:,"))] == []
    assert re.search(r"@import|url\((?!#)", page) is None
    assert "#0101" not in page, "a placeholder colour that was not replaced"


def test_the_verdict_and_what_led_to_it_come_first(page: str) -> None:
    top, _, rest = page.partition("<main>")

    assert "<title>digits: failed</title>" in top
    assert re.findall(r"<li>(.*?)</li>", html.unescape(top)) == [
        f"burst is invalid: {'; '.join(made_result().phase('burst').invalid)}",
        "p99.9 < 8ms in single: inconclusive: 3.1 ms of 4,100 requests; 503 more are needed",
        "max_rate >= 900/s in peak: 800/s is not >= 900/s",
    ]
    assert "peak: the highest load that held" in top
    assert [row[0][2:] for row in cells_of(rest, "Gates")] == ["passed", "passed", "inconclusive", "invalid", "failed"]


def test_the_headline_is_of_the_busiest_phase_that_is_valid() -> None:
    result = made_result()
    busy = replace(result.phases[2], runs=(poisson_run("burst", 2000, 2.0, 58.0, 1),))
    spoiled = replace(busy, runs=(replace(busy.runs[0], invalid=("slip",)),))
    tops = [
        page_from_result(replace(result, phases=(result.phases[1], phase))).partition("<main>")[0]
        for phase in (busy, spoiled)
    ]
    assert ["all together in burst" in top for top in tops] == [True, False]
    assert "all together in steady" in tops[1]


@pytest.mark.parametrize(("verdict", "word"), [("invalid", "Invalid"), ("inconclusive", "Inconclusive")])
def test_a_doubt_is_no_failure(verdict: str, word: str) -> None:
    gate = GateResult("main", "p99 < 1ms", verdict, None, "why")  # type: ignore[arg-type]  # both are verdicts
    document = page_from_result(replace(bare_result(), gates=(gate,)))
    assert f'<span class="verdict {verdict}">{word}</span>' in document


def test_without_gates_there_is_no_verdict() -> None:
    assert 'class="verdict' not in page_from_result(bare_result())
    assert 'class="verdict invalid"' in page_from_result(replace(bare_result(), problems=("a worker died",)))


def test_the_table_says_what_was_measured(page: str) -> None:
    rows = cells_of(page, FIGURES)
    assert [(row[0].partition(" ")[0], row[1]) for row in rows] == [
        (phase, workload)
        for phase in ("single", "steady", "burst", "peak")
        for workload in ("small", "large", "all together")
    ]
    headings = re.findall(r"<th [^>]*>([^<]*)", page.partition(FIGURES)[2].partition("</thead>")[0])
    steady = dict(zip(headings, rows[3], strict=True))
    row = made_result().phase("steady").row("small")
    assert float(steady["p99"]) == pytest.approx(row.percentile_ms(99), rel=0.005)
    assert float(steady["Service p99"]) == pytest.approx(row.service_ms(99), rel=0.005)
    assert steady["Requests"] == f"{row.sent:,}"
    assert steady["p99.99"] == "\N{EN DASH}", "6,900 requests do not tell the 99.99th percentile"
    burst = dict(zip(headings, rows[6], strict=True))
    assert burst["Phase"].endswith("invalid")
    assert (burst["Shed"], burst["Errors"]) == ("41", "Unavailable 16")


def test_columns_that_say_nothing_are_left_out() -> None:
    document = page_from_result(bare_result())
    headings = re.findall(r"<th [^>]*>([^<]*)", document.partition(FIGURES)[2].partition("</thead>")[0])
    assert not {"Rows/s", "Service p99", "Shed"} & set(headings)
    assert "Right" in headings
    assert "service p99 counts from" not in document


def test_repeated_phases_have_intervals(page: str) -> None:
    steady = next(row for row in cells_of(page, "Repeated phases") if row[:2] == ["steady", "all together"])
    rates = [run.total.rate_per_s for run in made_result().phase("steady").runs]
    margin = STUDENT_2 * statistics.stdev(rates) / 3**0.5
    mean, low = (float(part) for part in steady[3].split("\N{PLUS-MINUS SIGN}"))
    assert steady[2] == "3"
    assert mean == pytest.approx(statistics.mean(rates), rel=1e-3)
    assert low == pytest.approx(margin, rel=0.05)


def test_a_search_is_told_step_by_step(page: str) -> None:
    steps = cells_of(page, "Loads tried in peak")
    assert [row[0] for row in steps] == [
        *("100/s", "200/s", "400/s", "800/s", "1,600/s", "1,200/s", "1,000/s", "800/s"),
    ]
    assert [row[1][2:] for row in steps] == [*["held"] * 4, *["did not hold"] * 3, "held"]
    assert steps[4][-1].startswith("p99 &lt; 20ms")
    assert "The highest load that held is 800/s" in page


def test_every_drawing_is_there(page: str) -> None:
    assert titles_of(page) == [
        "Latency, ms",
        "Offered and answered, requests/s",
        "Mean time in the server's queue, ms",
        "GPU utilisation, %",
        "GPU memory, GB",
        "GPU power, W",
        "GPU clocks, MHz",
        "CPU of server and generators, %",
        "Memory of server and generators, MB",
        "Time in the server, mean ms of a request",
        "Executed batches by rows, % of executions",
        "Latency by throughput in peak, ms",
        "Latency distribution, ms",
    ]
    words = list(descriptions_of(page))
    assert any("In peak the knee is at 800/s" in one for one in words)
    assert any("Requests wait longest in peak, digits" in one for one in words)
    assert any(one.startswith("server from 3") and "largest of 2 generators from 1" in one for one in words)
    assert any(one.startswith("GPU 0 from") and "GPU 1 from" in one for one in words)


def test_what_was_not_observed_is_said_with_its_reason(page: str) -> None:
    assert cells_of(page, "Not observed") == [
        [kind, html.escape(reason, quote=False).replace("'", "&#39;")]
        for kind, reason in sorted(made_result().timeline.absent.items())
    ]


def test_the_generator_is_judged_run_by_run(page: str) -> None:
    runs = cells_of(page, "The load generator by run")
    assert [row[0] for row in runs] == [run.run for phase in made_result().phases for run in phase.runs]
    burst = runs[4]
    assert (burst[2][2:], burst[4]) == ("invalid", "100%")
    assert "12 ms" in burst[-1]
    assert runs[0][3:5] == ["\N{EN DASH}", "\N{EN DASH}"], "nothing is due where users send when they can"


def test_how_it_was_run_is_said(page: str) -> None:
    facts = dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd></div>", page.partition('id="load-run"')[2]))
    assert facts["Started"] == "2030-01-02 03:04:05 UTC"
    assert (facts["Seed"], facts["Workers"], facts["triton"]) == ("7", "2", "2.51.0")


def test_half_an_hour_of_eight_gpus_is_a_small_page() -> None:
    document = page_from_result(long_result())
    drawn = [len(re.findall(r"[ML] ", path)) for path in re.findall(r'<path d="([^"]*)"', document)]

    assert len(document) < 1_000_000
    assert max(drawn) <= 2 * MOST_POINTS + 50, "an area goes along its line and back"
    assert "Each point of latency and throughput is 10 seconds of requests" in document
    assert "the mean of the samples of 10 s" in document
    assert "minutes of the campaign" in document
    assert "highest of 8" in document
    assert "GPU 7" not in document
    assert "Time in the server, mean ms of a request (the first 12 of 20)" in titles_of(document)
    assert "Latency distribution, ms (the first 6 of 10)" in titles_of(document)


def test_one_second_of_one_workload_is_still_a_page() -> None:
    cell = Cell()
    cell.record(0, 1_000_000, 1, None)
    run = replace(run_of("p", "closed", 1, 0.5, 0.0, {"w": cell}), models=())
    result = CampaignResult("one", "t", (PhaseResult("p", (run,)),))
    assert titles_of(page_from_result(result)) == ["Latency, ms", "Answered, requests/s"]


def test_a_run_without_any_answer_is_still_a_page() -> None:
    cell = Cell()
    cell.record(0, 1_000_000, 1, "Unavailable")
    run = replace(run_of("p", "closed", 1, 2.0, 0.0, {"w": cell}), rows=(WorkloadResult("w", 2.0, cell),))
    document = page_from_result(CampaignResult("none", "t", (PhaseResult("p", (run,)),)))
    assert "Latency, ms" not in titles_of(document)
    assert "Unavailable 1" in document
    assert "nan" not in re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", document, flags=re.DOTALL).lower()


def test_nothing_measured_at_all_is_still_a_page() -> None:
    result = CampaignResult("nothing", "t", (), problems=("it was stopped early",))
    document = page_from_result(result)
    assert "it was stopped early" in document
    assert "<svg" not in document
    outline_of(document)


def test_a_search_that_found_nothing_says_so() -> None:
    peak = made_result().phase("peak")
    assert peak.search is not None
    steps = tuple(replace(step, held=False) for step in peak.search.steps)
    outcome = replace(peak.search, found=None, steps=steps, reason="100/s did not hold")
    document = page_from_result(CampaignResult("c", "t", (PhaseResult("peak", peak.runs, outcome),)))
    assert "No load held: 100/s did not hold." in document
    assert "Load held" not in document


def test_a_load_that_the_generator_did_not_hold_is_no_failure_of_the_server() -> None:
    peak = made_result().phase("peak")
    runs = tuple(replace(run, invalid=("slip",)) if run.run == "peak@1600/s" else run for run in peak.runs)
    document = page_from_result(CampaignResult("c", "t", (replace(peak, runs=runs),)))
    verdicts = [row[1][2:] for row in cells_of(document, "Loads tried in peak")]
    assert verdicts == [*["held"] * 4, "invalid", *["did not hold"] * 2, "held"]
    assert "1 invalid run is left out" in " ".join(descriptions_of(document))


def test_hostile_names_are_text() -> None:
    result = made_result()
    phase = result.phases[2]
    run = replace(phase.runs[0], run=HOSTILE, invalid=(HOSTILE,))
    run = replace(run, rows=(replace(run.rows[0], workload=HOSTILE),), models=(replace(run.models[0], model=HOSTILE),))
    peak = result.phases[3]
    assert peak.search is not None
    hostile = replace(
        result,
        campaign=HOSTILE,
        target=HOSTILE,
        started_at=HOSTILE,
        phases=(replace(phase, name=HOSTILE, runs=(run,)), replace(peak, name=HOSTILE)),
        gates=(GateResult(HOSTILE, HOSTILE, "fail", None, HOSTILE),),
        problems=(HOSTILE,),
        timeline=replace(result.timeline, absent={HOSTILE: HOSTILE}),
        versions={HOSTILE: HOSTILE},
    )
    outline = outline_of(page_from_result(hostile))
    assert not {"script", "img"} & set(outline.tags)


def test_a_page_about_more_has_the_same_section(page: str) -> None:
    section = section_from_result(made_result())
    whole = render_report(RunReport(title="m", command="c", started_at="now", tool="t", load=section))

    assert section.html in page
    assert section.html in whole
    assert section.judged
    assert "<title>m: failed</title>" in whole
    assert [figure.label for figure in section.headline] == [
        *("Load held", "Throughput", "Median latency", "p99 latency", "Gates"),
    ]


def test_a_stored_result_gives_the_same_page(page: str) -> None:
    stored = json.loads(json.dumps(dict_from_result(made_result())))
    assert page_from_result(result_from_dict(stored)) == page


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_names_the_extra_that_is_missing(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tritonforge\[report\]'"):
        page_from_result(bare_result())
