from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from support.samples import pool

from tritonforge_generator.errors import SpecError
from tritonforge_generator.graph import GraphTensor, Samples
from tritonforge_generator.precision import Calibration, calibration_from_text

INPUTS = [
    GraphTensor(name="x", datatype="FP32", shape=("batch", 2)),
    GraphTensor(name="n", datatype="INT64", shape=("batch",)),
]
ROWS = {"x": np.arange(20, dtype=np.float32).reshape(10, 2), "n": np.arange(10)}
JUDGING = pool(x=np.full((4, 2), -1, np.float32), n=np.zeros(4, np.int64))


def calibrated(text: str | None, judging: Samples = JUDGING) -> Calibration:
    return calibration_from_text(text, INPUTS, judging, batched=True)


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The same rows in each form that is taken."""
    np.savez(tmp_path / "rows.npz", **ROWS)
    (tmp_path / "rows").mkdir()
    for name, array in ROWS.items():
        np.save(tmp_path / "rows" / f"{name}.npy", array)
    (tmp_path / "rows_here.py").write_text(
        "import numpy as np\n"
        "def rows():\n"
        "    for i in range(10):\n"
        "        yield {'x': np.array([2 * i, 2 * i + 1], np.float32), 'n': np.int64(i)}\n"
        "def none():\n    return []\n"
        "def wrong():\n    return [{'x': np.zeros(2, np.float32)}]\n"
        "def numbers():\n    return [1]\n"
        "def ragged():\n    return [{'x': np.zeros(n, np.float32), 'n': 0} for n in (2, 3)]\n"
        "def broken():\n    raise OSError('disk on fire')\n"
    )
    monkeypatch.chdir(tmp_path)
    return {"npz": str(tmp_path / "rows.npz"), "folder": str(tmp_path / "rows"), "python": "python:rows_here:rows"}


@pytest.mark.parametrize("form", ["npz", "folder", "python"])
def test_each_form_gives_the_same_samples_and_fingerprint(sources: dict[str, str], form: str) -> None:
    found = calibrated(sources[form])
    assert found.samples.count == 10
    for name, array in ROWS.items():
        np.testing.assert_array_equal(found.samples.arrays[name], array)
    assert found.sha256 == calibrated(sources["npz"]).sha256
    assert len(found.sha256) == 64


def test_another_value_another_fingerprint(tmp_path: Path, sources: dict[str, str]) -> None:
    np.savez(tmp_path / "other.npz", x=ROWS["x"] + 1, n=ROWS["n"])
    assert calibrated(str(tmp_path / "other.npz")).sha256 != calibrated(sources["npz"]).sha256


def test_strings_have_a_fingerprint_of_their_values() -> None:
    words = GraphTensor(name="w", datatype="BYTES", shape=("batch",))
    found = [
        calibration_from_text(None, [words], pool(w=np.array([b"a", b"b"], object)), batched=True).sha256
        for _ in range(2)
    ]
    assert found[0] == found[1]


def test_drawn_samples_differ_from_those_that_judge() -> None:
    judging = calibrated(None).samples  # stands for the verification's draw with another seed
    found = calibrated(None, judging)
    assert found.samples.arrays["x"].shape == judging.arrays["x"].shape
    assert calibration_from_text(None, INPUTS, JUDGING, batched=True, seed=1).sha256 != found.sha256


def test_samples_that_judge_are_left_out(sources: dict[str, str]) -> None:
    judging = pool(x=ROWS["x"][[2, 5]], n=ROWS["n"][[2, 5]])
    calibration = calibrated(sources["npz"], judging)
    assert calibration.sha256 != calibrated(sources["npz"]).sha256
    found = calibration.samples
    assert found.arrays["n"].tolist() == [0, 1, 3, 4, 6, 7, 8, 9]
    assert "without 2 that verification uses" in found.origin
    half_equal = pool(x=ROWS["x"][[2]], n=ROWS["n"][[5]])
    assert calibrated(sources["npz"], half_equal).samples.count == 10


def test_samples_that_all_judge_are_refused(sources: dict[str, str]) -> None:
    with pytest.raises(SpecError, match="all calibration samples are verification samples too"):
        calibrated(sources["npz"], pool(**ROWS))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("python:rows_here:none", "gives no sample"),
        ("python:rows_here:wrong", "sample 0 of .* does not fit the graph: expected n, x, got x"),
        ("python:rows_here:numbers", "does not fit the graph: expected n, x, got int"),
        ("python:rows_here:ragged", "differ in shape"),
        ("python:rows_here:broken", "OSError: disk on fire"),
        ("python:rows_here:missing", "AttributeError"),
        ("python:rows_nowhere:rows", "ModuleNotFoundError"),
        ("python:rows_here", "does not work: expected python:package.module:function"),
        ("nowhere.npz", "cannot be read"),
        ("rows_here.py", "cannot be read"),
    ],
)
def test_sources_that_do_not_work(sources: dict[str, str], text: str, match: str) -> None:
    assert sources
    with pytest.raises(SpecError, match=match):
        calibrated(text)


def test_a_folder_must_hold_every_input_as_an_array(sources: dict[str, str]) -> None:
    path = Path(sources["folder"]) / "n.npy"
    path.write_bytes(b"no array")
    with pytest.raises(SpecError, match=r"n\.npy cannot be read"):
        calibrated(sources["folder"])
    path.unlink()
    with pytest.raises(SpecError, match=r"lacks input 'n': expected n\.npy, got x\.npy"):
        calibrated(sources["folder"])


def test_the_search_path_is_left_as_it_was(sources: dict[str, str]) -> None:
    before = list(sys.path)
    calibrated(sources["python"])
    assert sys.path == before
