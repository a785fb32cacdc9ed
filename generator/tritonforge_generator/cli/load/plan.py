"""``tritonforge load plan``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tritonforge_generator.cli.load.options import campaign_argument, json_option, set_option, settings_from_options

if TYPE_CHECKING:
    from tritonforge_load.plan import CampaignPlan, PhasePlan


@click.command()
@campaign_argument
@set_option
@json_option
def plan(campaign: Path, settings: tuple[str, ...], as_json: bool) -> None:
    """Show what a campaign will do, without a server.

    Its phases with the requests that they send, how long it takes, what it reads, the memory of its payloads, and
    whether each gate can be decided with so many requests.

    Exit codes: 0 all is well, 2 something must change, 5 a gate cannot be decided.
    """
    from tritonforge_generator.cli.output import print_json
    from tritonforge_load.campaign import read_campaign
    from tritonforge_load.plan import plan_from_campaign

    said = read_campaign(campaign, settings=settings_from_options(settings, None))
    planned = plan_from_campaign(said, campaign.resolve().parent)
    if as_json:
        print_json(planned.to_dict())
    else:
        _print(planned)
    if planned.problems:
        sys.exit(2)
    sys.exit(5 if planned.undecidable else 0)


def _print(planned: CampaignPlan) -> None:
    from tritonforge_generator.cli.output import print_table

    print_table(
        f"Campaign {planned.campaign} on {planned.target}",
        ["phase", "arrival", "load", "runs", "time", "requests"],
        [_phase_cells(phase) for phase in planned.phases],
    )
    longest = f", at most {_time(planned.longest_s)}" if planned.longest_s > planned.duration_s else ""
    click.echo(f"about {_time(planned.duration_s)}{longest}, by {planned.workers} process{_es(planned.workers)}")
    if planned.files:
        rows = [[one.place, str(one.path), _size(one.size_bytes)] for one in planned.files]
        print_table("Files", ["read by", "file", "size"], rows, wide=1)
    rows = [
        [one.workload, one.input, one.source, "" if one.rows is None else f"{one.rows:,}", _size(one.size_bytes)]
        for one in planned.payloads
    ]
    if rows:
        print_table("Payloads", ["workload", "input", "values", "rows", "memory"], rows, wide=2)
    if planned.payload_bytes is not None:
        click.echo(f"payloads take about {_size(planned.payload_bytes)} in all processes")
    else:
        click.echo(f"payloads take at most {_size(planned.payload_limit_bytes)} in all processes: more is refused")
    if planned.gates:
        rows = [[one.phase, one.assertion, one.decidable, one.reason] for one in planned.gates]
        print_table("Gates", ["phase", "gate", "can be decided", "why"], rows, wide=3)
    for problem in planned.problems:
        click.echo(f"PROBLEM {problem}")


def _phase_cells(phase: PhasePlan) -> list[str]:
    requests = "as answered" if phase.requests is None else f"{sum(phase.requests.values()):,}"
    if phase.is_search:
        requests = f"{requests} or more a run"
    runs = f"{phase.runs}" if phase.longest_s == phase.duration_s else f"about {phase.runs}"
    name = phase.name if phase.measured else f"{phase.name} (not measured)"
    return [name, phase.arrival, phase.load, runs, _time(phase.duration_s), requests]


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.4g} s"
    minutes, rest_s = divmod(round(seconds), 60)
    return f"{minutes} min" + (f" {rest_s} s" if rest_s > 0 else "")


def _size(size_bytes: int | None) -> str:
    if size_bytes is None:
        return "as the model says"
    return f"{size_bytes:,} bytes" if size_bytes < 2**20 else f"{size_bytes / 2**20:,.1f} MiB"


def _es(count: int) -> str:
    return "" if count == 1 else "es"
