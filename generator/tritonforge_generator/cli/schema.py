"""``tritonforge schema``."""

from __future__ import annotations

import click


@click.command()
@click.argument("kind", type=click.Choice(["spec", "campaign"]), default="spec")
def command(kind: str) -> None:
    """Print the JSON Schema of a declared file, for editors.

    Editors complete and check YAML with it. In VS Code, put this line on top of the file:

    \b
      # yaml-language-server: $schema=tritonforge.schema.json
    """
    from tritonforge_generator.cli.output import print_json
    from tritonforge_generator.declared import json_schema

    if kind == "spec":
        from tritonforge_generator.spec import ForgeSpec

        print_json(json_schema(ForgeSpec))
    else:
        from tritonforge_load.campaign import Campaign

        print_json(json_schema(Campaign))
