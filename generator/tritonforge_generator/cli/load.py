"""``tritonforge load``."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import click


@click.command()
@click.argument("campaign", type=click.Path(path_type=Path), metavar="CAMPAIGN.yaml")
@click.option("--url", help="Where to send requests, for example grpc://127.0.0.1:8001; wins over the campaign's.")
@click.option(
    "--serve",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Serve this model repository on this machine while the campaign runs, and send requests there.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the results; wins over the campaign's.")
@click.option("--json", "as_json", is_flag=True, help="Print the results for programs.")
def command(campaign: Path, url: str | None, serve: Path | None, out: Path | None, as_json: bool) -> None:
    """Run a load-testing campaign.

    Runs Locust with the typed client and prints requests per second and latency percentiles of every phase. Exits 1
    when a gate fails.
    """
    from tritonforge_generator.cli.output import print_json
    from tritonforge_generator.deploy import EmbeddedTriton
    from tritonforge_load.runner import run_campaign
    from tritonforge_load.table import text_from_result

    if url is not None and serve is not None:
        raise click.UsageError("--url and --serve exclude each other: give the one server to test.")
    with EmbeddedTriton(serve) if serve is not None else nullcontext() as server:
        result = run_campaign(
            campaign,
            url=server.grpc_url if server is not None else url,
            out=out,
            on_line=None if as_json else lambda line: click.echo(line, err=True),
        )
    if as_json:
        print_json(result.to_dict())
    else:
        click.echo(text_from_result(result))
    sys.exit(result.exit_code)
