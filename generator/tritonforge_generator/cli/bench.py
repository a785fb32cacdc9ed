"""``tritonforge bench``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tritonforge_generator.bench.runtimes import DEFAULT_RUNTIMES, RUNTIMES, interpreters_from_flags

if TYPE_CHECKING:
    from tritonforge_generator.bench.options import BenchOptions
    from tritonforge_generator.report import Bench, BenchRow


def _words(_: click.Context, __: click.Parameter, text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip() != "")


def _sizes(context: click.Context, parameter: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in _words(context, parameter, text))
    except ValueError as error:
        raise click.BadParameter(f"expected whole numbers separated by commas, got {text!r}") from error


@click.command()
@click.argument("model", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="MODEL.onnx")
@click.option("--batch-sizes", callback=_sizes, default="1,8,32", show_default=True, help="Rows of a call.")
@click.option(
    "--precision", "precisions", callback=_words, default="FP32,TF32,FP16,INT8", show_default=True, help="Number types."
)
@click.option(
    "--runtimes",
    callback=_words,
    default=",".join(DEFAULT_RUNTIMES),
    show_default=True,
    help=f"Of {', '.join(RUNTIMES)}.",
)
@click.option("--skip", multiple=True, metavar="RUNTIME:PRECISION", help="Leave this out of them; may be repeated.")
@click.option("--samples", type=click.Path(path_type=Path, exists=True), help="An .npz file with an array per input.")
@click.option("--shapes", metavar="YAML", default="{}", help="By input: shape of one drawn sample, for dynamic axes.")
@click.option("--labels", metavar="ARRAY", help="The array of --samples with each sample's class: shows accuracy.")
@click.option("--torch", metavar="torch:package.module:factory", help="The PyTorch module that MODEL.onnx came from.")
@click.option(
    "--calibration", metavar="SAMPLES", help="Ranges for INT8: .npz, folder of .npy or python:module:function."
)
@click.option(
    "--calibration-method",
    type=click.Choice(["MinMax", "Entropy", "Percentile"]),
    default="MinMax",
    show_default=True,
    help="How ranges are chosen from them.",
)
@click.option("--tensorrt", "build", metavar="YAML", default="{}", help="How plans are built: fields of spec.tensorrt.")
@click.option("--baseline", metavar="RUNTIME:PRECISION", help="What speed-ups are over; by default the first measured.")
@click.option(
    "--seconds", type=float, default=1.0, show_default=True, help="Time per batch size, with and without copies."
)
@click.option("--repeats", type=int, default=3, show_default=True, help="Turns that the time is spread over.")
@click.option("--python", "pythons", multiple=True, metavar="RUNTIME=PATH", help="The Python that has a runtime.")
@click.option(
    "--env", "variables", multiple=True, metavar="RUNTIME:NAME=VALUE", help="A variable for it; empty unsets."
)
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Folder to keep graphs and plans in.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a report.")
@click.option("--json", "as_json", is_flag=True, help="Print the result for programs.")
def command(model: Path, html: Path | None, as_json: bool, **given: Any) -> None:
    """Compare PyTorch, ONNX Runtime and TensorRT on a model, in speed and accuracy.

    Every runtime runs in a process of its own on the same samples and is timed twice: on the device alone, and from and
    to arrays of the host. Its answers are compared with FP32 on the CPU in the same run. A runtime that is not there is
    left out by name; one that lives in another Python is found with --python:

    \b
      tritonforge bench model.onnx --runtimes onnxruntime-cuda,tensorrt --html bench.html
      tritonforge bench model.onnx --python pytorch=/opt/torch/bin/python3 --torch torch:my.net:factory
    """
    from tritonforge_generator.bench.run import run_bench
    from tritonforge_generator.cli.output import print_json, progress

    options = _options(given)
    with progress(quiet=as_json) as on_stage:
        said: list[str] = []

        def show(text: str, _batch_size: int | None) -> None:
            step = text.partition(": ")[0]
            if sys.stderr.isatty() or said[-1:] != [step]:
                on_stage("bench", text)
            said[:] = [step]

        done = run_bench(model, options, show)
    if html is not None:
        from tritonforge_generator.bench.page import write_page

        write_page(done, html, ["tritonforge", *sys.argv[1:]])
    if as_json:
        print_json(done.bench.to_json())
    else:
        _print(done.bench)
        if html is not None:
            click.echo(f"report {html}")
    sys.exit(0 if done.bench.entries else 1)


def _options(given: Mapping[str, Any]) -> BenchOptions:
    from tritonforge_generator.bench.options import BenchOptions
    from tritonforge_generator.declared import declared_from_mapping, value_from_text
    from tritonforge_generator.graph import SampleOptions
    from tritonforge_generator.spec import CalibrationOptions, TensorRTOptions, VerifyOptions

    build = value_from_text(given["build"], origin="--tensorrt")
    shapes = {"shapes": value_from_text(given["shapes"], origin="--shapes")}
    return BenchOptions(
        batch_sizes=given["batch_sizes"],
        precisions=given["precisions"],
        runtimes=given["runtimes"],
        skip=given["skip"],
        samples=SampleOptions(
            path=given["samples"], shapes=declared_from_mapping(shapes, VerifyOptions, origin="--shapes").shapes
        ),
        labels=given["labels"],
        torch=given["torch"],
        calibration=CalibrationOptions(samples=given["calibration"], method=given["calibration_method"]),
        tensorrt=declared_from_mapping(build, TensorRTOptions, origin="--tensorrt"),
        interpreters=interpreters_from_flags(given["pythons"], given["variables"]),
        baseline=given["baseline"],
        seconds=given["seconds"],
        repeats=given["repeats"],
        folder=given["keep"],
    )


def _print(bench: Bench) -> None:
    if bench.entries:
        _print_tables(bench)
    for one in bench.left_out:
        click.echo(f"left out: {one.name}: {one.reason}" + (f". {one.action}" if one.action != "" else ""))
    for note in bench.notes:
        click.echo(f"note: {note}")


def _print_tables(bench: Bench) -> None:
    from tritonforge_generator.cli.output import print_table
    from tritonforge_generator.report.figures import percent, scientific

    columns = ["", "batch", "p50 ms", "p99 ms", "rows/s", "speed-up"]
    copies = ["p50 with copies", "p99", "rows/s"] if bench.on_gpu else []
    rows = [[entry.name, *_speeds(row, copies=bench.on_gpu)] for entry in bench.entries for row in entry.rows]
    print_table(f"{bench.model}: speed-ups over {bench.baseline}", columns + copies, rows)
    rows = [
        [
            entry.name,
            scientific(entry.relative_error),
            "" if entry.top1 is None else percent(entry.top1),
            "" if entry.correct_share is None else percent(entry.correct_share),
            "ok" if entry.accurate else "outside",
        ]
        for entry in bench.entries
    ]
    columns = ["", "relative error", "same top 1", "right", "limit of its precision"]
    print_table(f"accuracy on {bench.samples}", columns, rows)


def _speeds(row: BenchRow, *, copies: bool) -> list[str]:
    from tritonforge_generator.report.figures import count, milliseconds, significant

    compute = [milliseconds(row.compute.p50_ms), milliseconds(row.compute.p99_ms), count(row.rows_per_s)]
    total = [milliseconds(row.total.p50_ms), milliseconds(row.total.p99_ms), count(row.total_rows_per_s)]
    speedup = "" if row.speedup is None else f"{significant(row.speedup)}x"
    return [str(row.batch_size), *compute, speedup, *(total if copies else ())]
