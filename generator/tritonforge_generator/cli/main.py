"""The group ``tritonforge``: finds a command by name and turns errors into exit codes."""

from __future__ import annotations

import importlib
import sys
from typing import Any, Final

import click

from tritonforge_generator.errors import TritonforgeError

COMMANDS: Final = {
    "demo": "Go the whole way on this machine, from a trained model to a load-test report.",
    "generate": "Generate, verify and publish models from a spec or an ONNX file.",
    "verify": "Prove the models of a repository again, served by a real Triton.",
    "lint": "Check model repositories against the server's own rules.",
    "inspect": "Show what an ONNX file, a TensorRT plan or a repository holds.",
    "bench": "Compare PyTorch, ONNX Runtime and TensorRT on a model, in speed and accuracy.",
    "serve": "Serve model repositories with a real Triton on this machine.",
    "client": "Write typed client modules for the models of a repository.",
    "load": "Run, check, plan and compare load-testing campaigns.",
    "schema": "Print the JSON Schema of a declared file, for editors.",
    "doctor": "Show what this machine can do and what to install for the rest.",
}
"""Commands in the order of the help text, each with the first sentence of its own help."""


class _Commands(click.Group):
    """Imports the module of a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"tritonforge_generator.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        import difflib

        name = args[0] if args else ""
        if name not in COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            ctx.fail(f"No such command '{name}'." + (f" Did you mean '{near[0]}'?" if near else ""))
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="tritonforge", prog_name="tritonforge")
def group() -> None:
    """From a trained model to a measured Triton service, with nothing published that was not proven.

    Exit codes: 0 all is well, 1 a gate or a run failed, 2 the input must change; `tritonforge load run` has more.
    """


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line and exit.

    Args:
        arguments: Words after the program's name; by default the process's own.
    """
    try:
        group.main(args=arguments, prog_name="tritonforge")
    except TritonforgeError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        _fail(str(error), 2)
    except ImportError as error:
        from tritonforge_client.extras import MissingExtraError  # brings numpy, which no help text needs

        if not isinstance(error, MissingExtraError):
            raise
        _fail(str(error), 2)


def _fail(text: str, exit_code: int) -> None:
    click.secho(f"error: {text}", err=True, fg="red" if sys.stderr.isatty() else None)
    sys.exit(exit_code)
