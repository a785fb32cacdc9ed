"""``tritonforge lint``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tritonforge_generator.lint import Finding


@click.command()
@click.argument("repositories", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="REPOSITORY...")
@click.option("--model", "models", multiple=True, help="Only this model; may be repeated.")
@click.option("--strict", is_flag=True, help="Judge as a server with --disable-auto-complete-config.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings for programs.")
def command(repositories: tuple[Path, ...], models: tuple[str, ...], strict: bool, as_json: bool) -> None:
    """Check model repositories against the server's own rules.

    Needs no server and no GPU. Each finding has the text that the server would log, the place and how to mend it.
    Exits 1 when there is an error; warnings alone exit 0.
    """
    from tritonforge_generator.cli.output import print_json, print_table
    from tritonforge_generator.lint import lint_repository

    findings = [found for path in repositories for found in lint_repository(path, models=models, strict=strict)]
    if as_json:
        print_json({"findings": [found.to_json() for found in findings]})
    elif findings:
        rows = [
            [found.model, found.rule, found.severity, f"{found.text}\n{_place(found)}\n{found.fix}".strip()]
            for found in findings
        ]
        print_table(
            "Findings", ["model", "rule", "severity", "what the server says, where, and what to do"], rows, wide=3
        )
    else:
        click.echo("no findings")
    if any(found.severity == "error" for found in findings):
        sys.exit(1)


def _place(found: Finding) -> str:
    position = f":{found.line}:{found.column}" if found.line is not None else ""
    return f"{found.file}{position} {found.field}".strip()
