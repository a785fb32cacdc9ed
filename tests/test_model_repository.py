"""The committed repository is what the generator writes now."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tritonforge_client.codegen import modules_from_repository
from tritonforge_generator.demo.run import SPEC_PATH
from tritonforge_generator.lint import lint_repository
from tritonforge_generator.pipeline import generate
from tritonforge_generator.repository import ModelRepository
from tritonforge_generator.repository.manifest import FILENAME
from tritonforge_generator.spec import forge_spec_from_file

COMMITTED = Path(__file__).parents[1] / "model_repository"


def test_committed_model_is_what_is_generated_now(tmp_path: Path) -> None:
    generate(forge_spec_from_file(SPEC_PATH).model_copy(update={"repository": tmp_path / "repo"}), serve_check=False)
    committed, written = (
        {str(path.relative_to(root)): path.read_bytes() for path in (root / "digits").rglob("*") if path.is_file()}
        for root in (COMMITTED, tmp_path / "repo")
    )
    manifest = f"digits/1/{FILENAME}"
    assert set(committed) == set(written)
    assert {name for name in committed if committed[name] != written[name]} <= {manifest}
    # A manifest also says when and with which versions it was made; nothing else of it may differ.
    now, then = (ModelRepository(root).model("digits").manifest(1) for root in (tmp_path / "repo", COMMITTED))
    assert now is not None
    assert then is not None
    assert replace(now, made={}) == replace(then, made={})
    assert then.made["verification"]["passed"] is True


def test_committed_repository_is_clean() -> None:
    assert lint_repository(COMMITTED) == []


USE = """
import numpy as np
from numpy.typing import NDArray
from tritonforge_client import Client
from digits import Digits, Outputs
model = Digits(Client("grpc://localhost:8001"))
images = np.zeros((2, 1, 8, 8), np.float32)
outputs: Outputs = model.infer(images=images)
logits: NDArray[np.float32] = outputs.logits
"""
CHECKERS = {
    "mypy": ["mypy", "--strict", "--no-incremental", "--cache-dir=/dev/null"],
    "pyright": ["pyright", "--pythonpath", sys.executable],
}


@pytest.mark.parametrize("checker", CHECKERS)
def test_typed_client_of_the_committed_model(tmp_path: Path, checker: str) -> None:
    """Correct use is clean under both checkers; a misspelt input is reported by both."""
    (module,) = modules_from_repository(COMMITTED, tmp_path)
    for name, text, code in (("right", USE, 0), ("wrong", USE + "model.infer(image=images)\n", 1)):
        (tmp_path / f"{name}.py").write_text(text)
        command = [sys.executable, "-m", *CHECKERS[checker], f"{name}.py", module.name]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == code, done.stdout
        assert ('"image"' in done.stdout) == (code == 1)


def test_no_plan_is_committed() -> None:
    assert list(COMMITTED.rglob("*.plan")) == []
