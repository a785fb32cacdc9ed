"""The declared file: one repository and the models to put into it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tritonforge_client.extras import require_extra
from tritonforge_generator.declared import DeclaredModel, PlacedError, declared_from_mapping, read_declared
from tritonforge_generator.spec.ensemble_options import EnsembleOptions
from tritonforge_generator.spec.environment_options import EnvironmentName, EnvironmentOptions
from tritonforge_generator.spec.model_options import ModelOptions

if TYPE_CHECKING:
    import pydantic
    from pydantic import Field
else:
    pydantic = require_extra("pydantic", "generator")
    Field = pydantic.Field

DEFAULT_REPOSITORY = Path("model_repository")
_LIKE_A_NUMBER: Final = re.compile(r"[-+]?\.?[0-9]")


class ForgeSpec(DeclaredModel):
    """A model repository as it should be."""

    repository: Path = Field(default=DEFAULT_REPOSITORY, description="The model repository, relative to this file.")
    server: str | None = Field(
        default=None,
        pattern=r"^\d\d\.\d\d$",
        description="The Triton release that will serve, such as '26.08'; plans are checked against its TensorRT.",
    )
    models: tuple[ModelOptions, ...] = Field(default=(), description="The models to generate.")
    ensembles: tuple[EnsembleOptions, ...] = Field(
        default=(), description="Ensembles of models of this spec, or of ones that are in the repository already."
    )
    environments: dict[EnvironmentName, dict[str, EnvironmentOptions]] = Field(
        default_factory=dict,
        description="By environment and model: what differs there; written to configs/<environment>.pbtxt.",
    )

    @pydantic.model_validator(mode="after")
    def _known_models(self) -> ForgeSpec:
        models = {model.name: model for model in self.models}
        for environment, overrides in self.environments.items():
            for name, options in overrides.items():
                at = ("environments", environment, name)
                if name not in models:
                    raise PlacedError(at=at, expected=f"a model of this spec: {', '.join(models)}", got=f"'{name}'")
                try:
                    options.applied_to(models[name])
                except PlacedError as error:
                    raise error.under(*at) from error
        return self

    @pydantic.model_validator(mode="after")
    def _distinct_names(self) -> ForgeSpec:
        seen: set[str] = set()
        declared: dict[str, Sequence[ModelOptions | EnsembleOptions]] = {
            "models": self.models,
            "ensembles": self.ensembles,
        }
        for key, several in declared.items():
            for index, model in enumerate(several):
                if model.name in seen:
                    raise PlacedError(
                        at=(key, index, "name"), expected="distinct model names", got=f"'{model.name}' twice"
                    )
                seen.add(model.name)
        if not seen:
            raise PlacedError(at=("models",), expected="at least 1 of them", got="none", action="Or declare ensembles.")
        return self

    def environments_of(self, model: str) -> dict[str, EnvironmentOptions]:
        """What differs of a model, by environment."""
        return {name: overrides[model] for name, overrides in self.environments.items() if model in overrides}

    def resolved(self, folder: Path) -> ForgeSpec:
        """The same spec with its paths relative to a folder, usually that of the file it came from."""
        models = tuple(model.resolved(folder) for model in self.models)
        ensembles = tuple(ensemble.resolved(folder) for ensemble in self.ensembles)
        repository = folder / self.repository
        return self.model_copy(update={"repository": repository, "models": models, "ensembles": ensembles})


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
        style = '"' if _LIKE_A_NUMBER.match(text) is not None else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, quoted)
    data = spec.model_dump(mode="json", exclude_defaults=True, by_alias=True)
    for declared, model in zip(data.get("models", ()), spec.models, strict=False):
        if model.model_warmup is True and "model_warmup" in model.model_fields_set:  # then Python models have it too
            declared["model_warmup"] = True
    text: str = yaml.dump(data, Dumper=Dumper, sort_keys=False, default_flow_style=None, width=120)
    return text.rstrip() + "\n"  # a flow sequence at the end leaves its line open
