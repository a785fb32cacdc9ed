"""``tritonforge generate --diff`` and ``--frozen``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tritonforge_generator.preview import Preview
    from tritonforge_generator.repository import Side
    from tritonforge_generator.spec import ForgeSpec

_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def show_diff(spec: ForgeSpec, *, frozen: bool, overwrite: bool, on_conflict: Side | None, as_json: bool) -> None:
    """Print what ``generate`` would change and exit as ``git diff --exit-code`` does: 0 for nothing, 1 for changes.

    Args:
        spec: What to generate.
        frozen: Believe the record of what was made, and say which inputs are others.
        overwrite: As for ``generate``.
        on_conflict: As for ``generate``.
        as_json: Print for programs.
    """
    from tritonforge_generator.cli.output import print_json, progress
    from tritonforge_generator.preview import preview

    with progress(quiet=as_json) as on_stage:
        previews = preview(spec, overwrite=overwrite, on_conflict=on_conflict, frozen=frozen, on_stage=on_stage)
    changed = any(one.changed for one in previews)
    if as_json:
        print_json({"changed": changed, "models": [one.to_json() for one in previews]})
    else:
        for one in previews:
            _print(one)
        if frozen and changed:
            click.echo("error: the repository is not what the spec gives; generate and commit it", err=True)
    sys.exit(1 if changed else 0)


def _print(one: Preview) -> None:
    click.echo(
        f"{one.model}: {f'would be version {one.version}' if one.changed else f'unchanged, version {one.version}'}"
    )
    for line in one.diff().splitlines():
        click.secho(line, fg=_STYLES.get(line[:1]) if sys.stdout.isatty() else None)
    for path, change in one.files.items():
        click.echo(f"  {change}: {one.model}/{path}")
    for sentence in (one.inputs or ()) if one.changed else ():
        click.echo(f"  changed input: {sentence}")
    for row in one.kept:
        click.echo(f"  kept: {row}")
    for row in one.dropped:
        click.echo(f"  dropped: {row}")
