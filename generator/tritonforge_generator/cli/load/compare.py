"""``tritonforge load compare``."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from tritonforge_generator.cli.load.options import json_option


@click.command()
@click.argument("before", type=click.Path(path_type=Path), metavar="BEFORE.json")
@click.argument("after", type=click.Path(path_type=Path), metavar="AFTER.json")
@click.option(
    "--percentile", "percents", type=click.FloatRange(0, 100, min_open=True, max_open=True), multiple=True,
    default=(50.0, 95.0, 99.0), show_default=True, help="Percentile of latency to compare; may be repeated.",
)  # fmt: skip
@click.option(
    "--tolerance", type=click.FloatRange(0, 1), default=0.05, show_default=True,
    help="Differences up to this share do not matter.",
)  # fmt: skip
@json_option
def compare(before: Path, after: Path, percents: tuple[float, ...], tolerance: float, as_json: bool) -> None:
    """Compare the JSON outputs of two runs of a campaign.

    Phase by phase, rates, latencies and errors, each difference with the interval that the noise of the two runs
    allows. A difference only counts when it is more than noise and larger than the tolerance; where noise could hide
    one that matters, it is unknown.

    Exit codes: 0 nothing became worse, 2 a file must change, 3 something became worse.
    """
    from tritonforge_generator.cli.output import print_json
    from tritonforge_load.judge.compare import compare as compared
    from tritonforge_load.measure import read_result
    from tritonforge_load.report.comparison import text_from_comparison

    comparison = compared(read_result(before), read_result(after), percents=percents, tolerance=tolerance)
    if as_json:
        print_json(_without_nan({"verdict": comparison.verdict, **asdict(comparison)}))
    else:
        click.echo(text_from_comparison(comparison))
    sys.exit(comparison.exit_code)


def _without_nan(value: Any) -> Any:
    """``None`` for what is no number: JSON has no other word for it."""
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
