from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest

from tritonforge_generator.demo import digits_model_path, digits_test_split
from tritonforge_generator.demo.digits import CARD_NAME, DATA_DIR, TEST_NAME


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return onnx.load(str(digits_model_path()))


def test_split_is_what_scikit_learn_gives() -> None:
    from tritonforge_generator.demo.train import load_splits

    train, expected = load_splits()
    shipped = digits_test_split()

    assert (shipped.images.dtype.name, shipped.images.shape) == ("float32", (360, 1, 8, 8))
    assert (shipped.labels.dtype.name, shipped.labels.shape) == ("int64", (360,))
    np.testing.assert_array_equal(shipped.images, expected.images)
    np.testing.assert_array_equal(shipped.labels, expected.labels)
    assert len(train.labels) == 1437
    assert (shipped.images.min(), shipped.images.max()) == (0, 16)
    assert np.bincount(shipped.labels).min() >= 35  # stratified: about 36 of each digit


def test_no_test_image_was_trained_on() -> None:
    from tritonforge_generator.demo.train import load_splits

    train, test = load_splits()
    seen = {image.tobytes() for image in train.images}
    assert [index for index, image in enumerate(test.images) if image.tobytes() in seen] == []


def test_accuracy_is_the_stated_one(model: onnx.ModelProto) -> None:
    test = digits_test_split()
    session = onnxruntime.InferenceSession(str(digits_model_path()), providers=["CPUExecutionProvider"])
    logits = np.asarray(session.run(["logits"], {"images": test.images})[0])
    stated = json.loads((DATA_DIR / CARD_NAME).read_text(encoding="utf-8"))
    inside = {entry.key: entry.value for entry in model.metadata_props}

    assert test.accuracy(logits) == stated["test_accuracy"] == float(inside["test_accuracy"])
    assert stated["test_accuracy"] >= 0.98


def test_accuracy_refuses_other_rows() -> None:
    with pytest.raises(ValueError, match=r"expected logits of shape \(360, 10\).*got \(2, 10\)"):
        digits_test_split().accuracy(np.zeros((2, 10)))


def test_graph_has_one_symbolic_batch_axis(model: onnx.ModelProto) -> None:
    def shape(tensor: onnx.ValueInfoProto) -> list[int | str]:
        return [size.dim_param or size.dim_value for size in tensor.type.tensor_type.shape.dim]

    onnx.checker.check_model(model, full_check=True)
    assert [(tensor.name, shape(tensor)) for tensor in model.graph.input] == [("images", ["batch", 1, 8, 8])]
    assert [(tensor.name, shape(tensor)) for tensor in model.graph.output] == [("logits", ["batch", 10])]
    symbols = {size for tensor in model.graph.value_info for size in shape(tensor) if isinstance(size, str)}
    assert symbols <= {"batch"}
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    assert model.ir_version <= 9


def test_files_are_small_and_say_nothing_of_their_machine(model: onnx.ModelProto) -> None:
    assert digits_model_path().stat().st_size < 200_000
    assert (DATA_DIR / TEST_NAME).stat().st_size < 50_000
    assert not any(initializer.external_data for initializer in model.graph.initializer)
    del model.graph.initializer[:]
    text = str(model)
    assert [word for word in ("site-packages", "/home", "/root", "/tmp", ".py") if word in text] == []
