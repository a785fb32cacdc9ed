"""Preprocessing in the graph, run by ONNX Runtime, against the same in numpy and against formulas written out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pydantic
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.graphs import save, tensor
from support.networks import residual_network

from tritonforge_generator.errors import GraphError
from tritonforge_generator.graph import OnnxSession
from tritonforge_generator.graph.preprocess import image_size, preprocessed_array, preprocessed_model
from tritonforge_generator.spec import PreprocessOptions

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HEIGHT, WIDTH = 6, 8
SIZES = [None, (HEIGHT, WIDTH), (9, 5), (3, 16), (12, 8)]


def copies(path: Path, *, shape: Sequence[int | str | None] = ("batch", 3, HEIGHT, WIDTH)) -> Path:
    """A network that gives what it takes, so that the preprocessing shows."""
    return save(
        path,
        [helper.make_node("Identity", ["images"], ["y"])],
        [tensor("images", shape=shape)],
        [tensor("y", shape=shape)],
    )


def pixels_for(options: PreprocessOptions, size: tuple[int, int] = (HEIGHT, WIDTH)) -> npt.NDArray[Any]:
    height, width = options.resize or size
    shape = (2, height, width, 3) if options.layout == "NHWC" else (2, 3, height, width)
    pixels = np.random.default_rng(0).integers(0, 256, shape)
    return pixels.astype(options.dtype)


def fused(network: Path, options: PreprocessOptions) -> OnnxSession:
    folder = network.parent / "fused"
    folder.mkdir()
    path = preprocessed_model(network, options, folder)
    onnx.checker.check_model(onnx.load(str(path)), full_check=True)
    return OnnxSession(path)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("resize", SIZES)
def test_graph_equals_numpy(tmp_path: Path, layout: Any, dtype: Any, resize: tuple[int, int] | None) -> None:
    for index, (mean, std, scale, reverse) in enumerate(
        itertools.product([(), MEAN], [(), STD], [1 / 255, 1.0], [False, True])
    ):
        options = PreprocessOptions(
            layout=layout, dtype=dtype, resize=resize, mean=mean, std=std, scale=scale, reverse_channels=reverse
        )
        (folder := tmp_path / str(index)).mkdir()
        session = fused(copies(folder / "net.onnx"), options)
        pixels = pixels_for(options)
        (given,) = session.inputs
        assert (given.name, given.datatype) == ("images", "UINT8" if dtype == "uint8" else "FP32")
        assert given.shape == ("batch", *pixels.shape[1:])
        expected = preprocessed_array(pixels, options, (HEIGHT, WIDTH))
        assert (expected.dtype.name, expected.shape) == ("float32", (2, 3, HEIGHT, WIDTH))
        np.testing.assert_allclose(session.run({"images": pixels})["y"], expected, rtol=1e-4, atol=2e-4)


def test_the_formula_is_the_one_that_is_promised() -> None:
    pixels = pixels_for(PreprocessOptions())
    found = preprocessed_array(pixels, PreprocessOptions(mean=MEAN, std=STD, reverse_channels=True), (HEIGHT, WIDTH))
    expected = ((pixels[..., ::-1] / 255 - np.array(MEAN)) / np.array(STD)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("source", "expected"), [([0, 10], [0, 2.5, 7.5, 10]), ([0, 10, 20, 30], [5, 25]), ([3, 3, 3], [3, 3, 3, 3, 3])]
)
def test_resizing_interpolates_between_pixel_centres(source: list[float], expected: list[float]) -> None:
    row = np.array(source, np.float32).reshape(1, 1, 1, -1)
    for axis in (2, 3):
        pixels = row if axis == 3 else row.transpose(0, 1, 3, 2)
        size = (1, len(expected)) if axis == 3 else (len(expected), 1)
        options = PreprocessOptions(dtype="float32", layout="NCHW", scale=1.0)
        found = preprocessed_array(pixels, options, size)
        np.testing.assert_allclose(found.ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"mean": MEAN, "std": STD, "resize": (20, 12), "reverse_channels": True}])
def test_a_network_answers_as_it_does_to_preprocessed_images(tmp_path: Path, options: dict[str, Any]) -> None:
    network = residual_network(tmp_path / "net.onnx")
    before = network.read_bytes()
    own = PreprocessOptions(**options)
    pixels = pixels_for(own, (16, 16))
    name, size = image_size(network, own)
    assert (name, size) == ("images", (16, 16))
    expected = OnnxSession(network).run({"images": preprocessed_array(pixels, own, size)})["logits"]
    np.testing.assert_allclose(fused(network, own).run({"images": pixels})["logits"], expected, rtol=1e-3, atol=1e-4)
    assert network.read_bytes() == before


def test_a_cast_reads_the_pixels(tmp_path: Path) -> None:
    """TensorRT takes a uint8 input only so."""
    session = fused(copies(tmp_path / "net.onnx"), PreprocessOptions(resize=(9, 9), reverse_channels=True))
    readers = [one.op_type for one in onnx.load(str(session.path)).graph.node if "images" in one.input]
    assert readers == ["Cast"]


def test_the_batch_stays_free(tmp_path: Path) -> None:
    options = PreprocessOptions(resize=(9, 9))
    session = fused(copies(tmp_path / "net.onnx"), options)
    pixels = pixels_for(options)
    assert session.run({"images": pixels[:1]})["y"].shape == (1, 3, HEIGHT, WIDTH)
    np.testing.assert_array_equal(session.run({"images": pixels})["y"][1], session.run({"images": pixels[1:]})["y"][0])


def two_images(path: Path) -> Path:
    nodes = [helper.make_node("Relu", ["left"], ["a"]), helper.make_node("Relu", ["right"], ["b"])]
    shape = ("batch", 3, HEIGHT, WIDTH)
    names = ["left", "right"], ["a", "b"]
    return save(path, nodes, *([tensor(name, shape=shape) for name in side] for side in names))


def test_one_of_several_images_is_chosen_by_name(tmp_path: Path) -> None:
    session = fused(two_images(tmp_path / "net.onnx"), PreprocessOptions(input="right"))
    assert {one.name: one.datatype for one in session.inputs} == {"left": "FP32", "right": "UINT8"}


def test_subgraphs_read_what_was_preprocessed(tmp_path: Path) -> None:
    shape = ("batch", 3, HEIGHT, WIDTH)
    own = [tensor("same", shape=shape)]
    branch = helper.make_graph([helper.make_node("Identity", ["images"], ["same"])], "branch", [], own)
    nodes = [helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)]
    yes = numpy_helper.from_array(np.array(True), "yes")
    network = save(tmp_path / "net.onnx", nodes, [tensor("images", shape=shape)], [tensor("y", shape=shape)], [yes])
    pixels = pixels_for(PreprocessOptions())
    expected = preprocessed_array(pixels, PreprocessOptions(), (HEIGHT, WIDTH))
    np.testing.assert_allclose(fused(network, PreprocessOptions()).run({"images": pixels})["y"], expected, rtol=1e-5)


def test_an_image_that_is_an_output_too_is_refused(tmp_path: Path) -> None:
    shape = ("batch", 3, HEIGHT, WIDTH)
    nodes = [helper.make_node("Relu", ["images"], ["y"])]
    image = tensor("images", shape=shape)
    network = save(tmp_path / "net.onnx", nodes, [image], [tensor("y", shape=shape), image])
    with pytest.raises(GraphError, match="also an output"):
        preprocessed_model(network, PreprocessOptions(), tmp_path)


def test_external_weights_come_along(tmp_path: Path) -> None:
    network = residual_network(tmp_path / "net.onnx")
    whole = onnx.load(str(network))
    onnx.save(whole, str(network), save_as_external_data=True, location="net.onnx.data", size_threshold=0)
    session = fused(network, PreprocessOptions())
    pixels = pixels_for(PreprocessOptions(), (16, 16))
    assert session.run({"images": pixels})["logits"].shape == (2, 10)
    assert (tmp_path / "fused" / "net.onnx.data").read_bytes() == (tmp_path / "net.onnx.data").read_bytes()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"mean": (0.5,)}, "preprocess.mean does not fit net.onnx: expected 3 values, got 1"),
        ({"std": (0.5, 0.5)}, "preprocess.std does not fit net.onnx: expected 3 values, got 2"),
        ({"input": "pictures"}, r"no image input .* four axes \(images\), got pictures"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path: Path, options: dict[str, Any], match: str) -> None:
    with pytest.raises(GraphError, match=match):
        preprocessed_model(copies(tmp_path / "net.onnx"), PreprocessOptions(**options), tmp_path)


def test_networks_without_one_image_of_a_fixed_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"the image size of 'images' .* is not fixed: .*'height'"):
        preprocessed_model(
            copies(tmp_path / "free.onnx", shape=("batch", 3, "height", 8)), PreprocessOptions(), tmp_path
        )
    with pytest.raises(GraphError, match=r"four axes \(there is none\), got 0 such inputs"):
        preprocessed_model(copies(tmp_path / "flat.onnx", shape=("batch", 8)), PreprocessOptions(), tmp_path)
    with pytest.raises(GraphError, match=r"four axes \(left, right\), got 2 such inputs"):
        preprocessed_model(two_images(tmp_path / "two.onnx"), PreprocessOptions(), tmp_path)


def test_an_old_opset_cannot_resize(tmp_path: Path) -> None:
    network = copies(tmp_path / "net.onnx")
    model = onnx.load(str(network))
    model.opset_import[0].version = 10
    onnx.save(model, str(network))
    with pytest.raises(GraphError, match=r"preprocess\.resize needs a newer opset: expected opset 11 or later, got 10"):
        preprocessed_model(network, PreprocessOptions(resize=(9, 9)), tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"mean": (0.5, 0.5), "std": (1.0,)},
        {"std": (0.0,)},
        {"resize": (0, 8)},
        {"layout": "HWC"},
        {"dtype": "int8"},
        {"sale": 1.0},
    ],
)
def test_bad_values_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        PreprocessOptions(**options)


def test_names_of_the_network_do_not_matter(tmp_path: Path) -> None:
    """The network may hold tensors named like those of the preprocessing."""
    shape = ("batch", 3, HEIGHT, WIDTH)
    nodes = [
        helper.make_node("Relu", ["images"], ["preprocess/Cast"], name="preprocess/Cast"),
        helper.make_node("Relu", ["preprocess/Cast"], ["images__image"], name="preprocess/Mul"),
    ]
    outputs = [helper.make_tensor_value_info("images__image", TensorProto.FLOAT, shape)]
    network = save(tmp_path / "net.onnx", nodes, [tensor("images", shape=shape)], outputs)
    pixels = pixels_for(PreprocessOptions())
    expected = preprocessed_array(pixels, PreprocessOptions(), (HEIGHT, WIDTH))
    found = fused(network, PreprocessOptions()).run({"images": pixels})["images__image"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
