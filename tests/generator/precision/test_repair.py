"""Transformers that leave the range of FP16 for tokens that calibration did not show, and the like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.graphs import save, tensor
from support.networks import residual_network, transformer
from support.samples import calibration, pool, tokens

from tritonforge_generator.errors import VerificationError
from tritonforge_generator.graph import Samples, graph_from_source
from tritonforge_generator.graph.samples import SampleOptions
from tritonforge_generator.hashing import sha256_of_file
from tritonforge_generator.pipeline import generate
from tritonforge_generator.precision import Accuracy, OutputAccuracy, PrecisionStage, TypedGraph, culprits, repaired
from tritonforge_generator.precision.model_file import loaded
from tritonforge_generator.precision.repair import tensor_errors
from tritonforge_generator.source import source_from_path
from tritonforge_generator.spec import ForgeSpec, ModelOptions, PrecisionOptions, VerifyOptions
from tritonforge_generator.verify import Check, proven_typed_graph, reference_from_path


def written(path: Path, samples: Samples) -> Path:
    np.savez(path, **samples.arrays)
    return path


def proven(network: Path, folder: Path, *, judging: Samples, calm: Samples, **options: Any) -> tuple[TypedGraph, Check]:
    graph = graph_from_source(source_from_path(network), SampleOptions())
    verify = VerifyOptions(samples=written(folder / "judging.npz", judging))
    precision = PrecisionOptions.model_validate(
        {**options, "calibration": {"samples": str(written(folder / "calibration.npz", calm))}}
    )
    reference = reference_from_path(network, verify, batched=True)
    return proven_typed_graph(network, graph, precision, reference, folder)


def test_a_transformer_that_overflows_in_fp16_is_repaired(tmp_path: Path) -> None:
    network = transformer(tmp_path / "hot.onnx", layers=4, hot_layer=2, gain=30_000.0, hot_from=32)
    samples = {"judging": tokens(16), "calm": tokens(16, seed=1, highest=32)}
    _, broken = proven(network, tmp_path, **samples, type="FP16", repair={"enable": False})
    assert not broken.passed
    assert broken.summary == "'scores' has values that are not finite: the type's range is too small somewhere"
    typed, check = proven(network, tmp_path, **samples, type="FP16")
    assert check.passed
    assert 0 < len(typed.kept_fp32) <= 0.1 * typed.layer_count
    kept = {one.name for one in typed.kept_fp32}
    assert kept <= {"layer2/heat", "layer2/hot", "layer2/cool"}
    assert "layer2/hot" in kept
    assert all(f"kept in FP32: {one.name} ({one.reason})" in check.summary for one in typed.kept_fp32)
    assert "before repair: 'scores' has values that are not finite" in check.summary
    assert typed.sha256 == sha256_of_file(typed.path)
    onnx.checker.check_model(onnx.load(str(typed.path)), full_check=True)
    assert check.figures[0].cosine == pytest.approx(1.0, abs=1e-3)


def test_what_cannot_be_repaired_fails_and_names_its_layers(tmp_path: Path) -> None:
    network = transformer(tmp_path / "net.onnx", layers=2)
    samples = {"judging": tokens(8), "calm": tokens(8, seed=1)}
    typed, check = proven(network, tmp_path, **samples, type="FP16", max_relative_error=1e-6)
    assert not check.passed
    assert "keeping at most 10% of its 40 layers in FP32 (precision.repair.max_layer_share) does not" in check.summary
    assert check.summary.count("its relative error grows from") == 5
    assert typed.kept_fp32 == ()
    assert typed.sha256 == sha256_of_file(typed.path)


def test_nothing_is_published_of_what_cannot_be_repaired(tmp_path: Path) -> None:
    model = ModelOptions(
        name="net",
        source=transformer(tmp_path / "net.onnx", layers=1),
        precision=PrecisionOptions(type="FP16", max_relative_error=1e-6),
    )
    with pytest.raises(VerificationError, match=r"'net' was not published.*the worst are .*layer0/"):
        generate(ForgeSpec(repository=tmp_path / "models", models=(model,)), serve_check=False)
    assert not (tmp_path / "models" / "net").exists()


def test_int8_is_repaired_too(tmp_path: Path) -> None:
    network = transformer(tmp_path / "net.onnx", layers=2)
    judging, calm = tokens(8), tokens(16, seed=1)
    _, whole = proven(network, tmp_path, judging=judging, calm=calm, type="INT8")
    limit = 0.8 * float(whole.summary.split()[2])
    options = {"max_relative_error": limit, "repair": {"max_layer_share": 0.5}}
    typed, check = proven(network, tmp_path, judging=judging, calm=calm, type="INT8", **options)
    assert check.passed
    assert 0 < len(typed.kept_fp32) <= 0.5 * typed.layer_count
    model = onnx.load(str(typed.path))
    makers = {name: one.op_type for one in model.graph.node for name in one.output}
    reads = {one.name: [makers.get(name) for name in one.input] for one in model.graph.node}
    for one in typed.kept_fp32:
        assert "DequantizeLinear" not in reads[one.name]
    assert sum(kinds.count("DequantizeLinear") for kinds in reads.values()) == 2 * (
        typed.layer_count - len(typed.kept_fp32)
    )


def scripted(network: Path, needed: set[str], limit: float = 1.0) -> tuple[PrecisionStage, list[set[str]], Any]:
    """A judge that passes when certain nodes are kept, so that every step of the search can be counted."""
    tried: list[set[str]] = []

    def evaluate(typed: TypedGraph) -> Accuracy:
        tried.append({one.name for one in typed.kept_fp32})
        passed = needed <= tried[-1]
        one = OutputAccuracy(name="y", relative_error=0.0 if passed else 1.0, top1=None, finite=True)
        return Accuracy(outputs=(one,), passed=passed, summary="")

    options = PrecisionOptions.model_validate({"type": "FP16", "repair": {"max_layer_share": limit}})
    return PrecisionStage(network, options, calibration(tokens(2)), batched=True), tried, evaluate


@pytest.mark.parametrize("needed", [[0], [3], [2, 9], [0, 5, 11]])
def test_the_search_ends_with_the_nodes_that_matter(tmp_path: Path, needed: list[int]) -> None:
    network = transformer(tmp_path / "net.onnx", layers=1)
    stage, tried, evaluate = scripted(network, set())
    names = stage.candidates(stage.typed_graph(tmp_path))
    wanted = {names[index] for index in needed}
    stage, tried, evaluate = scripted(network, wanted)
    found = repaired(stage, [(name, "ranked") for name in names], len(names), tmp_path, evaluate)
    assert found is not None
    assert set(found.kept) == wanted == tried[-1]  # what lies in the folder is what was chosen
    assert found.evaluations == len(tried) <= 25
    assert found.typed.sha256 == sha256_of_file(found.typed.path)


def test_the_search_keeps_to_the_share_that_is_allowed(tmp_path: Path) -> None:
    network = transformer(tmp_path / "net.onnx", layers=1)
    stage, tried, evaluate = scripted(network, {"head/MatMul"}, limit=0.3)
    names = [name for name in stage.candidates(stage.typed_graph(tmp_path)) if name != "head/MatMul"]
    ranked = [(name, "ranked") for name in [*names, "head/MatMul"]]
    assert repaired(stage, ranked, len(ranked), tmp_path, evaluate) is None
    assert [len(kept) for kept in tried] == [1, 2, 4, int(0.3 * len(ranked))]
    assert repaired(stage, ranked, 2, tmp_path, evaluate) is None  # a third of two is none


def test_errors_are_measured_tensor_by_tensor(tmp_path: Path) -> None:
    node = helper.make_node
    nodes = [node("Mul", ["x", "factor"], ["a"], name="a"), node("Relu", ["a"], ["y"], name="y")]
    factor, other = (numpy_helper.from_array(np.array(value, np.float32), "factor") for value in (2.0, 2.1))
    first = loaded(save(tmp_path / "one.onnx", nodes, [tensor("x")], [tensor("y")], [factor]))
    nodes = [node("Mul", ["x", "two"], ["a"], name="a"), node("Relu", ["a"], ["y"], name="y")]
    other.name = "two"
    second = loaded(save(tmp_path / "two.onnx", nodes, [tensor("x")], [tensor("y")], [other]))
    found = tensor_errors(first, second, pool(x=np.ones((3, 4), np.float32)), batched=True)
    assert found == pytest.approx({"a": 0.05, "y": 0.05})


def test_subgraphs_of_the_twin_read_the_twin(tmp_path: Path) -> None:
    node = helper.make_node
    branch = helper.make_graph([node("Add", ["a", "one"], ["sum"])], "then", [], [tensor("sum")])
    own = helper.make_graph(
        [node("Mul", ["a", "own"], ["product"])],
        "else",
        [],
        [tensor("product")],
        [numpy_helper.from_array(np.array(3, np.float32), "own")],
    )
    nodes = [
        node("Mul", ["x", "factor"], ["a"], name="a"),
        node("If", ["condition"], ["y"], name="y", then_branch=branch, else_branch=own),
    ]

    def network(name: str, factor: float) -> onnx.ModelProto:
        weights = [
            numpy_helper.from_array(np.array(1, np.float32), "one"),
            numpy_helper.from_array(np.array(factor, np.float32), name),
        ]
        nodes[0].input[1] = name
        inputs = [tensor("x"), tensor("condition", TensorProto.BOOL, ())]
        return loaded(save(tmp_path / "net.onnx", nodes, inputs, [tensor("y")], weights))

    samples = Samples(arrays={"x": np.ones((1, 2, 4), np.float32), "condition": np.array([False])}, origin="a test")
    found = tensor_errors(network("f", 2.0), network("g", 2.2), samples, batched=False)
    assert found == pytest.approx({"a": 0.1, "y": 0.1})


def test_culprits_of_an_overflow_come_first(tmp_path: Path) -> None:
    network = transformer(tmp_path / "hot.onnx", layers=3, hot_layer=1, gain=30_000.0, hot_from=32)
    options = PrecisionOptions(type="FP16")
    stage = PrecisionStage(network, options, calibration(tokens(8, highest=32)), batched=True)
    ranked = culprits(stage, stage.typed_graph(tmp_path), tokens(8), batched=True)
    assert ranked[:2] == [
        ("layer1/hot", "its values leave the range of the type"),
        ("layer1/cool", "it reads values beyond the range of the type"),
    ]
    assert len({name for name, _ in ranked}) == len(ranked)


def test_a_network_that_passes_is_not_touched(tmp_path: Path) -> None:
    network = residual_network(tmp_path / "net.onnx")
    random = np.random.default_rng(0)
    samples = {
        name: pool(images=random.standard_normal((4, 3, 16, 16)).astype(np.float32)) for name in ("judging", "calm")
    }
    typed, check = proven(network, tmp_path, **samples, type="FP16")
    assert check.passed
    assert typed.kept_fp32 == ()
    assert "repair" not in check.summary
