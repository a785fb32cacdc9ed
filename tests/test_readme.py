"""Every code block of the README is executed, in order, in a copy of the files that it names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Looks like a checkout: what the blocks read is there, what they write is not."""
    path = tmp_path_factory.mktemp("readme")
    for name in ("generator", "load_tests", "client", "Makefile", "pyproject.toml", "README.md"):
        (path / name).symlink_to(ROOT / name)
    return path


def run(folder: Path, command: list[str], timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def test_blocks_are_of_known_kinds() -> None:
    assert {kind for kind, _ in BLOCKS} == {"bash", "python", "yaml"}
    assert README.count("```") == 2 * len(BLOCKS)


@pytest.mark.triton
@pytest.mark.timeout(240)
@pytest.mark.parametrize("index", range(len(BLOCKS)), ids=lambda index: f"{index}-{BLOCKS[index][0]}")
def test_block(folder: Path, index: int) -> None:
    kind, text = BLOCKS[index]
    if kind == "yaml":
        name = re.match(r"# (\S+\.yaml)\n", text)
        assert name is not None, "a YAML block begins with the name of its file"
        (folder / name[1]).write_text(text)
    elif kind == "python":
        run(folder, [sys.executable, "-c", text])
    elif "make demo" in text:
        # The environment of this very run is the one that make would set up; `make test` is what runs this test.
        assert [line.split("#")[0].strip() for line in text.splitlines()] == ["make demo", "make test"]
        for stamp in (".installed-all", ".installed-dev"):
            (Path(sys.prefix) / stamp).touch()
        run(folder, ["make", "demo", f"VENV={sys.prefix}"], timeout_s=200)
        assert (folder / "out" / "demo" / "report.html").is_file()
        assert "pytest" in run(folder, ["make", "--dry-run", "test", f"VENV={sys.prefix}"]).stdout
    else:
        run(folder, ["bash", "-euo", "pipefail", "-c", text])


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
