"""Modules for all models of a repository or a server."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from tritonforge_client.client import Client
from tritonforge_client.codegen.module import module_from_spec
from tritonforge_client.codegen.naming import module_name_from_model
from tritonforge_client.core.config import model_spec_from_config
from tritonforge_client.core.proto import model_config_from_text
from tritonforge_client.errors import CodegenError
from tritonforge_client.spec import ModelSpec


def modules_from_repository(repository: Path, out: Path, *, models: Sequence[str] = ()) -> list[Path]:
    """Write one typed module for each model of a repository.

    Args:
        repository: Folder with one folder a model, each with a ``config.pbtxt``.
        out: Folder to write to; it is made when it is missing. Other files in it stay.
        models: Names of the models; none means all.

    Returns:
        The written files, in the order of the models' names.

    Raises:
        CodegenError: A model is missing, or its config is malformed or does not state its inputs and outputs. Nothing
            was written.
        MissingExtraError: Jinja2 is not installed.
    """
    if not repository.is_dir():
        raise CodegenError(f"expected a model repository, got {repository}, which is not a folder")
    found = sorted(path.parent.name for path in repository.glob("*/config.pbtxt"))
    for name in models:
        if name not in found:
            close = get_close_matches(name, found, n=1)
            hint = f'did you mean "{close[0]}"?' if close else f"it has {', '.join(found) or 'no model'}"
            raise CodegenError(f"model {name}: expected {repository / name / 'config.pbtxt'}, got none; {hint}")
    if len(found) == 0:
        raise CodegenError(f"expected models in {repository}, got no folder with a config.pbtxt")
    names = sorted(set(models)) if len(models) > 0 else found
    return modules_from_specs((spec_from_config_file(repository / name / "config.pbtxt") for name in names), out)


def modules_from_server(client: Client, out: Path, *, models: Sequence[str]) -> list[Path]:
    """Write one typed module for each of some models of a live server.

    Args:
        client: Connection to the server.
        out: Folder to write to; it is made when it is missing. Other files in it stay.
        models: Names of the models.

    Returns:
        The written files, in the order of ``models``.

    Raises:
        CodegenError: No module can be generated for a model. Nothing was written.
        TritonError: The server does not have a model, or does not answer.
        MissingExtraError: Jinja2 is not installed.
    """
    return modules_from_specs((client.spec(name) for name in models), out)


def modules_from_specs(specs: Iterable[ModelSpec], out: Path) -> list[Path]:
    """Write one typed module for each spec.

    Args:
        specs: What the models take and give.
        out: Folder to write to; it is made when it is missing. Other files in it stay.

    Returns:
        The written files, in the order of the specs.

    Raises:
        CodegenError: No module can be generated for a model, or two models have the same file. Nothing was written.
        MissingExtraError: Jinja2 is not installed.
    """
    texts: dict[Path, str] = {}
    models: dict[Path, str] = {}
    for spec in specs:
        path = out / f"{module_name_from_model(spec.name)}.py"
        if path in texts:
            raise CodegenError(
                f"models {models[path]} and {spec.name} both give {path.name}; write them to different folders"
            )
        texts[path] = module_from_spec(spec)
        models[path] = spec.name
    out.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        # A reader of the folder sees the old module or the new one, never half of it.
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    return list(texts)


def spec_from_config_file(path: Path) -> ModelSpec:
    """Read a model's spec from its ``config.pbtxt``.

    Args:
        path: The file. A config without a name has that of its folder, as for the server.

    Raises:
        CodegenError: It is not a model config, or does not state its inputs and outputs.
    """
    from google.protobuf import text_format

    try:
        config = model_config_from_text(path.read_text(encoding="utf-8"))
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise CodegenError(
            f"{path}: expected a model config in protobuf text format, got a fault at {error}"
        ) from error
    if not config.name:
        config.name = path.parent.name
    try:
        return model_spec_from_config(config)
    except ValueError as error:
        raise CodegenError(f"{path}: {error}") from error
