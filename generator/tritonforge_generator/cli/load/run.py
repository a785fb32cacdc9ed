"""``tritonforge load run``."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tritonforge_generator.cli.load.options import (
    campaign_argument,
    json_option,
    set_option,
    settings_from_options,
    url_option,
)

if TYPE_CHECKING:
    from tritonforge_load.command import Master
    from tritonforge_load.measure import CampaignResult


@click.command()
@campaign_argument
@url_option
@click.option(
    "--serve",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Serve this model repository on this machine while the campaign runs, and send requests there.",
)
@click.option("--workers", type=click.IntRange(1), help="Processes that send, a core each; wins over the campaign's.")
@set_option
@click.option(
    "--baseline",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="JSON of an earlier run that gates compare with; wins over the campaign's.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the outputs; wins over the campaign's.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the report here.")
@json_option
@click.option("--master", is_flag=True, help="Send through workers that are started elsewhere.")
@click.option("--expect-workers", type=click.IntRange(1), metavar="N", help="With --master: how many to wait for.")
@click.option("--bind-host", default="*", show_default=True, help="With --master: address to listen on.")
@click.option("--bind-port", type=click.IntRange(1, 65535), help="With --master: port to listen on; 5557 by default.")
@click.option(
    "--wait-for-workers", type=click.FloatRange(min=1), default=300.0, show_default=True, metavar="SECONDS",
    help="With --master: how long to wait for them.",
)  # fmt: skip
def run(
    campaign: Path,
    url: str | None,
    serve: Path | None,
    workers: int | None,
    settings: tuple[str, ...],
    baseline: Path | None,
    out: Path | None,
    html: Path | None,
    as_json: bool,
    **listening: Any,
) -> None:
    """Run a campaign and judge its gates.

    Runs Locust with the typed client and prints requests per second and latency percentiles of every phase, and the
    verdict of every gate with its reason.

    \b
      tritonforge load run campaign.yaml --serve models
      tritonforge load run campaign.yaml --url grpc://triton:8001 --set phases.steady.for=5s --html report.html

    \b
    Exit codes:
      0  every gate passed
      1  it could not be run to its end, or outputs could not be written
      2  the file or a flag must change; nothing was sent
      3  a gate failed
      4  the measurement is invalid: the load generator was the limit, or was disturbed
      5  too little was measured to decide a gate
    """
    from tritonforge_generator.cli.load.show import print_result
    from tritonforge_generator.deploy import EmbeddedTriton
    from tritonforge_load.campaign import read_campaign
    from tritonforge_load.report.outputs import check_folder, check_outputs
    from tritonforge_load.report.progress import Progress
    from tritonforge_load.runner import UnwrittenError, run_campaign

    if url is not None and serve is not None:
        raise click.UsageError("--url and --serve exclude each other: give the one server to test.")
    if html is not None:
        check_outputs(["html"])
        check_folder(html.absolute().parent, action="Choose another path with --html")
    earlier = None if baseline is None else str(baseline.resolve())
    replaced = settings_from_options(settings, url, workers=workers, baseline=earlier)
    master = _master(workers, **listening)
    read_campaign(campaign, settings=replaced)  # before a server is started for nothing
    with (
        EmbeddedTriton(serve) if serve is not None else nullcontext() as server,
        nullcontext() if as_json else Progress() as progress,
    ):
        if server is not None:
            replaced["target"] |= {"url": server.grpc_url, "metrics": server.metrics_url}
        on_event = None if progress is None else progress.on_event
        try:
            result = run_campaign(campaign, settings=replaced, out=out, master=master, on_event=on_event)
        except UnwrittenError as error:
            print_result(error.result, as_json=as_json)
            raise
    _show(result, html, as_json=as_json)
    sys.exit(result.exit_code)


def _master(
    workers: int | None,
    *,
    master: bool,
    expect_workers: int | None,
    bind_host: str,
    bind_port: int | None,
    wait_for_workers: float,
) -> Master | None:
    from tritonforge_load.command import MASTER_PORT, Master

    if master != (expect_workers is not None):
        raise click.UsageError("--master and --expect-workers go together: say how many workers are started elsewhere.")
    if expect_workers is None:
        return None
    if workers is not None:
        raise click.UsageError("--workers are processes of this machine; with --master they are started elsewhere.")
    port = bind_port if bind_port is not None else MASTER_PORT
    return Master(expect_workers, host=bind_host, port=port, wait_s=wait_for_workers)


def _show(result: CampaignResult, html: Path | None, *, as_json: bool) -> None:
    from tritonforge_generator.cli.load.show import print_result
    from tritonforge_load.report.outputs import write_page

    print_result(result, as_json=as_json)  # first: it is there even if the page cannot be written
    if html is not None:
        write_page(result, html)
        if not as_json:
            click.echo(f"report {html}")
