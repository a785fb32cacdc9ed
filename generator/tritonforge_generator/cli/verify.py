"""``tritonforge verify``."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.argument("repository", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--model", "models", multiple=True, help="Only this model; may be repeated.")
@click.option("--source", type=click.Path(path_type=Path, exists=True), help="The ONNX file to compare one model with.")
@click.option("--samples", type=click.Path(path_type=Path, exists=True), help="An .npz file with inputs.")
@click.option("--seed", default=0, show_default=True, help="Seed of drawn samples.")
@click.option("--no-serve-check", is_flag=True, help="Skip the gate that serves the models with a real Triton.")
@click.option("--json", "as_json", is_flag=True, help="Print the verification for programs.")
def command(
    repository: Path,
    models: tuple[str, ...],
    source: Path | None,
    samples: Path | None,
    seed: int,
    no_serve_check: bool,
    as_json: bool,
) -> None:
    """Prove the models of a repository again, served by a real Triton.

    For every published ONNX model: the files are those of its manifest, rows are independent of their batch, the
    server's rules hold, and a real Triton answers as ONNX Runtime does. Exits 1 when a gate fails.
    """
    from tritonforge_generator.cli.output import print_json, print_verification, progress
    from tritonforge_generator.reverify import verify_repository
    from tritonforge_generator.spec import VerifyOptions

    with progress(quiet=as_json) as on_stage:
        verifications = verify_repository(
            repository,
            models=models,
            source=source,
            options=VerifyOptions(samples=samples, seed=seed),
            serve_check=not no_serve_check,
            on_stage=on_stage,
        )
    if as_json:
        print_json({"models": [verification.to_json() for verification in verifications]})
    else:
        for verification in verifications:
            print_verification(verification)
    if not all(verification.passed for verification in verifications):
        sys.exit(1)
