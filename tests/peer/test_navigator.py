"""Model Navigator 0.14's repositories: what is wrong with them is found, and none of it is made here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import graphs

from tritonforge_generator.errors import ConfigError, SourceError, SpecError, TritonforgeError
from tritonforge_generator.lint import lint_repository
from tritonforge_generator.pipeline import generate
from tritonforge_generator.repository import ModelRepository
from tritonforge_generator.spec import forge_spec_from_flags

pytestmark = [pytest.mark.peer, pytest.mark.timeout(600)]

PACKAGES = [
    "triton-model-navigator==0.14.0",
    "attrs",
    "dacite",
    "fire",
    "jsonlines",
    "loguru",
    "mpmath",
    "onnx_graphsurgeon",
    "polygraphy",
    "psutil",
    "py-cpuinfo",
    "pyee",
    "pynvml==11.5.3",
    "python-slugify",
    "tabulate",
    "termcolor",
    "text-unidecode",
    "wrapt",
]
"""It and what it imports; the rest of its requirements (TensorRT, torch) is of no use to ``add_model``."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Graphs, and the repositories that Model Navigator makes of them."""
    folder = tmp_path_factory.mktemp("navigator")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder / "packages")]
    done = subprocess.run([*install, *PACKAGES], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"Model Navigator cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
    write_sources(folder)
    script = Path(__file__).with_name("navigator_cases.py")
    environment = {**os.environ, "PYTHONPATH": str(folder / "packages")}
    subprocess.run([sys.executable, script, folder], env=environment, capture_output=True, text=True, check=True)
    return folder


def write_sources(folder: Path) -> None:
    graphs.linear(folder / "linear.onnx")
    graphs.linear(folder / "single.onnx", batch=1)
    graphs.linear(folder / "external.onnx", external=True)
    (folder / "text.plan").write_text("not a plan")


# What lint says of each; its own order.
FOUND = {
    "N5": ("T3", "unable to load plan file"),
    "N6_batch": ("O20", "for the model to support batching"),
    "N6_name": ("I13", "unexpected inference input 'images'"),
    "N6_dims": ("O21", "shape [-1,4]"),
    "N6_type": ("O16", "configuration expects datatype TYPE_INT32 for input 'x', model provides TYPE_FP32"),
    "N7": ("D1", "External data path does not exist"),
    "N8_preferred": ("C6", "preferred size must be <= max batch size"),
    "N12": ("A1", "Could not determine backend for model 'a'"),
    "N13": ("O20", "for the model to support batching"),
}


@pytest.mark.parametrize("case", FOUND)
def test_its_faults_are_found(folder: Path, case: str) -> None:
    first = lint_repository(folder / "repositories" / case)[0]
    rule, text = FOUND[case]
    assert (first.rule, first.severity) == (rule, "error")
    assert text in first.text


def test_a_warm_up_that_is_larger_than_a_batch_is_found(folder: Path) -> None:
    """The server refuses it: ``failed to run warmup sample 'w': batch size 64 for 'm_0', max allowed is 8``."""
    assert any(one.severity == "error" for one in lint_repository(folder / "repositories" / "N8_warmup"))


def test_what_it_does_right_is_not_blamed(folder: Path) -> None:
    assert [one for one in lint_repository(folder / "repositories" / "right") if one.severity == "error"] == []


def test_its_faults_are_those_that_are_known(folder: Path) -> None:
    """The cases show what they are meant to: a newer release that mended one of them would be seen here."""
    repositories = folder / "repositories"
    errors = json.loads((folder / "errors.json").read_text("utf-8"))
    assert set(errors) == {"N11"}
    assert "has no attribute 'CUDAGraphOptimization'" in errors["N11"]
    assert "max_sequence_idle" not in (repositories / "N9" / "m" / "config.pbtxt").read_text()
    assert "eager_batching: true" in (repositories / "N10" / "m" / "config.pbtxt").read_text()
    assert (repositories / "b c" / "config.pbtxt").is_file(), "a name leads out of the repository"
    assert not list((repositories / "N7").rglob("*.data"))


# ---- the same intents here ----


def generated(folder: Path, source: str, **options: Any) -> Path:
    flags = {"name": "m", "source": str(folder / source), **options}
    generate(forge_spec_from_flags(flags, repository=folder / "repo"), serve_check=False)
    return folder / "repo"


REFUSED: dict[str, tuple[str, dict[str, Any], type[TritonforgeError], str]] = {
    "N5": ("text.plan", {}, SourceError, "text.plan"),
    "N6_batch": ("single.onnx", {"max_batch_size": 64}, ConfigError, "above what the graph allows"),
    "N6_name": ("linear.onnx", {"input": [{"name": "images"}]}, ConfigError, "images"),
    "N8_preferred": (
        "linear.onnx",
        {"max_batch_size": 8, "dynamic_batching": {"preferred_batch_size": [16, 32]}},
        ConfigError,
        "preferred_batch_size is above max_batch_size",
    ),
    "N8_warmup": (
        "linear.onnx",
        {"max_batch_size": 8, "model_warmup": [{"name": "w", "batch_size": 64, "inputs": {"x": {"zero_data": True}}}]},
        ConfigError,
        "batch",
    ),
    "N12": ("linear.onnx", {"name": "a/../../b c"}, SpecError, "name"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_right_is_refused(tmp_path: Path, case: str) -> None:
    write_sources(tmp_path)
    source, options, error, text = REFUSED[case]
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=text):
        generated(tmp_path, source, **options)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("source", ["linear.onnx", "single.onnx", "external.onnx"])
def test_what_is_made_of_the_same_sources_loads(tmp_path: Path, source: str) -> None:
    """Names, types, dims and files are the graph's, with its external data (N6 and N7)."""
    write_sources(tmp_path)
    repository = generated(tmp_path, source)
    assert [one for one in lint_repository(repository, strict=True) if one.severity == "error"] == []
    data = repository / "m" / "1" / f"{source}.data"
    assert data.is_file() == (source == "external.onnx")


def test_the_idle_time_of_sequences_is_kept(tmp_path: Path) -> None:
    write_sources(tmp_path)
    sequences = {"max_sequence_idle_microseconds": 5_000_000}
    config = (generated(tmp_path, "linear.onnx", sequence_batching=sequences) / "m" / "config.pbtxt").read_text()
    assert "max_sequence_idle_microseconds: 5000000" in config
    assert "eager_batching" not in config


def test_a_second_version_stands_beside_the_first(tmp_path: Path) -> None:
    """N13: of another batch, so the config changes with it, at once; and a third run of the same changes nothing."""
    write_sources(tmp_path)
    generated(tmp_path, "linear.onnx")
    for _ in range(2):
        repository = generated(tmp_path, "single.onnx")
        assert ModelRepository(repository).model("m").versions == [1, 2]
        assert [one for one in lint_repository(repository, strict=True) if one.severity == "error"] == []
