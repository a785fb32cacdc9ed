"""The models that an ensemble is made of, as a server that loads them would know them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from tritonforge_client.datatypes import BY_DATA_TYPE
from tritonforge_generator.errors import ConfigError
from tritonforge_generator.lint import open_repositories
from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.proto import Message, ModelConfig, enum_name


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTensor:
    """One input or output of a composing model.

    Attributes:
        name: The model's name of it.
        datatype: Triton's wire name of its type.
        shape: As requests and replies have it, with the batch in front where there is one; -1 for any size.
        reshape: As the graph has it, where ``reshape`` makes that another shape.
        optional: Whether a request may leave it out.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    reshape: tuple[int, ...] | None
    optional: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposingModel:
    """A model that steps name.

    Attributes:
        name: Model name.
        folder: Its folder.
        config: As the server completes it.
        versions: What its version policy loads, ascending.
        inputs: In the order of the config.
        outputs: In the order of the config.
        files: By version, its ONNX file; none for other platforms.
    """

    name: str
    folder: Path
    config: ModelConfig
    versions: tuple[int, ...]
    inputs: tuple[ModelTensor, ...]
    outputs: tuple[ModelTensor, ...]
    files: Mapping[int, Path]

    @property
    def max_batch_size(self) -> int:
        """As configured; 0 for shapes in full."""
        return int(self.config.max_batch_size)

    @property
    def is_ensemble(self) -> bool:
        """Whether it is made of models itself."""
        return bool(self.config.platform == "ensemble")

    @property
    def is_decoupled(self) -> bool:
        """Whether a request may get several replies."""
        return bool(self.config.model_transaction_policy.decoupled)

    @property
    def step_names(self) -> tuple[str, ...]:
        """The models it is made of itself; none for a model that is no ensemble."""
        return tuple(str(step.model_name) for step in self.config.ensemble_scheduling.step)

    def version_of(self, model_version: int) -> int:
        """The version that a step gets: the one it names, or the newest that is loaded."""
        return model_version if model_version > 0 else self.versions[-1]


def composing_models(repository: Path, names: Collection[str], *, of: str = "") -> dict[str, ComposingModel]:
    """Read the models of steps from a repository, and those that they are made of in turn.

    Args:
        repository: The repository.
        names: The models of the steps.
        of: The ensemble that has these steps, which nothing below it may have as a step.

    Returns:
        By name.

    Raises:
        ConfigError: One is missing, or a server must run it to know its tensors, or ensembles lead back to themselves.
    """
    repositories, _ = open_repositories(repository)
    found: dict[str, ComposingModel] = {}

    def read(name: str, way: tuple[str, ...]) -> None:
        if name in way:  # rule X2
            raise ConfigError(
                "ensembles lead back to themselves",
                expected="steps that are models, or other ensembles that do not lead back",
                got=" -> ".join([*way[way.index(name) :], name]),
            )
        if name in found:
            return
        model = repositories.model(name)
        if model is None:
            known = ", ".join(repositories.directories) or "no model"
            raise ConfigError(
                f"model '{name}' of a step is not in the repository",
                expected=f"a model of the spec, or one of {known}",
                action="Correct the step's model_name, or generate the model first.",
            )
        found[name] = _composing(model)
        for inner in found[name].step_names:
            read(inner, (*way, name))

    for name in sorted(names):
        read(name, (of,))
    return found


def _composing(model: Model) -> ComposingModel:
    config = model.served or model.config  # None where only a run of the back-end would tell what it adds
    if model.parse_failure is not None or not _states_tensors(config):
        failure = model.parse_failure
        unread = f"line {failure.line}: {failure.message}" if failure is not None else "one that lacks some"
        raise ConfigError(
            f"the inputs and outputs of model '{model.name}' are not known without a server",
            expected="a config.pbtxt that states them",
            got="none" if model.text is None else unread,
            action="Write them into its config.pbtxt; tritonforge lint says what it lacks.",
        )
    if not model.versions:
        raise ConfigError(  # rule X4
            f"model '{model.name}' has no version that is loaded",
            expected="a version folder that its version_policy takes",
            got=", ".join(str(version) for version in sorted(model.existing_versions)) or "no version folder",
        )
    batched = config.max_batch_size > 0
    return ComposingModel(
        name=model.name,
        folder=model.directory,
        config=config,
        versions=tuple(sorted(model.versions)),
        inputs=tuple(_tensor(one, batched=batched, optional=bool(one.optional)) for one in config.input),
        outputs=tuple(_tensor(one, batched=batched, optional=False) for one in config.output),
        files=dict(model.model_files) if model.is_onnxruntime else {},
    )


def _states_tensors(config: ModelConfig) -> bool:
    tensors = [*config.input, *config.output]
    stated = all(one.name != "" and one.data_type != 0 and len(one.dims) > 0 for one in tensors)
    return stated and len(config.input) > 0 and len(config.output) > 0


def _tensor(tensor: Message, *, batched: bool, optional: bool) -> ModelTensor:
    front = (-1,) if batched else ()
    reshape = (*front, *tensor.reshape.shape) if tensor.HasField("reshape") else None
    return ModelTensor(
        name=str(tensor.name),
        datatype=BY_DATA_TYPE[enum_name(tensor, "data_type")].datatype,
        shape=(*front, *tensor.dims),
        reshape=reshape,
        optional=optional,
    )
