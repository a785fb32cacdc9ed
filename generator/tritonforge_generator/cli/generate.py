"""``tritonforge generate``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from tritonforge_generator.errors import SpecError

if TYPE_CHECKING:
    from tritonforge_generator.pipeline import Generated
    from tritonforge_generator.repository import Side
    from tritonforge_generator.spec import ForgeSpec

MODEL_FLAGS: Final = {
    "name": "Model name: the folder in the repository and the name clients call.",
    "platform": "What serves the model; auto builds a TensorRT plan where that is possible.",
    "precision": "FP16 and so on, or its fields; by default the graph's own types.",
    "preprocess": "Image preprocessing to write into the graph.",
    "tensorrt": "How the plan is built.",
    "cc_model_files": "By compute capability such as '8.0': a plan that was built for such GPUs.",
    "files": "Files that a Python model needs; copied beside it.",
    "version": "Version number; by default one more than the highest.",
    "max_batch_size": "Largest batch; by default 32 where the graph can be batched, else 0.",
    "dynamic_batching": "true for the defaults, false for none, or its fields.",
    "sequence_batching": "Requests are steps of sequences; instead of dynamic_batching.",
    "input": "What differs from the graph's inputs, by name, such as reshape.",
    "output": "What differs from the graph's outputs, by name, such as reshape.",
    "batch_input": "Inputs that the server fills from the requests of a batch.",
    "batch_output": "Outputs that are cut into the replies by the size of an input.",
    "labels": "By output: names of its elements, as a list or a text file with one a line.",
    "instance_group": "Where it runs.",
    "version_policy": "Which versions the server serves.",
    "model_warmup": "What runs through every instance before it takes requests: true for zeros in the smallest and the "
    "largest batch (and in each profile's opt shapes), false for nothing, or samples.",
    "response_cache": "Answer equal requests from memory.",
    "model_transaction_policy": "Whether a request may get several replies (Python models).",
    "model_metrics": "Buckets of the model's histograms.",
    "metric_tags": "Labels of all metrics of the model.",
    "model_repository_agents": "Agents that look at the model before it loads.",
    "optimization": "Settings of ONNX Runtime and of transfers.",
    "parameters": "Settings of the backend, for example intra_op_thread_count.",
    "verify": "How it is proven before publishing.",
}
"""One flag for each option of a model in the spec but its source; values are YAML."""


def _model_flags(function: Any) -> Any:
    for name, text in reversed(MODEL_FLAGS.items()):
        function = click.option(f"--{name.replace('_', '-')}", name, metavar="YAML", help=text)(function)
    return function


@click.command()
@click.argument("source", type=click.Path(path_type=Path), metavar="[SPEC.yaml|MODEL.onnx]", required=False)
@click.option("--trtexec", metavar="LINE", help="A trtexec line instead of a source; its flags become options.")
@click.option("--repository", type=click.Path(path_type=Path), help="The model repository; wins over the spec's.")
@click.option("--no-serve-check", is_flag=True, help="Skip the gate that serves the staged models with a real Triton.")
@click.option("--overwrite", is_flag=True, help="Drop what was written by hand; fields of a config.pbtxt are named.")
@click.option(
    "--on-conflict",
    type=click.Choice(["ours", "theirs"]),
    help="Where a field was changed both by hand and by the spec: take the spec's (ours) or the file's (theirs).",
)
@click.option(
    "--diff", "only_diff", is_flag=True, help="Show what would change and publish nothing; exit 1 if it would."
)
@click.option("--frozen", is_flag=True, help="Like --diff, for CI: nothing that is as recorded is looked at again.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=YAML", help="A nested option, for example verify.seed=7."
)
@click.option("--server", metavar="RELEASE", help="The Triton release that will serve, such as 26.08; wins too.")
@click.option("--print-spec", is_flag=True, help="Print what would be generated as a spec, and do no more.")
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a report, also where a gate fails."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result for programs.")
@_model_flags
def command(
    source: Path | None,
    trtexec: str | None,
    repository: Path | None,
    no_serve_check: bool,
    overwrite: bool,
    on_conflict: Side | None,
    only_diff: bool,
    frozen: bool,
    settings: tuple[str, ...],
    server: str | None,
    print_spec: bool,
    html: Path | None,
    as_json: bool,
    **flags: str | None,
) -> None:
    """Generate, verify and publish models from a spec or an ONNX file.

    SPEC.yaml declares a repository with its models (see: tritonforge schema spec). With MODEL.onnx the flags declare
    one model; each flag is an option of the spec, its value YAML:

    \b
      tritonforge generate model.onnx --max-batch-size 64 --instance-group '[{kind: KIND_CPU, count: 2}]'
      tritonforge generate model.onnx --set dynamic_batching.max_queue_delay_microseconds=500
      tritonforge generate --trtexec 'trtexec --onnx=model.onnx --fp16 --shapes=x:8x3x224x224'

    Nothing is published unless every gate passes for every model.
    """
    from tritonforge_generator.cli.output import print_json, progress

    given = {name: value for name, value in flags.items() if value is not None}
    spec = _spec_from_arguments(source, trtexec, given, settings)
    spec = _with(spec, repository, server)
    if print_spec:
        from tritonforge_generator.spec import text_from_forge_spec

        click.echo(text_from_forge_spec(spec), nl=False)
        return
    if only_diff or frozen:
        from tritonforge_generator.cli.generate_diff import show_diff

        show_diff(spec, frozen=frozen, overwrite=overwrite, on_conflict=on_conflict, as_json=as_json)
        return
    from tritonforge_generator.pipeline import generate

    with _failure_page(html), progress(quiet=as_json) as on_stage:
        generated = generate(
            spec, serve_check=not no_serve_check, overwrite=overwrite, on_conflict=on_conflict, on_stage=on_stage
        )
    if html is not None:
        from tritonforge_generator.report import report_from_generated, write_report

        write_report(report_from_generated(generated, ["tritonforge", *sys.argv[1:]]), html)
    if as_json:
        print_json({"models": [_json_of(one) for one in generated]})
    else:
        _print(generated)
        if html is not None:
            click.echo(f"report {html}")


@contextmanager
def _failure_page(html: Path | None) -> Iterator[None]:
    """Write the gates of a model that failed them to a page."""
    from tritonforge_generator.verify import GatesFailedError

    try:
        yield
    except GatesFailedError as error:
        if html is not None:
            from tritonforge_generator.report import report_from_failure, write_report

            write_report(report_from_failure(error.verification, ["tritonforge", *sys.argv[1:]]), html)
            click.echo(f"report {html}", err=True)
        raise


def _spec_from_arguments(
    source: Path | None, trtexec: str | None, flags: Mapping[str, str], settings: tuple[str, ...]
) -> ForgeSpec:
    from tritonforge_generator.spec import forge_spec_from_file, forge_spec_from_flags
    from tritonforge_generator.spec.forge_spec import DEFAULT_REPOSITORY

    if source is not None and trtexec is None and source.suffix in {".yaml", ".yml"}:
        if flags or settings:
            raise SpecError(
                "flags of a model were given beside a spec",
                expected="them in the spec",
                got=", ".join(
                    [f"--{name.replace('_', '-')}" for name in flags] + [f"--set {text}" for text in settings]
                ),
                action=f"Write them into {source}.",
            )
        return forge_spec_from_file(source)
    if source is not None and trtexec is None:
        said: Mapping[str, Any] = {"name": source.stem, "source": str(source)}
    elif source is None and trtexec is not None:
        said = _options_of_line(trtexec)
    else:
        raise click.UsageError("Give one of SPEC.yaml, MODEL.onnx and --trtexec.")
    return forge_spec_from_flags(_overlaid(said, _nested(flags, settings)), repository=DEFAULT_REPOSITORY)


def _options_of_line(line: str) -> Mapping[str, Any]:
    from tritonforge_generator.spec.trtexec import options_from_trtexec

    read = options_from_trtexec(line)
    for note in read.notes:
        click.echo(f"note: {note}", err=True)
    return read.options


def _overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        under = result.get(key)
        result[key] = _overlaid(under, value) if isinstance(value, dict) and isinstance(under, dict) else value
    return result


def _with(spec: ForgeSpec, repository: Path | None, server: str | None) -> ForgeSpec:
    """Lay the flags that are no options of a model over a spec."""
    from tritonforge_generator.declared import declared_from_mapping
    from tritonforge_generator.spec import ForgeSpec

    given = {"repository": repository, "server": server}
    changed = {name: value for name, value in given.items() if value is not None}
    if not changed:
        return spec
    data = {**spec.model_dump(mode="json", exclude_defaults=True, by_alias=True), **changed}
    checked = declared_from_mapping(data, ForgeSpec, origin="command line")
    return spec.model_copy(update={name: getattr(checked, name) for name in changed})


def _nested(flags: Mapping[str, str], settings: tuple[str, ...]) -> dict[str, Any]:
    """Read flags as YAML values and hang ``--set a.b=value`` into them."""
    from tritonforge_generator.cli.settings import options_from_settings
    from tritonforge_generator.declared import value_from_text

    options = {
        name: text if name in {"name", "platform"} else value_from_text(text, origin=f"--{name.replace('_', '-')}")
        for name, text in flags.items()
    }
    return options_from_settings(settings, options, example="verify.seed=7")


def _json_of(one: Generated) -> dict[str, Any]:
    return {
        "model": one.version.folder.name,
        "version": one.version.version,
        "new": one.version.new,
        "path": str(one.version.path),
        "notes": list(one.config.notes),
        "verification": one.verification.to_json(),
        "stage_s": {stage: round(seconds, 4) for stage, seconds in one.stage_s.items()},
    }


def _print(generated: list[Generated]) -> None:
    from tritonforge_generator.cli.output import print_verification

    for one in generated:
        print_verification(one.verification)
        for note in one.config.notes:
            click.echo(f"note: {note}")
    for one in generated:
        verb = "published" if one.version.new else "unchanged"
        click.echo(f"{verb} {one.version.folder.name} version {one.version.version}: {one.version.path}")
