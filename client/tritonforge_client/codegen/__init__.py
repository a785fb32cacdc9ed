"""Typed modules, one a model, from a model repository, a live server or a spec."""

from tritonforge_client.codegen.module import module_from_spec
from tritonforge_client.codegen.repository import (
    modules_from_repository,
    modules_from_server,
    modules_from_specs,
    spec_from_config_file,
)
from tritonforge_client.core.config import digest_from_spec, model_spec_from_config

__all__ = [
    "digest_from_spec",
    "model_spec_from_config",
    "module_from_spec",
    "modules_from_repository",
    "modules_from_server",
    "modules_from_specs",
    "spec_from_config_file",
]
