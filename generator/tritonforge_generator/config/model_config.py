"""The artifact of the config stage: one message, one text, the same meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from tritonforge_client.core.proto import messages, model_config_from_text
from tritonforge_client.extras import require_extra
from tritonforge_generator.config.fields import Field, fill_message
from tritonforge_generator.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A model configuration.

    Attributes:
        message: The ``inference.ModelConfig`` protobuf message.
        text: ``config.pbtxt``: the same message in text format with a reason on every line.
        notes: What a person should know of the decisions taken.
        files: Contents of the files that the configuration names, by their place in the model folder.
    """

    message: Any
    text: str
    notes: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)


def model_config_from_fields(fields: tuple[Field, ...], *, heading: str, notes: tuple[str, ...] = ()) -> ModelConfig:
    """Make the message and the text of a field tree and check that they agree.

    Args:
        fields: Fields of ``inference.ModelConfig`` in the order of the text.
        heading: First comment line of the text.
        notes: Sentences for the person who generates; the first comment lines repeat them.

    Raises:
        ConfigError: The text does not parse back to the message.
    """
    from google.protobuf import text_format

    message = messages().ModelConfig()
    fill_message(message, fields)
    text = _render(fields, heading, notes)
    try:
        parsed = model_config_from_text(text)
    except text_format.ParseError as error:
        raise ConfigError("the rendered config.pbtxt does not parse", got=str(error)) from error
    if parsed != message:
        raise ConfigError("the rendered config.pbtxt means something else than the configuration", got=text)
    return ModelConfig(message=message, text=text, notes=notes)


def _render(fields: tuple[Field, ...], heading: str, notes: tuple[str, ...]) -> str:
    jinja2 = require_extra("jinja2", "generator")
    environment = jinja2.Environment(
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["line"] = lambda text: " ".join(text.split())  # names of a graph may hold line ends
    template = (resources.files("tritonforge_generator.config") / "templates" / "config.pbtxt.j2").read_text(
        encoding="utf-8"
    )
    return str(environment.from_string(template).render(fields=fields, heading=heading, notes=notes))
