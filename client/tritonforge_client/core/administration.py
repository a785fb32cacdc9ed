"""What a server says of itself and of its models, typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerMetadata:
    """A server.

    Attributes:
        name: Its name, ``triton`` unless it was given another.
        version: Its version.
        extensions: The protocol extensions that it has.
    """

    name: str
    version: str
    extensions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryModel:
    """A model in a server's repositories.

    Attributes:
        name: Model name.
        version: Version; empty for a model that was never loaded.
        state: ``READY``, ``LOADING``, ``UNLOADING`` or ``UNAVAILABLE``; empty when it was never loaded.
        reason: Why it is in that state, where there is something to say.
    """

    name: str
    version: str
    state: str
    reason: str


def server_metadata_from_json(fields: Mapping[str, Any]) -> ServerMetadata:
    """Read the JSON form of ``ServerMetadataResponse``."""
    return ServerMetadata(
        name=str(fields.get("name", "")),
        version=str(fields.get("version", "")),
        extensions=tuple(map(str, fields.get("extensions", ()))),
    )


def repository_model_from_json(fields: Mapping[str, Any]) -> RepositoryModel:
    """Read the JSON form of ``RepositoryIndexResponse.ModelIndex``."""
    return RepositoryModel(**{name: str(fields.get(name, "")) for name in ("name", "version", "state", "reason")})
