"""``tritonforge doctor``."""

from __future__ import annotations

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings for programs.")
def command(as_json: bool) -> None:
    """Show what this machine can do and what to install for the rest."""
    from dataclasses import asdict

    from tritonforge_generator.cli.output import print_json, print_table
    from tritonforge_generator.doctor import examine

    facts = examine()
    if as_json:
        print_json({"findings": [asdict(fact) for fact in facts]})
        return
    rows = [[fact.topic, "yes" if fact.present else "no", fact.detail, fact.action] for fact in facts]
    try:
        print_table("This machine", ["what", "there", "detail", "to get it"], rows, wide=2)
    except ImportError:  # the doctor answers with no extra installed
        for row in rows:
            click.echo("  ".join(row).rstrip())
