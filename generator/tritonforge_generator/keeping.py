"""What people wrote into a published configuration, between the config stage and the gates."""

from __future__ import annotations

from typing import Final

from tritonforge_generator.config import ModelConfig
from tritonforge_generator.errors import ConfigError
from tritonforge_generator.repository import StagedModel
from tritonforge_generator.repository.layout import CONFIG_FILENAME
from tritonforge_generator.verify import Check

KEPT_CHECK: Final = "what was written by hand is kept"
DROPPED_CHECK: Final = "what was written by hand is dropped, as asked"


def kept_by_hand(
    staged: StagedModel, config: ModelConfig, location: str = CONFIG_FILENAME
) -> tuple[ModelConfig, list[Check]]:
    """Merge what the spec gives with what people wrote; the gates after this judge what comes of it.

    Args:
        staged: The staged model.
        config: What the spec gives.
        location: Where the live configuration lies in the model's folder.

    Returns:
        The merged configuration, and rows for the report that name every field that was kept or dropped.

    Raises:
        RepositoryError: The live configuration cannot be read, or both sides changed a field.
        ConfigError: People turned batching on or off.
    """
    merged = staged.merged_with_live(config, location)
    ours, now = config.message.max_batch_size, merged.config.message.max_batch_size
    if (ours > 0) != (now > 0):
        raise ConfigError(
            f"{staged.live.path / location}: max_batch_size turns batching {'on' if now > 0 else 'off'} by hand",
            expected=f"{'a size above 0' if ours > 0 else '0'}, because every tensor's dims depend on it",
            got=str(now),
            action="Declare max_batch_size in the spec.",
        )
    rows = {KEPT_CHECK: merged.kept, DROPPED_CHECK: merged.dropped}
    return merged.config, [
        Check(name=name, passed=True, summary="; ".join(str(edit) for edit in edits))
        for name, edits in rows.items()
        if edits
    ]
