"""``tritonforge client``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("repository", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the modules.")
@click.option("--model", "models", multiple=True, help="Only this model; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print the paths for programs.")
def command(repository: Path, out: Path, models: tuple[str, ...], as_json: bool) -> None:
    """Write typed client modules for the models of a repository.

    One module a model: its inputs are keyword arguments, its outputs a frozen dataclass, checked by mypy and pyright.
    """
    from tritonforge_client.codegen import modules_from_repository
    from tritonforge_generator.cli.output import print_json

    paths = modules_from_repository(repository, out, models=models)
    if as_json:
        print_json({"modules": [str(path) for path in paths]})
    else:
        click.echo("\n".join(f"wrote {path}" for path in paths))
