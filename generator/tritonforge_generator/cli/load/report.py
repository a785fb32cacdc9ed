"""``tritonforge load report``."""

from __future__ import annotations

from pathlib import Path

import click

from tritonforge_generator.cli.load.options import json_option


@click.command()
@click.argument("result", type=click.Path(path_type=Path), metavar="RESULT.json")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the report here.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for csv, junit and html.")
@json_option
def report(result: Path, html: Path | None, out: Path | None, as_json: bool) -> None:
    """Show the tables and write the report of a run again.

    RESULT.json is the JSON output of a run. Its gates are shown as they were judged then. Exits 0 whatever they say.
    """
    from tritonforge_generator.cli.load.show import print_result
    from tritonforge_load.measure import read_result
    from tritonforge_load.report.outputs import write_outputs, write_page

    stored = read_result(result)
    written: list[Path] = []
    if html is not None:
        write_page(stored, html)
        written.append(html)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        written += write_outputs(stored, out, ("csv", "junit", "html"))
    print_result(stored, as_json=as_json)
    for path in [] if as_json else written:
        click.echo(f"wrote {path}")
