"""Links and paths that lead out of the repository: the linter neither follows nor judges them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from generator.lint.cases import (
    BATCHED,
    INITIAL,
    MODEL_PY,
    ONNX_BATCHING,
    PYTHON,
    START,
    external_bytes,
    sequence,
    state,
    warmup,
    write_model,
)
from generator.lint.python_cases import environment

from tritonforge_generator.lint import lint_model, lint_repository

FILES: dict[str, str | bytes] = {"1/model.py": MODEL_PY}
_opened: list[str] = []
_watching = [False]


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if _watching[0] and event in {"open", "os.listdir", "os.scandir"}:
        _opened.append(str(arguments[0]))


sys.addaudithook(_audit)


@contextmanager
def watched(outside: Path) -> Iterator[None]:
    """Fail when something below a directory is opened or listed, through a link or not."""
    _opened.clear()
    _watching[0] = True
    try:
        yield
    finally:
        _watching[0] = False
    real = [Path(path).resolve() for path in _opened if path not in {"", "None"} and not path.isdigit()]
    assert [path for path in real if path.is_relative_to(outside)] == []


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory beside the repository ``tmp_path/repository``, with things in it that are wrong."""
    folder = tmp_path / "outside"
    write_model(folder / "m", PYTHON + "max_batch_size: -1", {"1/model.py": "no Python", "data.bin": "x"})
    (folder / "model.onnx").write_bytes(b"no ONNX")
    (tmp_path / "repository").mkdir()
    return folder


def rules(repository: Path, outside: Path, *, strict: bool = False) -> list[str]:
    with watched(outside):
        return [found.rule for found in lint_repository(repository, strict=strict)]


@pytest.mark.parametrize("strict", [False, True])
def test_links_that_lead_out_are_not_followed(tmp_path: Path, outside: Path, strict: bool) -> None:
    repository = tmp_path / "repository"
    (repository / "whole").symlink_to(outside / "m")
    write_model(repository / "config", None, FILES)
    (repository / "config" / "config.pbtxt").symlink_to(outside / "m" / "config.pbtxt")
    write_model(repository / "version", PYTHON, {})
    (repository / "version" / "1").symlink_to(outside / "m" / "1")
    write_model(repository / "file", PYTHON, {"1/": ""})
    (repository / "file" / "1" / "model.py").symlink_to(outside / "m" / "1" / "model.py")
    write_model(repository / "graph", ONNX_BATCHING, {"1/": ""})
    (repository / "graph" / "1" / "model.onnx").symlink_to(outside / "model.onnx")
    assert rules(repository, outside, strict=strict) == []


@pytest.mark.parametrize(
    "config",
    [
        PYTHON + 'default_model_filename: "../../../outside/m/1/model.py"',
        ONNX_BATCHING + 'default_model_filename: "../../../outside/model.onnx"',
        ONNX_BATCHING + 'default_model_filename: "\\000"',
        warmup('dims: [4] input_data_file: "../../../outside/m/data.bin"'),
        sequence(START + state("", INITIAL.replace("zero_data: true", 'data_file: "../../../outside/m/data.bin"'))),
        environment("$$TRITON_MODEL_DIRECTORY/../../outside/m"),
    ],
)
def test_paths_that_lead_out_are_not_followed(tmp_path: Path, outside: Path, config: str) -> None:
    files = {**FILES, **BATCHED} if "onnx" not in config else {"1/": ""}
    write_model(tmp_path / "repository" / "m", config, files)
    assert rules(tmp_path / "repository", outside, strict=True) == []


def test_weights_that_lead_out_are_neither_missing_nor_read(tmp_path: Path, outside: Path) -> None:
    content = external_bytes().replace(b"weights.bin", b"../../../wx")
    write_model(tmp_path / "repository" / "m", ONNX_BATCHING, {"1/model.onnx": content})
    assert rules(tmp_path / "repository", outside) == []


def test_a_label_file_that_leads_out_is_an_error_in_the_servers_words(tmp_path: Path, outside: Path) -> None:
    config = PYTHON.replace('name: "y"', 'name: "y" label_filename: "../../outside/m/data.bin"')
    write_model(tmp_path / "repository" / "m", config, FILES)
    assert rules(tmp_path / "repository", outside) == ["M1"]


def test_links_inside_of_the_repository_are_followed(tmp_path: Path) -> None:
    write_model(tmp_path / "shared", PYTHON, {"1/model.py": "no Python"})
    write_model(tmp_path / "m", PYTHON, {"1/": ""})
    (tmp_path / "m" / "1" / "model.py").symlink_to(tmp_path / "shared" / "1" / "model.py")
    assert [found.rule for found in lint_repository(tmp_path, models=["m"])] == ["D3"]
    assert [found.rule for found in lint_model(tmp_path / "m")] == ["D3"]


def test_an_entry_of_the_model_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    for name, link in (("broken", "notes.txt"), ("valid", "1/notes.txt"), ("other", "mounted")):
        write_model(tmp_path / name, PYTHON, FILES)
        (tmp_path / name / link).symlink_to("/mnt/elsewhere" if link == "mounted" else "gone")
    (found,) = lint_repository(tmp_path)
    assert (found.rule, found.model) == ("P3", "broken")
    assert found.text == f"failed to stat file {tmp_path}/broken/notes.txt"


@pytest.mark.parametrize(
    ("label", "target", "found"),
    [
        ("l.txt", None, []),
        ("sub/../l.txt", None, []),
        ("/l.txt", None, []),
        ("l.txt", "../../outside/m/data.bin", ["M1"]),
        ("l.txt", "../shared/l.txt", ["M1"]),
        ("l.txt", "/nowhere", ["M1"]),
        ("l.txt", "own.txt", []),
        ("../shared/l.txt", None, ["M1"]),
        ("/../shared/l.txt", None, ["M1"]),
        # The server compares the beginnings of the names.
        ("../m2/l.txt", None, []),
    ],
)
def test_label_files_stay_inside_of_the_model_with_links_followed(
    tmp_path: Path, outside: Path, label: str, target: str | None, found: list[str]
) -> None:
    repository = tmp_path / "repository"
    config = PYTHON.replace('name: "y"', f'name: "y" label_filename: "{label}"')
    write_model(repository / "m", config, FILES | {"own.txt": "cat\n", "sub/": ""})
    for path in (repository / "shared", repository / "m2"):
        path.mkdir()
        (path / "l.txt").write_text("cat\n")
    if target is None:
        (repository / "m" / "l.txt").write_text("cat\n")
    else:
        (repository / "m" / "l.txt").symlink_to(target)
    with watched(outside):
        rules = [one.rule for one in lint_repository(repository, models=["m"]) if one.severity == "error"]
    assert [rule for rule in rules if rule != "P3"] == found
