"""``tritonforge demo``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tritonforge_generator.demo.run import DemoResult


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default="out/demo", show_default=True, help="Folder for what is made."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result for programs.")
def command(out: Path, as_json: bool) -> None:
    """Go the whole way on this machine, from a trained model to a load-test report.

    A small network trained on handwritten digits is verified, published, served by a real Triton, called through its
    generated typed client and load-tested. Needs the extras generator, server, load and report, and no GPU.
    """
    from tritonforge_generator.cli.output import print_json, print_verification, progress
    from tritonforge_generator.demo.run import run_demo

    with progress(quiet=as_json) as on_stage:
        result = run_demo(
            out, on_step=lambda step: on_stage("demo", step), on_line=lambda line: on_stage("load test", line)
        )
    if as_json:
        print_json(result.to_json())
    else:
        print_verification(result.generated.verification)
        _print(result)
    sys.exit(0 if result.passed else 1)


def _print(result: DemoResult) -> None:
    from tritonforge_load.report.table import text_from_result

    for via, share in result.accuracy.items():
        click.echo(f"accuracy  {share:.4f} on {result.images} test images, {via}")
    click.echo(text_from_result(result.load))
    click.echo(f"model     {result.generated.version.path}")
    click.echo(f"client    {result.client_module}")
    click.echo(f"report    {result.report_path}")
    click.echo("all gates passed" if result.passed else "FAILED")
