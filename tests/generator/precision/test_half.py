"""FP16 and BF16 as a transform: every graph is checked by ONNX, runs, and stays near its FP32 form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.graphs import save, tensor
from support.networks import residual_network, transformer

from tritonforge_generator.graph import OnnxSession
from tritonforge_generator.precision.half import HalfPlan, half_plan, rounded_model, typed_model
from tritonforge_generator.precision.model_file import loaded, saved

RANDOM = np.random.default_rng(0)
FLOAT, FLOAT16, INT64, BOOL = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.BOOL
node = helper.make_node


def weight(name: str, *shape: int, scale: float = 0.3) -> Any:
    return numpy_helper.from_array((RANDOM.standard_normal(shape) * scale).astype(np.float32), name)


def constant(name: str, value: object, dtype: Any = np.float32) -> Any:
    return numpy_helper.from_array(np.array(value, dtype), name)


def normal(*shape: int) -> npt.NDArray[np.float32]:
    return RANDOM.standard_normal(shape).astype(np.float32)


def conv_batchnorm(path: Path) -> Path:
    nodes = [
        node("Conv", ["x", "kernel"], ["c"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c", "scale", "shift", "mean", "variance"], ["n"]),
        node("Relu", ["n"], ["y"]),
    ]
    weights = [weight("kernel", 4, 3, 3, 3), *(weight(name, 4) for name in ("scale", "shift", "mean"))]
    shapes = [tensor("x", shape=("batch", 3, 8, 8))], [tensor("y", shape=("batch", 4, 8, 8))]
    return save(path, nodes, *shapes, [*weights, constant("variance", [1, 2, 3, 4])])


def resized(path: Path) -> Path:
    """Its sizes are computed in floating point from the shape, as torch exports them."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Cast", ["shape"], ["float_shape"], to=FLOAT),
        node("Mul", ["float_shape", "factors"], ["sizes"]),
        node("Floor", ["sizes"], ["whole"]),
        node("Cast", ["whole"], ["int_sizes"], to=INT64),
        node("Resize", ["x", "", "", "int_sizes"], ["y"], mode="linear"),
    ]
    shapes = [tensor("x", shape=("batch", 1, 4, "width"))], [tensor("y", shape=("batch", 1, None, None))]
    return save(path, nodes, *shapes, [constant("factors", [1, 1, 2.5, 2.5])])


def resized_by_scales(path: Path) -> Path:
    nodes = [node("Relu", ["x"], ["r"]), node("Resize", ["r", "", "scales"], ["y"], mode="nearest")]
    shapes = [tensor("x", shape=("batch", 1, 4, 4))], [tensor("y", shape=("batch", 1, 8, 8))]
    return save(path, nodes, *shapes, [constant("scales", [1, 1, 2, 2])])


def layernorm_decomposed(path: Path) -> Path:
    nodes = [
        node("ReduceMean", ["x"], ["mean"], axes=[-1]),
        node("Sub", ["x", "mean"], ["centred"]),
        node("Pow", ["centred", "two"], ["squares"]),
        node("ReduceMean", ["squares"], ["variance"], axes=[-1]),
        node("Add", ["variance", "epsilon"], ["safe"]),
        node("Sqrt", ["safe"], ["deviation"]),
        node("Div", ["centred", "deviation"], ["y"]),
    ]
    return save(path, nodes, [tensor("x")], [tensor("y")], [constant("two", 2), constant("epsilon", 1e-5)])


def attention(path: Path) -> Path:
    nodes = [
        node("MatMul", ["x", "kernel"], ["q"]),
        node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        node("MatMul", ["q", "t"], ["scores"]),
        node("Softmax", ["scores"], ["p"], axis=-1),
        node("MatMul", ["p", "x"], ["y"]),
    ]
    shapes = [tensor("x", shape=("batch", 5, 4))], [tensor("y", shape=("batch", 5, 4))]
    return save(path, nodes, *shapes, [weight("kernel", 4, 4)])


def branches(path: Path) -> Path:
    """An If whose branches take a tensor from around it, which other nodes use in 16 bits."""
    inner_outputs = [tensor("doubled")], [tensor("tripled")]
    branch = helper.make_graph([node("Add", ["r", "r"], ["doubled"])], "then", [], inner_outputs[0])
    other = helper.make_graph([node("Mul", ["r", "three"], ["tripled"])], "else", [], inner_outputs[1])
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("ReduceSum", ["x"], ["sum"], keepdims=0),
        node("Greater", ["sum", "zero"], ["condition"]),
        node("If", ["condition"], ["chosen"], then_branch=branch, else_branch=other),
        node("Mul", ["chosen", "r"], ["y"]),
    ]
    return save(path, nodes, [tensor("x")], [tensor("y")], [constant("zero", 0), constant("three", 3)])


def embedding_topk(path: Path) -> Path:
    nodes = [
        node("Gather", ["table", "ids"], ["rows"]),
        node("ReduceSum", ["rows", "axis"], ["sums"], keepdims=0),
        node("TopK", ["sums", "k"], ["values", "places"]),
    ]
    outputs = [tensor("values", shape=("batch", 2)), tensor("places", INT64, ("batch", 2))]
    weights = [weight("table", 10, 4), constant("axis", [2], np.int64), constant("k", [2], np.int64)]
    return save(path, nodes, [tensor("ids", INT64, ("batch", 3))], outputs, weights)


def shared_weight(path: Path) -> Path:
    """One weight feeds a node in 16 bits, a node that cannot be, and is an output of the graph itself."""
    nodes = [
        node("Add", ["x", "bias"], ["sum"]),
        node("QuantizeLinear", ["sum", "step", "zero"], ["bytes"]),
        node("DequantizeLinear", ["bytes", "step", "zero"], ["back"]),
        node("QuantizeLinear", ["bias", "step", "zero"], ["bias_bytes"]),
        node("Mul", ["back", "bias"], ["y"]),
    ]
    weights = [weight("bias", 4), constant("step", 0.02), constant("zero", 0, np.int8)]
    outputs = [tensor("y"), tensor("bias", shape=(4,)), tensor("bias_bytes", TensorProto.INT8, (4,))]
    return save(path, nodes, [tensor("x")], outputs, weights)


def passed_through(path: Path) -> Path:
    """An intermediate tensor and both halves of a Split are outputs too."""
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("Split", ["r"], ["low", "high"], axis=1),
        node("Exp", ["r"], ["y"]),
    ]
    halves = [tensor(name, shape=("batch", 2)) for name in ("low", "high")]
    return save(path, nodes, [tensor("x")], [tensor("y"), tensor("r"), *halves])


def mixed_types(path: Path) -> Path:
    """Part of the graph is FP16 already, and a Constant node has a number instead of a tensor."""
    nodes = [
        node("Constant", [], ["three"], value_float=3.0),
        node("Mul", ["x", "three"], ["m"]),
        node("Cast", ["m"], ["h"], to=FLOAT16),
        node("Sqrt", ["h"], ["s"]),
        node("Cast", ["s"], ["y"], to=FLOAT),
        node("Where", ["mask", "m", "three"], ["z"]),
    ]
    return save(path, nodes, [tensor("x"), tensor("mask", BOOL)], [tensor("y"), tensor("z"), tensor("s", FLOAT16)])


def masked_attention(path: Path) -> Path:
    """Padding is masked with FP32's smallest number, and the future with minus infinity."""
    smallest = float(np.finfo(np.float32).min)
    nodes = [
        node("Where", ["mask", "zero", "smallest"], ["padding"]),
        node("MatMul", ["x", "kernel"], ["scores"]),
        node("Add", ["scores", "future"], ["causal"]),
        node("Add", ["causal", "padding"], ["masked"]),
        node("Softmax", ["masked"], ["y"], axis=-1),
    ]
    future = np.where(np.tri(4) > 0, 0, -np.inf)
    weights = [weight("kernel", 4, 4), constant("zero", 0), constant("smallest", smallest), constant("future", future)]
    inputs = [tensor("x", shape=("batch", 4, 4)), tensor("mask", BOOL, ("batch", 1, 4))]
    return save(path, nodes, inputs, [tensor("y", shape=("batch", 4, 4))], weights)


def old_initializers(path: Path) -> Path:
    """Initializers are inputs too, as before IR version 4."""
    nodes = [node("MatMul", ["x", "kernel"], ["h"]), node("Relu", ["h"], ["y"])]
    inputs = [tensor("x"), tensor("kernel", shape=(4, 4))]
    return save(path, nodes, inputs, [tensor("y")], [weight("kernel", 4, 4)])


GRAPHS: dict[str, tuple[Callable[[Path], Path], Callable[[], dict[str, npt.NDArray[Any]]]]] = {
    "conv_batchnorm": (conv_batchnorm, lambda: {"x": normal(2, 3, 8, 8)}),
    "resized": (resized, lambda: {"x": normal(2, 1, 4, 4)}),
    "resized_by_scales": (resized_by_scales, lambda: {"x": normal(2, 1, 4, 4)}),
    "layernorm_decomposed": (layernorm_decomposed, lambda: {"x": normal(2, 4)}),
    "attention": (attention, lambda: {"x": normal(2, 5, 4)}),
    "branches": (branches, lambda: {"x": normal(2, 4)}),
    "embedding_topk": (embedding_topk, lambda: {"ids": np.array([[0, 1, 2], [9, 8, 7]])}),
    "shared_weight": (shared_weight, lambda: {"x": normal(2, 4)}),
    "passed_through": (passed_through, lambda: {"x": normal(2, 4)}),
    "mixed_types": (mixed_types, lambda: {"x": np.abs(normal(2, 4)), "mask": normal(2, 4) > 0}),
    "masked_attention": (
        masked_attention,
        lambda: {"x": normal(2, 4, 4), "mask": np.array([[[True, True, True, False]]] * 2)},
    ),
    "old_initializers": (old_initializers, lambda: {"x": normal(2, 4)}),
    "residual_network": (residual_network, lambda: {"images": normal(2, 3, 16, 16)}),
    "transformer": (transformer, lambda: {"tokens": RANDOM.integers(0, 64, (2, 8))}),
}


def planned(
    path: Path,
    half: Literal["FP16", "BF16"] = "FP16",
    *,
    ranges: dict[str, float] | None = None,
    reasons: dict[str, str] | None = None,
) -> tuple[onnx.ModelProto, HalfPlan]:
    model = loaded(path)
    return model, half_plan(model, half, reasons=reasons or {}, ranges=ranges or {})


def typed(path: Path, **options: Any) -> onnx.ModelProto:
    return typed_model(*planned(path, **options))


def weights_of(model: onnx.ModelProto) -> dict[str, int]:
    return {one.name: one.data_type for one in model.graph.initializer}


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(one.op_type for one in model.graph.node)


def reference(path: Path, inputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    return OnnxSession(path).run(inputs)


def test_every_kind_of_graph_keeps_its_interface_and_its_values_in_fp16(tmp_path: Path, kind: str) -> None:
    write, draw = GRAPHS[kind]
    inputs = draw()
    source = write(tmp_path / "source.onnx")
    before = source.read_bytes()
    model, plan = planned(source)
    assert plan.slots != {}
    half, check = typed_model(model, plan), rounded_model(model, plan)
    expected = reference(source, inputs)
    for name, result in (("half.onnx", half), ("check.onnx", check)):
        onnx.checker.check_model(result, full_check=True)
        session = OnnxSession(saved(result, tmp_path / name))
        plain = OnnxSession(source)
        assert (session.inputs, session.outputs) == (plain.inputs, plain.outputs)
        for output, answer in session.run(inputs).items():
            assert answer.dtype == expected[output].dtype
            np.testing.assert_allclose(answer, expected[output], rtol=0.01, atol=0.01)
    assert source.read_bytes() == before


def test_every_kind_of_graph_is_valid_in_bf16(tmp_path: Path, kind: str) -> None:
    write, draw = GRAPHS[kind]
    inputs = draw()
    source = write(tmp_path / "source.onnx")
    model, plan = planned(source, "BF16")
    onnx.checker.check_model(typed_model(model, plan), full_check=True)
    answers = OnnxSession(saved(rounded_model(model, plan), tmp_path / "check.onnx")).run(inputs)
    for output, expected in reference(source, inputs).items():
        np.testing.assert_allclose(answers[output], expected, rtol=0.05, atol=0.1)


@pytest.fixture(params=GRAPHS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_no_tensor_is_cast_twice_and_no_cast_follows_another(tmp_path: Path, kind: str) -> None:
    source = GRAPHS[kind][0](tmp_path / "source.onnx")
    own = {one.output[0] for one in onnx.load(str(source)).graph.node if one.op_type == "Cast"}
    casts = [one for one in typed(source).graph.node if one.op_type == "Cast"]
    inserted = [one for one in casts if one.output[0] not in own]
    assert all(count == 1 for count in Counter(one.input[0] for one in inserted).values())
    made = {one.output[0] for one in inserted}
    assert not any(one.input[0] in made for one in inserted)


def test_a_convolutional_network_needs_two_casts(tmp_path: Path) -> None:
    model = typed(residual_network(tmp_path / "net.onnx"))
    assert operators(model)["Cast"] == 2
    assert set(weights_of(model).values()) == {FLOAT16}


def test_weights_are_stored_once_for_each_type_that_needs_them(tmp_path: Path) -> None:
    model = typed(shared_weight(tmp_path / "net.onnx"))
    kinds = weights_of(model)
    assert kinds["bias"] == FLOAT
    assert kinds["bias__fp16"] == FLOAT16
    assert kinds["step"] == FLOAT


def test_the_schemas_decide_which_inputs_change(tmp_path: Path) -> None:
    model = typed(resized_by_scales(tmp_path / "net.onnx"))
    (resize,) = (one for one in model.graph.node if one.op_type == "Resize")
    assert list(resize.input) == ["r__fp16", "", "scales"]
    assert weights_of(model) == {"scales": FLOAT}


def test_arithmetic_on_shapes_stays_exact(tmp_path: Path) -> None:
    path = resized(tmp_path / "net.onnx")
    model, plan = planned(path)
    assert {one.op_type for one in model.graph.node if one.name in plan.slots} == {"Resize"}
    assert plan.kept == ()
    x = normal(1, 1, 4, 1003)  # 2507 columns: FP16 counts in steps of two there
    session = OnnxSession(saved(typed_model(model, plan), tmp_path / "half.onnx"))
    assert session.run({"x": x})["y"].shape == (1, 1, 10, 2507)


def test_subgraphs_read_fp32(tmp_path: Path) -> None:
    model = typed(branches(tmp_path / "net.onnx"))
    (chosen,) = (one for one in model.graph.node if one.op_type == "If")
    assert [one.op_type for one in chosen.attribute[0].g.node] in (["Add"], ["Mul"])
    assert weights_of(model)["three"] == FLOAT
    producers = {name: one.op_type for one in model.graph.node for name in one.output}
    assert producers["r"] == "Cast"


def test_a_range_near_the_end_of_the_type_keeps_the_nodes_around_it(tmp_path: Path) -> None:
    path = attention(tmp_path / "net.onnx")
    _, plan = planned(path, ranges={"scores": 40_000.0, "q": 32_000.0})
    assert [(one.operator, one.reason) for one in plan.kept] == [
        ("MatMul", "gives values of up to 4e+04 ('scores')"),
        ("Softmax", "reads values of up to 4e+04 ('scores')"),
    ]
    assert plan.candidate_count == 5
    assert planned(path, "BF16", ranges={"scores": 40_000.0})[1].kept == ()


def test_kept_nodes_have_casts_around_them(tmp_path: Path) -> None:
    path = attention(tmp_path / "net.onnx")
    model, plan = planned(path, ranges={"scores": 40_000.0})
    assert plan.slots != {}
    half = typed_model(model, plan)
    softmax = next(one for one in half.graph.node if one.op_type == "Softmax")
    product = next(one for one in half.graph.node if one.output[0] == "scores")
    assert softmax.input[0] == "scores"
    assert {next(one for one in half.graph.node if name in one.output).op_type for name in product.input} == {"Cast"}
    onnx.checker.check_model(half, full_check=True)


@pytest.mark.parametrize(
    ("epsilon", "half", "kept"),
    [(1e-5, "FP16", []), (1e-12, "FP16", ["Add"]), (1e-12, "BF16", [])],
)
def test_a_constant_that_would_become_zero_keeps_its_node(
    tmp_path: Path, epsilon: float, half: Literal["FP16", "BF16"], kept: list[str]
) -> None:
    nodes = [node("Add", ["x", "epsilon"], ["a"]), node("Div", ["one", "a"], ["y"])]
    weights = [constant("epsilon", epsilon), constant("one", 1)]
    path = save(tmp_path / "net.onnx", nodes, [tensor("x")], [tensor("y")], weights)
    _, plan = planned(path, half)
    assert [one.operator for one in plan.kept] == kept
    assert all("become zero" in one.reason for one in plan.kept)


def test_a_weight_beyond_the_type_keeps_its_node(tmp_path: Path) -> None:
    nodes = [node("Mul", ["x", "large"], ["m"]), node("Relu", ["m"], ["y"])]
    path = save(tmp_path / "net.onnx", nodes, [tensor("x")], [tensor("y")], [constant("large", 70_000)])
    _, plan = planned(path)
    assert [one.reason for one in plan.kept] == ["reads values of up to 7e+04 ('large')"]


def test_masks_stay_finite(tmp_path: Path) -> None:
    model, plan = planned(masked_attention(tmp_path / "net.onnx"))
    assert plan.kept == ()
    weights = {one.name: numpy_helper.to_array(one) for one in typed_model(model, plan).graph.initializer}
    assert weights["smallest__fp16"] == -65504
    assert np.isneginf(weights["future__fp16"][0, 1])


def test_rounding_shows_an_overflow_between_two_nodes(tmp_path: Path) -> None:
    """ONNX Runtime's CPU hides it, because it computes FP16 nodes in FP32 and joins them."""
    nodes = [node("Mul", ["x", "large"], ["m"]), node("Mul", ["m", "small"], ["y"])]
    path = save(
        tmp_path / "net.onnx", nodes, [tensor("x")], [tensor("y")], [constant("large", 6e4), constant("small", 1e-4)]
    )
    model, plan = planned(path)
    answer = OnnxSession(saved(rounded_model(model, plan), tmp_path / "check.onnx")).run(
        {"x": np.full((1, 4), 2.0, np.float32)}
    )
    assert np.all(np.isinf(answer["y"]))


def test_bfloat16_weights_are_rounded_to_nearest_even(tmp_path: Path) -> None:
    import ml_dtypes

    values = np.concatenate(
        [normal(1000) * 100, np.array([0, 1e-40, 3.0e38, np.inf, -np.inf, 1 + 2**-8, 1 + 3 * 2**-8])]
    )
    path = save(
        tmp_path / "net.onnx",
        [node("Add", ["x", "w"], ["y"])],
        [tensor("x", shape=("batch", values.size))],
        [tensor("y", shape=("batch", values.size))],
        [constant("w", values)],
    )
    (stored,) = typed(path, half="BF16").graph.initializer
    expected = values.astype(np.float32).astype(ml_dtypes.bfloat16)
    assert stored.raw_data == expected.tobytes()


@pytest.mark.parametrize("half", ["FP16", "BF16"])
def test_same_graph_same_bytes(tmp_path: Path, half: Literal["FP16", "BF16"]) -> None:
    path = passed_through(tmp_path / "net.onnx")
    first, second = (typed(path, half=half).SerializeToString() for _ in range(2))
    assert first == second


def names_in(model: onnx.ModelProto) -> Sequence[str]:
    return [one.name for one in model.graph.node]


def test_names_of_nodes_survive(tmp_path: Path) -> None:
    path = transformer(tmp_path / "net.onnx")
    own = names_in(onnx.load(str(path)))
    assert [name for name in names_in(typed(path)) if name in own] == own
