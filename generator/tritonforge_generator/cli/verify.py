"""``tritonforge verify``."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.argument("repository", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--model", "models", multiple=True, help="Only this model; may be repeated.")
@click.option(
    "--source",
    type=click.Path(path_type=Path),
    metavar="MODEL.onnx",
    help="What one model was made from, to compare with; or torch:package.module:factory.",
)
@click.option("--samples", type=click.Path(path_type=Path, exists=True), help="An .npz file with inputs.")
@click.option("--seed", type=int, help="Seed of drawn samples; by default the recorded one.")
@click.option("--device-id", type=int, help="The GPU that runs plans; by default the number of the one that built.")
@click.option("--server", metavar="RELEASE", help="The Triton release that must load the plans, such as 26.08.")
@click.option("--no-serve-check", is_flag=True, help="Skip the gate that serves the models with a real Triton.")
@click.option("--allow-skipped", is_flag=True, help="Exit 0 also where plans cannot be run on this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print the verification for programs.")
def command(
    repository: Path,
    models: tuple[str, ...],
    source: Path | None,
    samples: Path | None,
    seed: int | None,
    device_id: int | None,
    server: str | None,
    no_serve_check: bool,
    allow_skipped: bool,
    as_json: bool,
) -> None:
    """Prove the models of a repository again, served by a real Triton.

    For every published model: the files are those of its manifest, the server's rules hold, rows are independent of
    their batch, and a real Triton gives the same answers. With --source the answers are compared with those of the
    model it was made from, preprocessed and judged as its manifest records.

    A plan is run where its TensorRT and a GPU are. Elsewhere its gates are skipped, with the reason, and it does not
    count as verified. Exits 1 unless every gate of every model passed.
    """
    from tritonforge_generator.cli.output import print_json, print_verification, progress
    from tritonforge_generator.reverify import verify_repository

    with progress(quiet=as_json) as on_stage:
        verifications = verify_repository(
            repository,
            models=models,
            source=source,
            samples=samples,
            seed=seed,
            device_id=device_id,
            server=server,
            serve_check=not no_serve_check,
            on_stage=on_stage,
        )
    if as_json:
        print_json({"models": [verification.to_json() for verification in verifications]})
    else:
        for verification in verifications:
            print_verification(verification)
    for verification in verifications:
        if verification.skipped:
            click.echo(f"{verification.model}: not verified, because gates were skipped", err=True)
    if not all(one.passed or (allow_skipped and one.skipped) for one in verifications):
        sys.exit(1)
