"""``tritonforge inspect``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True), metavar="MODEL.onnx|MODEL.plan|REPOSITORY")
@click.option("--json", "as_json", is_flag=True, help="Print the facts for programs.")
def command(path: Path, as_json: bool) -> None:
    """Show what an ONNX file, a TensorRT plan or a repository holds.

    An ONNX file is loaded into ONNX Runtime and run with 1, 2 and 3 rows, so that its batch axis is proven. Of a plan
    the header is read, which needs neither TensorRT nor a GPU.
    """
    from tritonforge_generator.cli.output import print_json

    facts, show = (
        (_repository_facts(path), _show_repository)
        if path.is_dir()
        else (_plan_facts(path), _show_plan)
        if path.suffix in {".plan", ".engine", ".trt"}
        else (_onnx_facts(path), _show_onnx)
    )
    if as_json:
        print_json(facts)
    else:
        show(facts)


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
    from tritonforge_generator.plan import plan_header_from_path

    header = plan_header_from_path(path)
    return {
        "kind": "plan",
        "path": str(path),
        "tensorrt_version": header.version_text,
        "prefix_bytes": header.prefix_bytes,
        "size_bytes": path.stat().st_size,
    }


def _show_plan(facts: Mapping[str, Any]) -> None:
    click.echo(f"{facts['path']}: a plan of TensorRT {facts['tensorrt_version']}, {facts['size_bytes']:,} bytes")
    if facts["prefix_bytes"]:
        click.echo(
            f"warning: {facts['prefix_bytes']} bytes lie in front of the plan, so Triton refuses it; "
            "remove them, or export without metadata"
        )


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
