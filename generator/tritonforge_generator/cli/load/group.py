"""The group ``tritonforge load``."""

from __future__ import annotations

import click

from tritonforge_generator.cli.load.check import check
from tritonforge_generator.cli.load.compare import compare
from tritonforge_generator.cli.load.plan import plan
from tritonforge_generator.cli.load.report import report
from tritonforge_generator.cli.load.run import run
from tritonforge_generator.cli.load.worker import worker

_COMMANDS = (run, check, plan, compare, report, worker)


class _InOrder(click.Group):
    """Shows commands in the order in which they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_InOrder)
def command() -> None:
    """Run, check, plan and compare load-testing campaigns.

    A campaign is a file that says what is sent when, and what must come out: see docs/load-testing.md, or
    `tritonforge schema campaign` for editors.
    """


for _command in _COMMANDS:
    command.add_command(_command)
