"""The declared file: one repository and the models to put into it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonforge_client.extras import require_extra
from tritonforge_generator.declared import DeclaredModel, PlacedError, declared_from_mapping, read_declared
from tritonforge_generator.spec.model_options import ModelOptions
from tritonforge_generator.spec.precision_options import PrecisionOptions

if TYPE_CHECKING:
    import pydantic
    from pydantic import Field
else:
    pydantic = require_extra("pydantic", "generator")
    Field = pydantic.Field

DEFAULT_REPOSITORY = Path("model_repository")


class ForgeSpec(DeclaredModel):
    """A model repository as it should be."""

    repository: Path = Field(default=DEFAULT_REPOSITORY, description="The model repository, relative to this file.")
    server: str | None = Field(
        default=None,
        pattern=r"^\d\d\.\d\d$",
        description="The Triton release that will serve, such as '26.08'; plans are checked against its TensorRT.",
    )
    models: tuple[ModelOptions, ...] = Field(min_length=1, description="The models to generate.")

    @pydantic.model_validator(mode="after")
    def _distinct_names(self) -> ForgeSpec:
        seen: set[str] = set()
        for index, model in enumerate(self.models):
            if model.name in seen:
                raise PlacedError(
                    at=("models", index, "name"), expected="distinct model names", got=f"'{model.name}' twice"
                )
            seen.add(model.name)
        return self

    def resolved(self, folder: Path) -> ForgeSpec:
        """The same spec with its paths relative to a folder, usually that of the file it came from."""
        models = tuple(_resolved(model, folder) for model in self.models)
        return self.model_copy(update={"repository": folder / self.repository, "models": models})


def _resolved(model: ModelOptions, folder: Path) -> ModelOptions:
    samples = model.verify.samples
    changed: dict[str, Any] = {
        "verify": model.verify.model_copy(update={"samples": folder / samples if samples is not None else None}),
        "tensorrt": model.tensorrt.resolved(folder),
    }
    if not str(model.source).startswith("torch:"):
        changed["source"] = folder / model.source
    if isinstance(model.precision, PrecisionOptions):
        changed["precision"] = model.precision.resolved(folder)
    return model.model_copy(update=changed)


def forge_spec_from_file(path: Path) -> ForgeSpec:
    """Read ``tritonforge.yaml``; its paths are relative to its folder.

    Raises:
        SpecError: With file, line and column of every mistake.
    """
    return read_declared(path, ForgeSpec).resolved(path.parent)


def forge_spec_from_flags(flags: Mapping[str, Any], *, repository: Path) -> ForgeSpec:
    """The spec that a set of command-line flags means: one model.

    Args:
        flags: Values by option name of ``ModelOptions``, nested options as mappings.
        repository: The model repository.

    Raises:
        SpecError: With the flag of every mistake.
    """
    model = declared_from_mapping(flags, ModelOptions, origin="command line")
    return ForgeSpec(repository=repository, models=(model,))


def text_from_forge_spec(spec: ForgeSpec) -> str:
    """Write a spec as YAML that reads back as the same: what differs from the defaults, with paths as they are."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes what YAML 1.2 would read as a number and PyYAML would not."""

    def quoted(dumper: Dumper, text: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if text[:1].isdigit() else None)

    Dumper.add_representer(str, quoted)
    data = spec.model_dump(mode="json", exclude_defaults=True)
    text: str = yaml.dump(data, Dumper=Dumper, sort_keys=False, default_flow_style=None, width=120)
    return text.rstrip() + "\n"  # a flow sequence at the end leaves its line open
