"""An ensemble that is written already, read back as what would have been declared."""

from __future__ import annotations

from tritonforge_generator.declared import declared_from_mapping
from tritonforge_generator.lint.proto import ModelConfig, enum_name
from tritonforge_generator.spec import EnsembleOptions, VerifyOptions


def options_from_config(config: ModelConfig, verify: VerifyOptions) -> EnsembleOptions:
    """Read an ensemble's config as options; dims of ``reshape`` count, as they do for the server.

    Args:
        config: The config.
        verify: How it is proven.

    Raises:
        SpecError: It says what the generator would not write.
    """
    tensors = {
        kind: [
            {
                "name": tensor.name,
                "data_type": enum_name(tensor, "data_type"),
                "dims": list(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims),
            }
            for tensor in getattr(config, kind)
        ]
        for kind in ("input", "output")
    }
    steps = [
        {
            "model_name": step.model_name,
            "model_version": step.model_version,
            "input_map": dict(step.input_map),
            "output_map": dict(step.output_map),
        }
        for step in config.ensemble_scheduling.step
    ]
    said = {
        "name": config.name,
        "max_batch_size": config.max_batch_size,
        **tensors,
        "ensemble_scheduling": {"step": steps},
        "verify": verify.model_dump(mode="json", exclude_none=True),
    }
    return declared_from_mapping(said, EnsembleOptions, origin=f"the config of '{config.name}'")
