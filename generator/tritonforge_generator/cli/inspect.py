"""``tritonforge inspect``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True), metavar="MODEL.onnx|MODEL.plan|REPOSITORY|MODEL")
@click.option(
    "--strip-prefix", "bare", type=click.Path(path_type=Path), metavar="OUT", help="Write a plan without its prefix."
)
@click.option("--completed", is_flag=True, help="Show the config of a model's directory as the server completes it.")
@click.option("--strict", is_flag=True, help="With --completed: as --disable-auto-complete-config leaves it.")
@click.option(
    "--gpus",
    type=click.IntRange(min=0),
    metavar="N",
    help="With --completed: GPUs of the server; by default one for a plan, otherwise none.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the facts for programs.")
def command(path: Path, bare: Path | None, completed: bool, strict: bool, gpus: int | None, as_json: bool) -> None:
    """Show what an ONNX file, a TensorRT plan or a repository holds.

    An ONNX file is loaded into ONNX Runtime and run with 1, 2 and 3 rows, so that its batch axis is proven. Of a plan
    the header is read, which needs neither TensorRT nor a GPU; where they are, it is loaded, and its tensors, profiles
    and memory are shown. Some exporters put JSON in front of a plan, which Triton refuses: --strip-prefix removes it.

    With --completed, the config of a model is shown as Triton would answer it at /v2/models/MODEL/config, field by
    field with where it comes from: what is written, the server's default, or the model's file. No server is needed.
    """
    from tritonforge_generator.cli.output import print_json

    if (strict or gpus is not None) and not completed:
        raise click.UsageError("--strict and --gpus go with --completed.")
    if bare is not None:
        from tritonforge_generator.plan.header import write_bare_plan

        write_bare_plan(path, bare)
        path = bare
    facts, show = (
        (_completed_facts(path, strict, gpus), _show_completed)
        if completed
        else (_repository_facts(path), _show_repository)
        if path.is_dir()
        else (_plan_facts(path), _show_plan)
        if _is_plan(path)
        else (_onnx_facts(path), _show_onnx)
    )
    if as_json:
        print_json(facts)
    else:
        show(facts)


def _is_plan(path: Path) -> bool:
    from tritonforge_generator.plan.header import MAGIC

    if path.suffix in {".plan", ".engine", ".trt"}:
        return True
    with path.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def _onnx_facts(path: Path) -> dict[str, Any]:
    from tritonforge_generator.graph import graph_from_source
    from tritonforge_generator.source import source_from_path

    source = source_from_path(path)
    files = [{"location": one.location, "size_bytes": one.size_bytes, "sha256": one.sha256} for one in source.files]
    return {"kind": "onnx", "path": str(path), "files": files, **graph_from_source(source).to_json()}


def _show_onnx(facts: Mapping[str, Any]) -> None:
    from tritonforge_generator.cli.output import print_table

    tensors = [
        [kind, tensor["name"], tensor["datatype"], "[" + ", ".join(str(size or "?") for size in tensor["shape"]) + "]"]
        for kind in ("inputs", "outputs")
        for tensor in facts[kind]
    ]
    print_table(facts["path"], ["", "name", "datatype", "shape"], tensors)
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in facts["opsets"].items())
    operators = ", ".join(f"{name} {count}" for name, count in facts["operators"].items())
    click.echo(f"batch       {facts['batch']['note']}")
    click.echo(f"opset       {opsets}; IR version {facts['ir_version']}; {facts['producer'] or 'unknown producer'}")
    click.echo(f"parameters  {facts['parameter_count']:,}")
    click.echo(f"operators   {operators}")
    for one in facts["files"]:
        click.echo(f"file        {one['location']}  {one['size_bytes']:,} bytes  sha256 {one['sha256'][:16]}")


def _plan_facts(path: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from tritonforge_generator.plan.facts import releases_from_version
    from tritonforge_generator.plan.header import plan_header_from_path

    header = plan_header_from_path(path)
    return {
        "kind": "plan",
        "path": str(path),
        "size_bytes": path.stat().st_size,
        "tensorrt_version": header.version_text,
        "prefix_bytes": header.prefix_bytes,
        "metadata": header.metadata,
        "releases": asdict(releases_from_version(header.tensorrt_version)),
        **_engine_facts(path, header.prefix_bytes),
    }


def _engine_facts(path: Path, prefix_bytes: int) -> dict[str, Any]:
    """What TensorRT says of a plan, or why it says nothing."""
    from dataclasses import asdict

    from tritonforge_generator.errors import PlanError
    from tritonforge_generator.plan.availability import require_tensorrt
    from tritonforge_generator.plan.facts import engine_facts_from_path

    if prefix_bytes > 0:
        return {"engine": None, "not_loaded": "TensorRT does not load it with its prefix; see --strip-prefix"}
    try:
        require_tensorrt()
        return {"engine": asdict(engine_facts_from_path(path)), "not_loaded": None}
    except PlanError as error:
        return {"engine": None, "not_loaded": str(error)}


def _show_plan(facts: Mapping[str, Any]) -> None:
    click.echo(f"{facts['path']}: a plan of TensorRT {facts['tensorrt_version']}, {facts['size_bytes']:,} bytes")
    if facts["prefix_bytes"]:
        click.echo(
            f"warning: {facts['prefix_bytes']} bytes lie in front of the plan, so Triton refuses it; "
            "remove them with --strip-prefix OUT, or export without metadata"
        )
    for name, value in facts["metadata"].items():
        click.echo(f"metadata    {name}: {value}")
    releases = facts["releases"]
    click.echo(f"Triton      loads in {_listed(releases['sure'])}")
    click.echo(f"            may load in {_listed(releases['possible'])}, whose TensorRT is known in part")
    click.echo(f"            if version-compatible, also in {_listed(releases['version_compatible'])}")
    if facts["engine"] is None:
        click.echo(f"tensors, profiles, memory and layers need TensorRT: {facts['not_loaded']}")
    else:
        _show_engine(facts["engine"])


def _show_engine(engine: Mapping[str, Any]) -> None:
    from tritonforge_generator.cli.output import print_table

    tensors = [
        ["input" if tensor["is_input"] else "output", tensor["name"], tensor["datatype"], str(list(tensor["shape"]))]
        for tensor in engine["tensors"]
    ]
    print_table(f"loaded on {engine['gpu']['name']}", ["", "name", "datatype", "shape"], tensors)
    profiles = [
        [
            str(index) if first else "",
            f"{memory:,}" if first else "",
            name,
            *(str(list(shapes[bound])) for bound in ("min", "opt", "max")),
        ]
        for index, (profile, memory) in enumerate(zip(engine["profiles"], engine["device_memory_bytes"], strict=True))
        for first, (name, shapes) in ((position == 0, one) for position, one in enumerate(profile.items()))
    ]
    print_table("optimisation profiles", ["", "device memory, bytes", "input", "min", "opt", "max"], profiles)
    click.echo(f"layers      {engine['layer_count']}")


def _listed(releases: Sequence[str]) -> str:
    """Releases as ranges of neighbours in the table: ``24.05 to 26.05``."""
    from tritonforge_generator.plan.containers import TENSORRT_BY_RELEASE

    order = list(TENSORRT_BY_RELEASE)
    ranges: list[list[str]] = []
    for release in releases:
        if ranges and order.index(release) == order.index(ranges[-1][-1]) + 1:
            ranges[-1].append(release)
        else:
            ranges.append([release])
    return ", ".join(one[0] if len(one) == 1 else f"{one[0]} to {one[-1]}" for one in ranges) or "no known release"


def _repository_facts(path: Path) -> dict[str, Any]:
    from tritonforge_generator.repository import ModelRepository

    models = []
    for folder in ModelRepository(path).models():
        manifests = {version: folder.manifest(version) for version in folder.versions}
        models.append(
            {
                "name": folder.name,
                "has_config": folder.config_path.is_file(),
                "versions": [
                    {
                        "version": version,
                        "source": manifest.source if manifest is not None else None,
                        "made_at": manifest.made.get("at") if manifest is not None else None,
                        "files": dict(manifest.files) if manifest is not None else None,
                        "verified": manifest.made.get("verification", {}).get("passed")
                        if manifest is not None
                        else None,
                    }
                    for version, manifest in manifests.items()
                ],
            }
        )
    return {"kind": "repository", "path": str(path), "models": models}


def _show_repository(facts: Mapping[str, Any]) -> None:
    from tritonforge_generator.cli.output import print_table

    rows = [
        [
            model["name"] if first else "",
            str(version["version"]),
            version["source"] or "not made by tritonforge",
            version["made_at"] or "",
            "yes" if version["verified"] else "no",
        ]
        for model in facts["models"]
        for first, version in ((index == 0, one) for index, one in enumerate(model["versions"]))
    ]
    print_table(facts["path"], ["model", "version", "source", "made at", "verified"], rows)


def _completed_facts(path: Path, strict: bool, gpus: int | None) -> dict[str, Any]:
    from tritonforge_generator.errors import RepositoryError
    from tritonforge_generator.lint.completed import completed_config
    from tritonforge_generator.lint.engine import open_repositories
    from tritonforge_generator.lint.host import Host

    if not path.is_dir():
        raise RepositoryError(
            f"{path} is no model directory",
            expected="a folder of a model repository",
            action="Give the model's folder.",
        )
    directory = path.resolve()
    host = None if gpus is None else Host(gpus=gpus)
    repositories, (found,) = open_repositories(directory.parent, models=[directory.name], strict=strict, host=host)
    model = repositories.read(found)
    refusals = [finding for finding in repositories.findings(model) if finding.severity == "error"]
    if model.parse_failure is not None or model.open_failure != "":
        raise RepositoryError(
            f"{model.path} cannot be read",
            expected="a config that the server can read",
            got=refusals[0].text if refusals else model.open_failure,
            action=f"tritonforge lint {directory.parent} says where.",
        )
    completed = completed_config(model)
    if completed is None:
        raise RepositoryError(
            f"what the server completes in {path} cannot be told without running it",
            expected="an ONNX model, a plan whose tensors are known, or a model.py that completes with plain values",
            got=refusals[0].text if refusals else f"the back-end '{model.config.backend}'",
            action="Write max_batch_size, inputs and outputs, or ask a server.",
        )
    return {
        "kind": "completed",
        "path": str(path),
        "config": completed.config,
        "origins": completed.origins,
        "refused": refusals[0].text if refusals else None,
    }


def _show_completed(facts: Mapping[str, Any]) -> None:
    from tritonforge_generator.cli.output import print_table
    from tritonforge_generator.lint.completed import field_at

    rows = [[field, json.dumps(field_at(facts["config"], field)), origin] for field, origin in facts["origins"].items()]
    print_table(facts["path"], ["field", "value", "from"], rows)
    if facts["refused"] is not None:
        click.echo(f"warning: the server refuses this model: {facts['refused']}")
