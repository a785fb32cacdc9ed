from __future__ import annotations

import inspect
import re
import resource
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner
from support.extras import run_without_extras

from tritonforge_generator.cli.generate import MODEL_FLAGS
from tritonforge_generator.cli.main import COMMANDS, group
from tritonforge_generator.spec import ModelOptions

IMPORT_ALL = """
import importlib, pkgutil
import tritonforge_client, tritonforge_generator, tritonforge_load
from tritonforge_client.extras import MissingExtraError
for package in (tritonforge_client, tritonforge_generator, tritonforge_load):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if ".backends." in module.name or module.name.endswith("__main__"):
            continue  # run inside the server's own process
        try:
            importlib.import_module(module.name)
        except MissingExtraError as error:
            print("needs", error.extra, module.name)
        else:
            print("imports", module.name)
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_summaries_are_those_of_the_commands(name: str) -> None:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    first_paragraph = inspect.cleandoc(command.help or "").split("\n\n")[0].replace("\n", " ")
    assert first_paragraph == COMMANDS[name]


def test_flags_are_the_options_of_the_spec() -> None:
    options = {name: field.description for name, field in ModelOptions.model_fields.items() if name != "source"}
    assert options == MODEL_FLAGS


def test_unknown_command_suggests_the_nearest() -> None:
    result = CliRunner().invoke(group, ["generat"])
    assert result.exit_code == 2
    assert "No such command 'generat'. Did you mean 'generate'?" in result.output


def test_help_is_quick() -> None:
    """Under 0.3 s of processor time, which other programs on the machine do not change."""
    command = [sys.executable, "-m", "tritonforge_generator.cli", "--help"]
    subprocess.run(command, check=True, capture_output=True)  # writes the byte code
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_needs_no_extra(name: str) -> None:
    call = "from tritonforge_generator.cli.main import main; main(sys.argv[1:])"
    result = run_without_extras(call, *([name] if name else []), "--help")
    assert result.returncode == 0, result.stderr
    assert "Usage: tritonforge" in result.stdout


def test_every_module_imports_or_names_its_extra() -> None:
    result = run_without_extras(IMPORT_ALL)
    assert result.returncode == 0, result.stderr
    imported = re.findall(r"^imports (\S+)$", result.stdout, re.MULTILINE)
    assert "tritonforge_client.client" in imported
    assert "tritonforge_generator.cli.generate" in imported
    needing = dict(re.findall(r"^needs (\S+) (\S+)$", result.stdout, re.MULTILINE))
    assert set(needing) <= {"generator", "load", "report", "sklearn"}


def test_missing_extra_is_named() -> None:
    call = "from tritonforge_generator.cli.main import main; main(sys.argv[1:])"
    result = run_without_extras(call, "generate", "model.onnx")
    assert result.returncode == 2
    assert "pip install 'tritonforge[generator]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_doctor_needs_no_extra() -> None:
    call = "from tritonforge_generator.cli.main import main; main(sys.argv[1:])"
    result = run_without_extras(call, "doctor")
    assert result.returncode == 0, result.stderr
    assert "pip install 'tritonforge[generator]'" in result.stdout
