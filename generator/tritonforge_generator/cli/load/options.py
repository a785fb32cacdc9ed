"""Arguments and options that the commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

CallableT = TypeVar("CallableT", bound=Callable[..., Any])


def campaign_argument(function: CallableT) -> CallableT:
    """The campaign file."""
    return click.argument("campaign", type=click.Path(path_type=Path), metavar="CAMPAIGN.yaml")(function)


def url_option(function: CallableT) -> CallableT:
    """``--url``."""
    text = "The server, for example grpc://127.0.0.1:8001; wins over the campaign's."
    return click.option("--url", metavar="URL", help=text)(function)


def set_option(function: CallableT) -> CallableT:
    """``--set``."""
    text = "Change a value of the file, for example phases.steady.for=5s; may be repeated."
    return click.option("--set", "settings", multiple=True, metavar="KEY=YAML", help=text)(function)


def json_option(function: CallableT) -> CallableT:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result for programs.")(function)


def settings_from_options(settings: tuple[str, ...], url: str | None, **given: Any) -> dict[str, Any]:
    """What flags replace, nested like the campaign file.

    Args:
        settings: Words of ``--set``.
        url: Value of ``--url``.
        given: Values of other flags by the file's keys; those that are ``None`` were not given.
    """
    from tritonforge_generator.cli.settings import options_from_settings

    options = options_from_settings(settings, {}, example="phases.steady.for=5s")
    target = options.setdefault("target", {})
    if not isinstance(target, dict):
        raise click.UsageError("--set target: set its keys, for example target.timeout=5s.")
    if url is not None:
        target["url"] = url
    return {**options, **{key: value for key, value in given.items() if value is not None}}
