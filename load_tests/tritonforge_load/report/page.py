"""A result as one HTML page, or as a section of a page about more than the load test."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from importlib import metadata
from importlib.resources import files
from typing import Any, Final

from tritonforge_generator.report.figures import count, duration, latency, significant
from tritonforge_generator.report.pages import page_environment
from tritonforge_generator.report.section import Headline, Section
from tritonforge_load.measure import CampaignResult
from tritonforge_load.measure.rows import SUMMARY_PERCENTS
from tritonforge_load.report import view
from tritonforge_load.report.knee import KNEE_RULE, curves_from_result
from tritonforge_load.report.over_time import sample_width_s, width_s_of
from tritonforge_load.report.phase_plots import curve_plots, distribution_plots, knee_words, server_plots
from tritonforge_load.report.time_plots import observed_plots, request_plots

_TEMPLATES: Final = files("tritonforge_load.report") / "templates"
_DASH: Final = "\N{EN DASH}"


def page_from_result(result: CampaignResult) -> str:
    """Write a result as one HTML document that needs nothing else: no network, no script, no file beside it.

    Args:
        result: The result.

    Returns:
        The document: verdict, gates and problems first, then figures, plots, the server's and the generator's side.

    Raises:
        MissingExtraError: Jinja2 or matplotlib is not installed.
    """
    section = section_from_result(result)
    page = {
        "title": result.campaign,
        "verdict": view.VERDICT_WORDS[result.verdict] if result.gates or not result.passed else None,
        "tool": f"tritonforge {metadata.version('tritonforge')}",
        "command": result.target,
        "started_at": _moment_words(result.started_at),
        "failures": section.failures,
    }
    return str(_environment().get_template("campaign.html.j2").render(page=page, section=section))


def section_from_result(result: CampaignResult) -> Section:
    """Write a result as a section of a page about more.

    Args:
        result: The result.

    Raises:
        MissingExtraError: Jinja2 or matplotlib is not installed.
    """
    rows = view.phase_rows(result)
    served = [(phase.name, facts) for phase in result.phases for facts in view.model_rows(phase)]
    html = (
        _environment()
        .get_template("load.html.j2")
        .render(
            result=result,
            rows=rows,
            columns=_telling_columns(rows),
            percents=[f"{percent:g}" for percent in SUMMARY_PERCENTS],
            from_the_schedule=view.FROM_THE_SCHEDULE,
            too_few=view.TOO_FEW,
            request_plots=request_plots(result),
            observed_plots=observed_plots(result),
            time_rule=_time_rule(result),
            phase_plots=[*server_plots(result), *curve_plots(result), *distribution_plots(result)],
            knees=[knee_words(curve) for curve in curves_from_result(result)],
            knee_rule=KNEE_RULE,
            served=served,
            with_cache=any(facts.cache_hits + facts.cache_misses > 0 for _, facts in served),
            runs=[run for phase in result.phases for run in phase.runs],
            facts=list(_facts(result)),
        )
    )
    return Section(
        html=str(html),
        headline=tuple(_headline(result, rows)),
        judged=bool(result.gates) or not result.passed,
        failures=view.failures_of(result),
    )


def _environment() -> Any:
    environment = page_environment(_TEMPLATES)
    environment.filters |= {
        "achieved_share": view.achieved_share,
        "figure": lambda value, digits: _DASH if value is None else significant(value, digits),
        "found_words": view.found_words,
        "known": view.known,
        "load_words": view.load_words,
        "phase_words": view.phase_words,
        "service_p99": lambda row: row.service_ms(99.0) if view.told_ms(row, 99.0) is not None else None,
        "told": lambda row, percent: view.told_ms(row, float(percent)),
        "tried_of": view.tried_of,
    }
    return environment


def _telling_columns(rows: list[view.PhaseRow]) -> set[str]:
    """The optional columns that say something that the others do not."""
    telling = set()
    if any(one.row.rows_per_s != one.row.rate_per_s for one in rows if one.row.sent > 0):
        telling.add("rows_per_s")
    if any(one.row.cell.service.count > 0 for one in rows):
        telling |= {"service", "shed"}
    if any(one.row.checked > 0 for one in rows):
        telling.add("correct")
    return telling


def _time_rule(result: CampaignResult) -> str:
    requests_s, samples_s = width_s_of(result), sample_width_s(result.timeline)
    piece = "one second" if requests_s == 1 else f"{requests_s} seconds"
    sentences = [
        "Shaded: the runs of the measured phases.",
        f"Each point of latency and throughput is {piece} of requests, by the moment at which they were due.",
    ]
    if result.timeline.samples:
        way = "one sample" if samples_s <= result.timeline.interval_s else "the mean of the samples"
        sentences.append(f"Each point of the other drawings is {way} of {duration(samples_s)}.")
    return " ".join(sentences)


def _headline(result: CampaignResult, rows: list[view.PhaseRow]) -> Iterator[Headline]:
    for phase in result.phases:
        if phase.search is not None and phase.search.found is not None:
            unit = "req/s" if phase.search.over == "rate" else "users"
            note = f"{phase.name}: the highest load that held" + ("" if phase.search.is_limit else ", or more")
            yield Headline(label="Load held", value=significant(phase.search.found), unit=unit, note=note)
    whole = [one for one in rows if one.name == view.TOGETHER or len(one.phase.rows) == 1]
    answered = [one for one in whole if one.row.answered > 0]
    # Figures of an invalid phase are the generator's; they stand here only where there are no others.
    valid = [one for one in answered if not one.phase.invalid] or answered
    if valid:
        busiest = max(valid, key=lambda one: one.row.rate_per_s)
        note = f"{busiest.name} in {busiest.phase.name}"
        yield Headline(label="Throughput", value=significant(busiest.row.rate_per_s), unit="req/s", note=note)
        yield Headline(label="Median latency", value=latency(busiest.row.percentile_ms(50)), note=note)
        yield Headline(label="p99 latency", value=latency(busiest.row.percentile_ms(99)), note=note)
    if result.gates:
        passed = sum(gate.passed for gate in result.gates)
        yield Headline(label="Gates", value=str(passed), unit=f"of {len(result.gates)} passed", note="under load")


def _facts(result: CampaignResult) -> Iterator[tuple[str, str]]:
    runs = [run for phase in result.phases for run in phase.runs]
    yield "Target", result.target
    if result.started_at:
        yield "Started", _moment_words(result.started_at)
    yield "Seed", str(result.seed)
    yield "Workers", str(max((run.generator.workers for run in runs), default=0))
    clock_error_s = max((run.generator.clock_error_s for run in runs), default=0.0)
    if clock_error_s > 0:
        yield "Clocks", f"of the workers within {duration(clock_error_s)}"
    yield "Unmeasured", f"{count(result.unmeasured)} requests: warm-up, and while users start and stop"
    if result.timeline.samples:
        yield "Observed", f"every {duration(result.timeline.interval_s)}"
    yield from result.versions.items()


def _moment_words(text: str) -> str:
    """``2030-01-02 03:04:05 UTC`` of an ISO moment; what is none stays as it is."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.10 does not know the Z
    except ValueError:
        return text
    return moment.strftime("%Y-%m-%d %H:%M:%S %Z").strip()
