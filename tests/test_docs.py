"""What the documentation shows exists: specs parse, commands and their flags are there, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from tritonforge_generator.cli.main import COMMANDS, group
from tritonforge_generator.spec import ForgeSpec, forge_spec_from_file
from tritonforge_load.campaign import read_campaign

DOCS = sorted((Path(__file__).parents[1] / "docs").glob("*.md"))
SPEC_KEYS = tuple(ForgeSpec.model_fields)


def blocks(path: Path, *kinds: str) -> list[str]:
    found = re.findall(r"^```(\w+)\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)
    return [text for kind, text in found if kind in kinds]


def specs(path: Path) -> list[str]:
    """YAML blocks that begin with a key of the spec; others declare campaigns or show a part."""
    return [text for text in blocks(path, "yaml") if next(iter(yaml.safe_load(text))) in SPEC_KEYS]


def campaigns(path: Path) -> list[str]:
    """YAML blocks that begin with the name of a campaign."""
    return [text for text in blocks(path, "yaml") if next(iter(yaml.safe_load(text))) == "campaign"]


def commands(path: Path) -> list[list[str]]:
    """The words of every ``tritonforge`` command, after its name."""
    lines = "\n".join(blocks(path, "console", "bash")).replace("\\\n", " ").splitlines()
    typed = [line.removeprefix("$ ") for line in lines]
    return [shlex.split(line, comments=True)[1:] for line in typed if line.startswith("tritonforge ")]


@pytest.fixture(params=DOCS, ids=lambda path: path.name)
def document(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_blocks_are_closed_and_have_a_kind(document: Path) -> None:
    fences = re.findall(r"^```(.*)$", document.read_text(), re.MULTILINE)
    assert len(fences) % 2 == 0
    assert all(fences[::2])
    assert not any(fences[1::2])


def test_specs_parse(document: Path, tmp_path: Path) -> None:
    for text in specs(document):
        path = tmp_path / "tritonforge.yaml"
        path.write_text(text)
        spec = forge_spec_from_file(path)
        assert spec.models or spec.ensembles


def test_campaigns_parse(document: Path, tmp_path: Path) -> None:
    for text in campaigns(document):
        path = tmp_path / "campaign.yaml"
        path.write_text(text)
        assert read_campaign(path).phases


def test_commands_and_their_flags_exist(document: Path) -> None:
    for words in commands(document):
        name = words[0]
        if name.startswith("-"):
            continue  # of the group itself
        assert name in COMMANDS, f"{document.name}: tritonforge {name}"
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            assert words[1] in command.commands, f"{document.name}: {shlex.join(words)}"
            command = command.commands[words[1]]
        assert command is not None
        known = {"--help", "-h"} | {
            flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)
        }
        given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z][^ ]*$", word)}
        assert given <= known, f"{document.name}: {shlex.join(words)}"


def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
        assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_there_is_something_to_check() -> None:
    precision = DOCS[0].parent / "precision.md"
    assert len(specs(precision)) >= 3
    assert len(commands(precision)) >= 2
    load_testing = DOCS[0].parent / "load-testing.md"
    assert len(campaigns(load_testing)) >= 1
    assert {words[1] for words in commands(load_testing)} >= {"run", "check", "plan", "compare", "worker"}
