"""One whole configuration for each environment, ``configs/<name>.pbtxt``.

A server with ``--model-config-name=<name>`` reads it in place of ``config.pbtxt``
(https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_repository.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from tritonforge_generator.config import ModelConfig, model_config_from_graph
from tritonforge_generator.config.warmup import HasOpt
from tritonforge_generator.draft import Draft
from tritonforge_generator.errors import ConfigError
from tritonforge_generator.keeping import kept_by_hand
from tritonforge_generator.lint import lint_repository
from tritonforge_generator.repository import StagedModel
from tritonforge_generator.spec import EnvironmentOptions, ModelOptions
from tritonforge_generator.verify import Check
from tritonforge_generator.verify.gates import check_of_findings

FOLDER: Final = "configs"


def with_environments(
    config: ModelConfig,
    draft: Draft,
    environments: Mapping[str, EnvironmentOptions],
    *,
    options: ModelOptions,
    profiles: Sequence[Mapping[str, HasOpt]],
) -> tuple[ModelConfig, list[Check]]:
    """Put the configurations of environments among the files of a model's own.

    Args:
        config: The model's own configuration.
        draft: The staged model; what was written by hand into a live configuration of an environment is kept too.
        environments: What differs, by environment.
        options: The model's options.
        profiles: The profiles of its plan.

    Returns:
        The configuration, and rows for the report that name what was kept or dropped.

    Raises:
        ConfigError: An environment asks for what the model does not allow.
        RepositoryError: A live configuration cannot be read, or was changed by hand and by the spec.
    """
    files = dict(config.files)
    rows: list[Check] = []
    for name, environment in environments.items():
        location = f"{FOLDER}/{name}.pbtxt"
        own = model_config_from_graph(
            draft.graph,
            environment.applied_to(options),
            sample_shapes=draft.reference.sample_shapes,
            profiles=profiles,
            notes=[f"environment '{name}': tritonserver --model-config-name={name}", *draft.notes],
        )
        kept, checks = kept_by_hand(draft.staged, own, location)
        largest, allowed = kept.message.max_batch_size, config.message.max_batch_size
        if largest > allowed or (largest > 0) != (allowed > 0):
            raise ConfigError(
                f"model '{options.name}' in the environment '{name}': max_batch_size is not one that was proven",
                expected=f"at most {allowed}" if allowed > 0 else "none: its requests are not batched",
                got=str(largest),
                action="Change it in the environment, or raise the model's own.",
            )
        files[location] = kept.text.encode()
        rows += [replace(check, name=f"{check.name} ({location})") for check in checks]
    return replace(config, files=files), rows


def environment_checks(staged: StagedModel, environments: Mapping[str, EnvironmentOptions]) -> list[Check]:
    """Judge each configuration by the server's own rules.

    Args:
        staged: The staged model, with its files.
        environments: The environments.
    """
    repository, name = staged.folder.path.parent, staged.folder.name
    checks = []
    for environment in environments:
        check = check_of_findings(lint_repository(repository, models=[name], config_name=environment))
        checks.append(replace(check, name=f"{check.name}, environment '{environment}'"))
    return checks
