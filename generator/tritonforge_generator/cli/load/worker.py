"""``tritonforge load worker``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from tritonforge_generator.cli.load.options import campaign_argument, set_option, settings_from_options, url_option


@click.command()
@campaign_argument
@click.option("--master-host", required=True, help="Name or address of the machine with `run --master`.")
@click.option("--master-port", type=click.IntRange(1, 65535), help="Port that it listens on; 5557 by default.")
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="Workers here, a core each.")
@url_option
@set_option
def worker(
    campaign: Path,
    master_host: str,
    master_port: int | None,
    processes: int,
    url: str | None,
    settings: tuple[str, ...],
) -> None:
    """Send for a master on another machine.

    Takes the same campaign file, --url and --set as the master, tries to reach it for some minutes, and ends when it
    does. A worker whose campaign or version differs from its master's stops the run before anything is sent.

    \b
      tritonforge load run campaign.yaml --master --expect-workers 4     # on one machine
      tritonforge load worker campaign.yaml --master-host that-machine   # on four others
    """
    from tritonforge_client.extras import require_extra
    from tritonforge_load.campaign import read_campaign
    from tritonforge_load.command import MASTER_PORT, worker_command

    replaced = settings_from_options(settings, url)
    read_campaign(campaign, settings=replaced)
    require_extra("gevent", "load")
    command = worker_command(
        campaign,
        settings=replaced,
        master_host=master_host,
        master_port=master_port if master_port is not None else MASTER_PORT,
        processes=processes,
    )
    os.execv(command[0], command)  # noqa: S606 (signals of a container reach Locust itself)
