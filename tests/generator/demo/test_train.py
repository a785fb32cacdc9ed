from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from support.extras import run_without_extras

from tritonforge_generator.demo import digits_test_split
from tritonforge_generator.demo.digits import DATA_DIR, MODEL_NAME
from tritonforge_generator.demo.train import _npz_bytes, main


def test_help_needs_no_extra() -> None:
    done = CliRunner().invoke(main, ["--help"])
    assert done.exit_code == 0
    assert all(option in done.output for option in ("--out", "--epochs", "--seed"))


def test_says_what_to_install(tmp_path: Path) -> None:
    call = "from tritonforge_generator.demo.train import main; main()"
    done = run_without_extras(call, "--out", str(tmp_path / "out"))

    assert done.returncode == 1
    assert "pip install 'tritonforge[" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [["--epochs", "0"], ["--seed", "-1"]])
def test_refuses_senseless_numbers(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, arguments).exit_code == 2


def test_archive_is_the_same_every_time_and_plain_numpy() -> None:
    split = digits_test_split()
    assert _npz_bytes(split) == _npz_bytes(split)
    with np.load(io.BytesIO(_npz_bytes(split)), allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["images"], split.images)
        np.testing.assert_array_equal(archive["labels"], split.labels)


@pytest.mark.slow
def test_trains_the_same_twice_and_well(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="training needs torch: pip install 'tritonforge[torch]'")
    outs = [tmp_path / "first", tmp_path / "second"]
    for out in outs:
        command = [sys.executable, "-m", "tritonforge_generator.demo.train", "--out", str(out)]
        subprocess.run(command, check=True, timeout=170)

    cards = [json.loads((out / "digits.json").read_text(encoding="utf-8")) for out in outs]
    assert cards[0] == cards[1]
    assert (outs[0] / MODEL_NAME).read_bytes() == (outs[1] / MODEL_NAME).read_bytes()
    assert cards[0]["test_accuracy"] >= 0.98
    shipped = json.loads((DATA_DIR / "digits.json").read_text(encoding="utf-8"))
    if shipped["versions"]["torch"] == torch.__version__:
        assert abs(cards[0]["test_accuracy"] - shipped["test_accuracy"]) <= 3 / 360
