"""PyTorch modules become ONNX files that answer like them, or a refusal that says why."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tritonforge_generator.errors import SourceError
from tritonforge_generator.graph import OnnxSession
from tritonforge_generator.pipeline import generate
from tritonforge_generator.source import SourceModel, source_from_reference, source_from_torch, torch_module
from tritonforge_generator.spec import ForgeSpec, ModelOptions

torch = pytest.importorskip("torch")

MODELS = """
import torch
from torch import nn
from tritonforge_generator.source import TorchModel

torch.manual_seed(0)
IMAGES = torch.randn(2, 3, 8, 8)
ROWS = torch.rand(2, 4) + 0.1


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.dropout, self.head = nn.Dropout(0.5), nn.Linear(4, 5)

    def forward(self, images):
        return self.head(self.dropout(torch.relu(self.norm(self.conv(images))).mean((2, 3))))


NETWORK = Network()


def network():
    return TorchModel(module=NETWORK, inputs={"images": IMAGES}, outputs=("logits",))


def program():
    shapes = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(NETWORK.eval(), (IMAGES,), dynamic_shapes=shapes)
    return TorchModel(module=exported, inputs={"images": IMAGES}, outputs=("logits",))


def fixed():
    return TorchModel(module=nn.Flatten(0), inputs={"x": ROWS}, batched=False)


class Two(nn.Module):
    def forward(self, a, b):
        return {"total": a + b, "difference": a - b, "note": "no tensor"}


def two():
    return TorchModel(module=Two(), inputs={"a": ROWS, "b": 2 * ROWS})


def swapped():
    return TorchModel(module=Two(), inputs={"b": ROWS, "a": 2 * ROWS})


class Random(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, training=True)


def random():
    return TorchModel(module=Random(), inputs={"x": torch.ones(2, 100)})


class Branch(nn.Module):
    def forward(self, x):
        return 2 * x if x.sum() > 0 else 3 * x


def branch():
    return TorchModel(module=Branch(), inputs={"x": ROWS})


class OneSided(nn.Module):
    def forward(self, x):
        return (2 if x.shape[0] > 100 else 3) * x.log()


def logarithm():
    return TorchModel(module=OneSided(), inputs={"x": ROWS})


class Eigen(nn.Module):
    def forward(self, x):
        return torch.linalg.eigvals(x)


def eigenvalues():
    return TorchModel(module=Eigen(), inputs={"x": torch.ones(2, 4, 4)})


class Silent(nn.Module):
    def forward(self, x):
        return ()


def silent():
    return TorchModel(module=Silent(), inputs={"x": ROWS})


def bare_module():
    return NETWORK


def raising():
    raise FileNotFoundError("weights.pt is not here")


def function():
    return TorchModel(module=lambda x: x, inputs={"x": ROWS})


def no_tensor():
    return TorchModel(module=Two(), inputs={"a": ROWS, "b": [1.0, 2.0]})


def scalar():
    return TorchModel(module=nn.Identity(), inputs={"x": torch.tensor(1.0)})


def wrong_size():
    return TorchModel(module=NETWORK, inputs={"images": ROWS})


def too_many_names():
    return TorchModel(module=NETWORK, inputs={"images": IMAGES}, outputs=("logits", "scores"))
"""


@pytest.fixture(autouse=True)
def models(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module of a user on the path."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "user_models.py").write_text(MODELS)
    monkeypatch.syspath_prepend(folder)
    yield
    sys.modules.pop("user_models", None)


def exported(factory: str, folder: Path, opset: int = 18) -> tuple[SourceModel, onnx.ModelProto]:
    source = source_from_torch(f"torch:user_models:{factory}", folder, opset=opset)
    model = onnx.load(str(source.path))
    onnx.checker.check_model(model, full_check=True)
    return source, model


def user(name: str) -> Any:
    """Something of the user's module, as the export saw it."""
    return getattr(sys.modules["user_models"], name)


def test_a_module_answers_the_same_in_every_batch(tmp_path: Path) -> None:
    source, model = exported("network", tmp_path)
    assert source.file.location == "network.onnx"
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    network = user("NETWORK")
    images = torch.randn(5, 3, 8, 8)
    expected = network.eval()(images).detach().numpy()
    found = OnnxSession(source.path).run({"images": images.numpy()})
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-4, atol=1e-5)


def test_a_module_comes_back_in_the_mode_it_had(tmp_path: Path) -> None:
    exported("network", tmp_path)
    assert user("NETWORK").training


def test_an_exported_program_is_a_source(tmp_path: Path) -> None:
    source, _ = exported("program", tmp_path)
    images = torch.randn(3, 3, 8, 8)
    expected = user("NETWORK")(images).detach().numpy()
    found = OnnxSession(source.path).run({"images": images.numpy()})
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-4, atol=1e-5)


def test_inputs_and_outputs_are_called_as_the_user_calls_them(tmp_path: Path) -> None:
    source, model = exported("two", tmp_path)
    assert [one.name for one in model.graph.input] == ["a", "b"]
    found = OnnxSession(source.path).run({"a": np.ones((3, 4), np.float32), "b": np.full((3, 4), 5, np.float32)})
    assert set(found) == {"total", "difference"}
    assert found["difference"].tolist() == np.full((3, 4), -4).tolist()


def test_a_model_without_a_batch_keeps_its_shape(tmp_path: Path) -> None:
    source, model = exported("fixed", tmp_path)
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [2, 4]
    (output,) = OnnxSession(source.path).outputs
    assert (output.name, output.shape) == ("output_0", (8,))


def test_an_opset_below_the_new_exporters_is_left_to_the_old_one(tmp_path: Path) -> None:
    _, model = exported("network", tmp_path, opset=17)
    assert [one.version for one in model.opset_import] == [17]
    assert model.ir_version == 8


def test_an_opset_above_what_was_asked_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"needs opset 18, above 17; script: .*has no TorchScript form"):
        exported("program", tmp_path, opset=17)


def test_a_newer_opset_may_be_used(tmp_path: Path) -> None:
    _, model = exported("network", tmp_path, opset=20)
    assert 18 <= model.opset_import[0].version <= 20


def test_the_other_exporter_is_tried_when_the_first_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("not today")

    monkeypatch.setattr(torch_module, "_export_dynamo", fails)
    source, _ = exported("network", tmp_path)
    assert OnnxSession(source.path).run({"images": np.zeros((3, 3, 8, 8), np.float32)})["logits"].shape == (3, 5)


def test_what_no_exporter_knows_is_refused_with_the_words_of_both(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"cannot be exported to ONNX") as raised:
        exported("eigenvalues", tmp_path)
    dynamo, _, script = raised.value.got.partition("; script: ")
    assert dynamo.startswith("dynamo: DispatchError: No ONNX function found")
    assert "aten::linalg_eigvals" in script
    assert "Export it yourself" in raised.value.action


def test_a_module_that_is_random_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"dynamo: 'output_0' has a relative error of .* script: 'output_0' has a"):
        exported("random", tmp_path)


def test_a_branch_that_the_examples_do_not_take_is_refused(tmp_path: Path) -> None:
    """Tracing keeps the one branch that the examples took, without a word."""
    with pytest.raises(SourceError, match=r"relative error of 0\.333 for the negated examples"):
        exported("branch", tmp_path)


def test_values_that_a_module_does_not_take_prove_nothing(tmp_path: Path) -> None:
    source, _ = exported("logarithm", tmp_path)
    found = OnnxSession(source.path).run({"x": np.full((1, 4), np.e, np.float32)})["output_0"]
    np.testing.assert_allclose(found, np.full((1, 4), 3), rtol=1e-5)


def test_exporting_again_gives_the_same_bytes_without_paths(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    first, model = exported("network", tmp_path)
    again, _ = exported("network", tmp_path / "again")
    assert first.file.sha256 == again.file.sha256
    assert b"user_models.py" not in model.SerializeToString()
    assert b"site-packages" not in model.SerializeToString()


def test_large_weights_lie_beside_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_module, "_INLINE_BYTES", 100)
    source, _ = exported("network", tmp_path)
    (external,) = source.external_data
    assert external.location == "network.onnx.data"


def test_exporters_write_nothing_to_the_standard_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It belongs to ``--json``; both exporters print graphs when they fail."""
    for factory in ("eigenvalues", "branch"):
        with pytest.raises(SourceError):
            exported(factory, tmp_path)
    assert capfd.readouterr().out == ""


REFUSED = {
    "nowhere:network": r"does not work: expected torch:package\.module:factory.*No module named 'nowhere'",
    "user_models:absent": "has no attribute 'absent'",
    "user_models": "torch:user_models does not work",
    "": "does not work.*Empty module name",
    "user_models:raising": "FileNotFoundError: weights.pt is not here",
    "user_models:bare_module": "returns something else: expected a tritonforge_generator.source.TorchModel, got N",
    "user_models:function": "expected an nn.Module or a torch.export.ExportedProgram, got function",
    "user_models:no_tensor": "input 'b' of .* is no example: .* got list",
    "user_models:scalar": r"with the batch on the first axis, got shape \(\)\. Set batched=False",
    "user_models:swapped": "not in the order of forward: expected the first of a, b, none left out, got b, a",
    "user_models:wrong_size": r"does not run on its own inputs: expected tensors from forward\(images\)",
    "user_models:too_many_names": "ValueError: 1 tensors for 2 names",
    "user_models:silent": "ValueError: 0 tensors for 0 names",
}


@pytest.mark.parametrize("reference", REFUSED)
def test_refuses_what_is_no_model(tmp_path: Path, reference: str) -> None:
    before = list(sys.path)
    with pytest.raises(SourceError, match=REFUSED[reference]):
        source_from_reference(Path(f"torch:{reference}"), tmp_path)
    assert sys.path == before
    assert list(tmp_path.iterdir()) == []


def test_a_module_is_found_where_the_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here_only.py").write_text("from user_models import two\n")
    monkeypatch.chdir(tmp_path)
    assert source_from_torch("torch:here_only:two", tmp_path).path.is_file()
    del sys.modules["here_only"]


def test_modules_of_the_documentation_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[3] / "docs" / "sources.md").read_text()
    blocks = re.findall(r"^```python\n(# (\w+)\.py\n.*?^def (\w+)\(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert [name for _, name, _ in blocks] == ["classifier", "program"]
    monkeypatch.chdir(tmp_path)
    for code, name, factory in blocks:
        Path(f"{name}.py").write_text(code)
        assert source_from_torch(f"torch:{name}:{factory}", tmp_path).path.is_file()
        del sys.modules[name]


def test_a_module_is_published_once(tmp_path: Path) -> None:
    options = ModelOptions(name="network", source=Path("torch:user_models:network"), precision="FP16")
    spec = ForgeSpec(repository=tmp_path / "models", models=(options,))
    (generated,) = generate(spec, serve_check=False)
    assert generated.config.message.max_batch_size == 32
    assert [one.name for one in generated.config.message.output] == ["logits"]
    manifest = json.loads((generated.version.path / "manifest.json").read_text())
    assert manifest["source"] == "network.onnx"
    assert str(tmp_path) not in json.dumps(manifest)
    (again,) = generate(spec, serve_check=False)
    assert (again.version.version, again.version.new) == (1, False)
