from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, version_converter
from onnx.reference import ReferenceEvaluator
from support.graphs import save, tensor
from support.networks import residual_network, transformer
from support.samples import images, pool, tokens

from tritonforge_generator.errors import PrecisionError
from tritonforge_generator.graph import OnnxSession, Samples
from tritonforge_generator.precision.model_file import loaded, saved
from tritonforge_generator.precision.quantize import (
    activations_of,
    fp8_check_model,
    quantizable_nodes,
    quantized_model,
)
from tritonforge_generator.precision.thresholds import thresholds_from_samples
from tritonforge_generator.spec import CalibrationOptions
from tritonforge_generator.spec.precision_options import CalibrationMethod

METHODS: Sequence[CalibrationMethod] = ("MinMax", "Entropy", "Percentile")
PAIR = ("QuantizeLinear", "DequantizeLinear")


def quantized(
    path: Path,
    samples: Samples,
    kind: Literal["INT8", "FP8"] = "INT8",
    options: CalibrationOptions | None = None,
    *,
    excluded: Collection[str] = (),
) -> onnx.ModelProto:
    model = loaded(path)
    options = options or CalibrationOptions()
    thresholds = thresholds_from_samples(model, activations_of(model), samples, options, batched=True)
    return quantized_model(model, kind, thresholds, excluded=excluded)


def initializers(model: onnx.ModelProto) -> dict[str, npt.NDArray[Any]]:
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {name: one for one in model.graph.node for name in one.output}


def pair_behind(model: onnx.ModelProto, tensor_name: str) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    """The Q and DQ nodes that a tensor comes through."""
    made = producers(model)
    dequantize = made[tensor_name]
    quantize = made[dequantize.input[0]]
    assert (quantize.op_type, dequantize.op_type) == PAIR
    return quantize, dequantize


def activation_scale(model: onnx.ModelProto, node_name: str) -> float:
    (node,) = (one for one in model.graph.node if one.name == node_name)
    quantize, _ = pair_behind(model, node.input[0])
    return float(initializers(model)[quantize.input[1]])


def relative_error(source: Path, model: onnx.ModelProto, inputs: dict[str, npt.NDArray[Any]], folder: Path) -> float:
    (expected,) = OnnxSession(source).run(inputs).values()
    (answer,) = OnnxSession(saved(model, folder / "quantized.onnx")).run(inputs).values()
    return float(np.linalg.norm(answer - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("method", METHODS)
def test_a_convolutional_network_stays_near(tmp_path: Path, method: CalibrationMethod) -> None:
    path = residual_network(tmp_path / "net.onnx")
    model = quantized(path, images(20), options=options_for(method))  # the last of the chunks is smaller
    onnx.checker.check_model(model, full_check=True)
    assert relative_error(path, model, dict(images(4, seed=1).arrays), tmp_path) < 0.1


def test_scales_are_those_that_tensorrt_takes(tmp_path: Path) -> None:
    model = quantized(residual_network(tmp_path / "net.onnx"), images(8))
    values = initializers(model)
    pairs = [one for one in model.graph.node if one.op_type in PAIR]
    assert len(pairs) == 2 * len({one.input[0] for one in pairs if one.op_type == "QuantizeLinear"})
    for one in pairs:
        assert values[one.input[2]].dtype == np.int8
        assert not values[one.input[2]].any()
    convolutions = [one for one in model.graph.node if one.op_type == "Conv"]
    for one in convolutions:
        activation, weight = (pair_behind(model, name)[0] for name in one.input[:2])
        assert values[activation.input[1]].shape == ()
        assert values[weight.input[1]].shape == values[weight.input[0]].shape[:1]
    (gemm,) = (one for one in model.graph.node if one.op_type == "Gemm")
    assert gemm.input[2] == "fc.bias"
    assert producers(model)["logits"].op_type == "Gemm"


def test_an_addition_has_a_pair_on_its_residual_arm_alone(tmp_path: Path) -> None:
    model = quantized(residual_network(tmp_path / "net.onnx"), images(8))
    made = producers(model)
    additions = [one for one in model.graph.node if one.op_type == "Add"]
    assert len(additions) == 2
    for one in additions:
        assert sorted(made[name].op_type for name in one.input) == ["Conv", "DequantizeLinear"]


def two_armed(path: Path, *, first_is_output: bool = False) -> Path:
    """An addition of two convolutions."""
    weights = {name: np.random.default_rng(0).standard_normal((3, 3, 1, 1), np.float32) for name in ("a", "b")}
    nodes = [helper.make_node("Conv", ["images", f"{name}.w"], [name], name) for name in weights]
    nodes.append(helper.make_node("Add", ["a", "b"], ["sum"], "join"))
    shape = ("batch", 3, 16, 16)
    outputs = [tensor("sum", shape=shape), *[tensor("a", shape=shape)] * first_is_output]
    initializers = [numpy_helper.from_array(value, f"{name}.w") for name, value in weights.items()]
    return save(path, nodes, [tensor("images", shape=shape)], outputs, initializers)


def test_of_two_convolutions_one_stays_joined_to_their_addition(tmp_path: Path) -> None:
    model = quantized(two_armed(tmp_path / "net.onnx"), images(8))
    made = producers(model)
    (join,) = (one for one in model.graph.node if one.op_type == "Add")
    assert [made[name].op_type for name in join.input] == ["Conv", "DequantizeLinear"]
    assert pair_behind(model, join.input[1])[0].input[0] == "b"


def test_a_convolution_that_others_read_is_not_the_joined_one(tmp_path: Path) -> None:
    model = quantized(two_armed(tmp_path / "net.onnx", first_is_output=True), images(8))
    made = producers(model)
    (join,) = (one for one in model.graph.node if one.op_type == "Add")
    assert [made[name].op_type for name in join.input] == ["DequantizeLinear", "Conv"]


def test_an_excluded_addition_reads_its_convolution_in_full(tmp_path: Path) -> None:
    path = two_armed(tmp_path / "net.onnx")
    model = quantized(path, images(8), excluded=["join"])
    assert [producers(model)[name].op_type for name in ("a", "b")] == ["Conv", "Conv"]
    (join,) = (one for one in model.graph.node if one.op_type == "Add")
    assert list(join.input) == ["a", "b"]


def test_products_of_two_activations_are_left_alone(tmp_path: Path) -> None:
    path = transformer(tmp_path / "net.onnx", layers=2)
    model = loaded(path)
    chosen = list(quantizable_nodes(model))
    assert len(chosen) == 2 * 6 + 1
    assert not any(name.endswith(("/qk", "/pv", "/attended")) for name in chosen)
    result = quantized(path, tokens(8))
    made = producers(result)
    for one in result.graph.node:
        if one.op_type == "MatMul":
            assert (made[one.input[0]].op_type == "DequantizeLinear") == (one.name in chosen)
    assert relative_error(path, result, dict(tokens(4, seed=1).arrays), tmp_path) < 0.1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("place", [0, 7, 8, 18])
def test_every_calibration_sample_counts(tmp_path: Path, method: CalibrationMethod, place: int) -> None:
    path = residual_network(tmp_path / "net.onnx")
    calm, one_loud = images(19), images(19)
    one_loud.arrays["images"][place] *= 50
    scales = [
        activation_scale(quantized(path, samples, options=options_for(method)), "stem/Conv")
        for samples in (calm, one_loud)
    ]
    assert scales[1] > 5 * scales[0]


def options_for(method: CalibrationMethod) -> CalibrationOptions:
    return CalibrationOptions(method=method, percentile=99.9 if method == "Percentile" else 99.99)


def test_methods_differ_in_what_they_do_with_outliers(tmp_path: Path) -> None:
    path = residual_network(tmp_path / "net.onnx")
    samples = images(16)
    samples.arrays["images"][3, 0, 0, 0] = 80.0
    scale = {
        method: activation_scale(quantized(path, samples, options=options_for(method)), "stem/Conv") * 127
        for method in METHODS
    }
    assert scale["MinMax"] == pytest.approx(80, rel=0.01)
    assert scale["Entropy"] < 40
    assert scale["Percentile"] < 10


def test_a_lower_percentile_cuts_more(tmp_path: Path) -> None:
    path = residual_network(tmp_path / "net.onnx")
    high, low = (
        activation_scale(
            quantized(path, images(8), options=CalibrationOptions(method="Percentile", percentile=share)), "stem/Conv"
        )
        for share in (99.99, 90)
    )
    assert low < 0.6 * high


def test_excluded_nodes_have_no_pairs(tmp_path: Path) -> None:
    model = quantized(residual_network(tmp_path / "net.onnx"), images(8), excluded=["fc/Gemm", "b0/first/Conv"])
    made = producers(model)
    nodes = {one.name: one for one in model.graph.node}
    assert made[nodes["fc/Gemm"].input[0]].op_type == "Flatten"
    assert nodes["b0/first/Conv"].input[1] == "b0.first.weight"


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    quantized(residual_network(tmp_path / "net.onnx"), images(8), options=options_for("Entropy"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("excluded", [[], ["n"]])
def test_a_graph_without_anything_to_quantise_is_refused(tmp_path: Path, excluded: list[str]) -> None:
    operator = helper.make_node("MatMul", ["x", "w"], ["y"], name="n")
    if not excluded:
        operator = helper.make_node("Add", ["x", "w"], ["y"], name="n")
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    path = save(tmp_path / "net.onnx", [operator], [tensor("x")], [tensor("y")], [weight])
    with pytest.raises(PrecisionError, match="nothing in the graph can be quantised to INT8"):
        quantized(path, pool(x=np.ones((4, 4), np.float32)), excluded=excluded)


@pytest.mark.parametrize(
    ("write", "draw"), [(residual_network, images), (transformer, tokens)], ids=["residual", "transformer"]
)
def test_fp8(tmp_path: Path, write: Callable[[Path], Path], draw: Callable[..., Samples]) -> None:
    path = with_opset(write(tmp_path / "net.onnx"), 19)
    model = quantized(path, draw(8), "FP8")
    onnx.checker.check_model(model, full_check=True)
    zeros = {one.input[2] for one in model.graph.node if one.op_type in PAIR}
    kinds = {one.data_type for one in model.graph.initializer if one.name in zeros}
    assert kinds == {TensorProto.FLOAT8E4M3FN}
    check = fp8_check_model(model)
    onnx.checker.check_model(check, full_check=True)
    assert 0.005 < relative_error(path, check, dict(draw(4, seed=1).arrays), tmp_path) < 0.1


def test_fp8_holds_all_values_of_weights_and_activations(tmp_path: Path) -> None:
    weight = np.full((4, 4), 0.01, np.float32)
    weight[1, 2] = 5.0
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="n")]
    weights = [numpy_helper.from_array(weight, "w")]
    path = with_opset(save(tmp_path / "net.onnx", nodes, [tensor("x")], [tensor("y")], weights), 19)
    x = np.random.default_rng(0).standard_normal((32, 4)).astype(np.float32)
    x[7, 1] = 100.0
    model = quantized(path, pool(x=x), "FP8")
    spans = [
        float(initializers(model)[pair_behind(model, name)[0].input[1]]) * 448 for name in model.graph.node[-1].input
    ]
    assert spans == pytest.approx([100, 5])


def test_the_check_of_fp8_rounds_as_onnx_says(tmp_path: Path) -> None:
    """ONNX's own reference implementation stands for what TensorRT does."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="n")]
    weight = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)
    weights = [numpy_helper.from_array(weight, "w")]
    path = with_opset(save(tmp_path / "net.onnx", nodes, [tensor("x")], [tensor("y")], weights), 19)
    x = np.random.default_rng(0).standard_normal((32, 4)).astype(np.float32)
    model = quantized(path, pool(x=x), "FP8")
    answers: Any = ReferenceEvaluator(model).run(None, {"x": x * 2})  # the largest saturate
    answer = OnnxSession(saved(fp8_check_model(model), tmp_path / "check.onnx")).run({"x": x * 2})["y"]
    np.testing.assert_allclose(answer, answers[0], rtol=1e-5, atol=1e-5)


def with_opset(path: Path, opset: int) -> Path:
    onnx.save(version_converter.convert_version(onnx.load(str(path)), opset), str(path))
    return path
