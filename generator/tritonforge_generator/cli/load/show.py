"""Showing a result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tritonforge_load.measure import CampaignResult


def print_result(result: CampaignResult, *, as_json: bool) -> None:
    """Print tables for people, or everything for programs.

    Args:
        result: The result.
        as_json: For programs.
    """
    from tritonforge_load.measure import json_from_result
    from tritonforge_load.report.table import text_from_result

    click.echo(json_from_result(result) if as_json else text_from_result(result), nl=not as_json)
