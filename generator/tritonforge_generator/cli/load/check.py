"""``tritonforge load check``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tritonforge_generator.cli.load.options import json_option, set_option, settings_from_options, url_option
from tritonforge_generator.errors import TritonforgeError

if TYPE_CHECKING:
    from tritonforge_load.campaign import Campaign


@click.command()
@click.argument("campaigns", type=click.Path(path_type=Path), metavar="CAMPAIGN.yaml...", nargs=-1, required=True)
@url_option
@set_option
@json_option
def check(campaigns: tuple[Path, ...], url: str | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Check campaign files and all that they read.

    Reads the files, their arrays, images, traces and baselines, and what their outputs need. With --url the models of
    that server are asked too, and all requests are made, as a run would; none is sent.

    Exit codes: 0 all is well, 1 the server is not ready, 2 something must change.
    """
    from tritonforge_generator.cli.output import print_json

    replaced = settings_from_options(settings, url)
    found = {str(path): _check_one(path, replaced, asks_models=url is not None) for path in campaigns}
    if as_json:
        print_json({"campaigns": found})
    else:
        for path, told in found.items():
            click.echo(f"{path}: {'FAILED' if told['problems'] else 'ok'}")
            for line in [*told["models"], *told["problems"]]:
                click.echo(f"  {line}")
    sys.exit(2 if any(told["problems"] for told in found.values()) else 0)


def _check_one(path: Path, settings: dict[str, Any], *, asks_models: bool) -> dict[str, list[str]]:
    from tritonforge_load.campaign import read_campaign
    from tritonforge_load.plan import plan_from_campaign

    try:
        campaign = read_campaign(path, settings=settings)
    except TritonforgeError as error:
        return {"models": [], "problems": [str(error)]}
    base = path.resolve().parent
    problems = [*plan_from_campaign(campaign, base).problems, *_output_problems(campaign)]
    models: list[str] = []
    if asks_models and not problems:
        _ask_models(campaign, base, models, problems)
    return {"models": models, "problems": problems}


def _output_problems(campaign: Campaign) -> list[str]:
    from tritonforge_client.extras import MissingExtraError
    from tritonforge_load.report.outputs import check_outputs

    try:
        check_outputs(campaign.outputs.formats if campaign.outputs is not None else ())
    except (TritonforgeError, MissingExtraError) as error:
        return [str(error)]
    return []


def _ask_models(campaign: Campaign, base: Path, models: list[str], problems: list[str]) -> None:
    from tritonforge_load.plan.models import ModelFit, fits_of

    for fit in fits_of(campaign, base, say=lambda text: click.echo(text, err=True)):
        if isinstance(fit, ModelFit):
            size = f"{fit.size_bytes / 2**20:,.1f} MiB"
            models.append(f"workload {fit.workload!r}: {fit.requests:,} requests for {fit.model!r}, {size}")
        else:
            problems.append(str(fit))
