"""What the generator gave last: the base of a merge."""

from __future__ import annotations

from hashlib import sha256

from tritonforge_generator.repository.layout import CONFIG_FILENAME, ModelFolder
from tritonforge_generator.repository.manifest import Manifest


def generated_last(live: ModelFolder, location: str, digest: str, *, theirs: str, ours: str) -> str | None:
    """The text that the generator gave last, before what people wrote was merged into it.

    Args:
        live: The published model.
        location: Where the configuration lies in its folder.
        digest: SHA-256 of the configuration.
        theirs: The configuration.
        ours: What the spec gives now; it is the text sought where it has the recorded hash.

    Returns:
        The text; ``None`` where only a hash is recorded of it, or nothing.
    """
    recorded = [manifest for version in reversed(live.versions) if (manifest := live.manifest(version)) is not None]
    same = [manifest for manifest in recorded if _config_hash(manifest, location) == digest]
    for manifest in [*same, *recorded][:1]:
        lines = manifest.made.get("configs", {}).get(location, {}).get("generated")
        if lines is not None:
            return "\n".join(lines) + "\n"
        if _config_hash(manifest, location) == digest:
            return theirs
        if _config_hash(manifest, location) == sha256(ours.encode()).hexdigest():
            return ours
    return None


def _config_hash(manifest: Manifest, location: str) -> str | None:
    return manifest.config_sha256 if location == CONFIG_FILENAME else manifest.model_files.get(location)
