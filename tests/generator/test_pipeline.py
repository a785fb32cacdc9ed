"""The whole way but the server: every kind of ONNX file gives a right repository or a clear refusal."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto
from support import graphs

from tritonforge_generator.errors import (
    ConfigError,
    GraphError,
    RepositoryError,
    SourceError,
    TritonforgeError,
    VerificationError,
)
from tritonforge_generator.lint import lint_repository
from tritonforge_generator.pipeline import Generated, generate
from tritonforge_generator.repository import ModelRepository
from tritonforge_generator.spec import ForgeSpec, forge_spec_from_flags


def spec_of(folder: Path, *models: dict[str, object]) -> ForgeSpec:
    specs = [forge_spec_from_flags(model, repository=folder / "repo") for model in models]
    return ForgeSpec(repository=folder / "repo", models=tuple(spec.models[0] for spec in specs))


def generate_one(folder: Path, source: Path, **options: object) -> Generated:
    (generated,) = generate(spec_of(folder, {"name": "m", "source": str(source), **options}), serve_check=False)
    return generated


@pytest.mark.parametrize("kind", graphs.KINDS)
def test_every_kind_of_model_is_published(tmp_path: Path, kind: str) -> None:
    build, max_batch_size = graphs.KINDS[kind]
    generated = generate_one(tmp_path, build(tmp_path / f"{kind}.onnx"))
    assert generated.verification.passed
    assert generated.config.message.max_batch_size == max_batch_size
    assert bool(generated.config.notes) == (max_batch_size == 0)
    assert [found for found in lint_repository(tmp_path / "repo") if found.severity == "error"] == []
    manifest = generated.version.folder.manifest(1)
    assert manifest is not None
    assert set(manifest.files) == {"model.onnx"} | ({f"{kind}.onnx.data"} if kind == "external" else set())


REFUSED: dict[str, tuple[Callable[[Path], Path], dict[str, object], type[TritonforgeError], str]] = {
    "random output": (graphs.random_output, {"max_batch_size": 0}, GraphError, "answers the same question differently"),
    "batch above the graph": (
        lambda path: graphs.linear(path, batch=1),
        {"max_batch_size": 4},
        ConfigError,
        "is above",
    ),
    "fails in larger batches": (lambda path: graphs.fixed_inside(path, 5), {}, VerificationError, "fails with 6 rows"),
    "unserved type": (lambda path: graphs.identity(path, TensorProto.BFLOAT16), {}, GraphError, "has a type that"),
    "no such file": (lambda path: path, {}, SourceError, "no such file"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_refusals_leave_nothing_behind(tmp_path: Path, reason: str) -> None:
    build, options, error, text = REFUSED[reason]
    source = build(tmp_path / "model.onnx")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=text):
        generate_one(tmp_path, source, **options)
    assert sorted(tmp_path.rglob("*")) == before


def test_all_models_of_a_spec_or_none(tmp_path: Path) -> None:
    good = graphs.linear(tmp_path / "good.onnx")
    bad = graphs.fixed_inside(tmp_path / "bad.onnx", 5)
    spec = spec_of(tmp_path, {"name": "good", "source": str(good)}, {"name": "bad", "source": str(bad)})
    with pytest.raises(VerificationError, match="model 'bad' was not published"):
        generate(spec, serve_check=False)
    assert not (tmp_path / "repo").exists()


def test_a_refusal_to_publish_one_model_publishes_none(tmp_path: Path) -> None:
    first, second = graphs.linear(tmp_path / "a.onnx", seed=0), graphs.linear(tmp_path / "b.onnx", seed=1)
    generate_one(tmp_path, first)
    (tmp_path / "repo" / "m" / "1" / "manifest.json").unlink()
    before = sorted(tmp_path.rglob("*"))
    spec = spec_of(tmp_path, {"name": "new", "source": str(first)}, {"name": "m", "source": str(second)})
    with pytest.raises(RepositoryError, match="another tool made this model"):
        generate(spec, serve_check=False)
    assert sorted(tmp_path.rglob("*")) == before


def test_generating_twice_changes_nothing(tmp_path: Path) -> None:
    source = graphs.linear(tmp_path / "m.onnx")
    assert generate_one(tmp_path, source).version.new
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "repo").rglob("*")}
    again = generate_one(tmp_path, source)
    assert (again.version.version, again.version.new) == (1, False)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "repo").rglob("*")} == before


def test_a_changed_model_is_a_new_version(tmp_path: Path) -> None:
    generate_one(tmp_path, graphs.linear(tmp_path / "m.onnx", seed=0))
    assert generate_one(tmp_path, graphs.linear(tmp_path / "m.onnx", seed=1)).version.version == 2
    assert ModelRepository(tmp_path / "repo").model("m").versions == [1, 2]


def test_given_samples_are_used(tmp_path: Path) -> None:
    np.savez(tmp_path / "samples.npz", x=np.ones((3, 4), np.float32))
    source = graphs.linear(tmp_path / "m.onnx")
    generated = generate_one(tmp_path, source, verify={"samples": str(tmp_path / "samples.npz")})
    assert generated.verification.samples.startswith("3 from samples.npz")


@pytest.mark.slow
def test_two_hundred_copies_are_quick(tmp_path: Path) -> None:
    from tritonforge_generator.demo import digits_model_path

    copies: list[dict[str, object]] = [
        {"name": f"digits_{index}", "source": str(digits_model_path())} for index in range(200)
    ]
    spec = spec_of(tmp_path, *copies)
    start = time.process_time()  # what else runs on the machine does not count
    generated = generate(spec, serve_check=False)
    each_s = (time.process_time() - start) / len(generated)
    assert len(ModelRepository(tmp_path / "repo").models()) == 200
    assert each_s < 0.2
