import ast
import asyncio
import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tritonforge_client import AsyncClient, Client, CodegenError, InvalidInput, ModelSpec, Options, TensorSpec
from tritonforge_client.codegen import (
    digest_from_spec,
    module_from_spec,
    modules_from_repository,
    modules_from_specs,
)
from tritonforge_client.codegen.naming import attributes_from_tensors, class_name_from_model, module_name_from_model
from tritonforge_client.datatypes import BY_DATATYPE
from tritonforge_client.testing import AsyncFakeTransport, FakeTransport

DIGITS = """
name: "digits"
max_batch_size: 32
input [{ name: "images" data_type: TYPE_FP32 dims: [1, 8, 8] }]
output [{ name: "probabilities" data_type: TYPE_FP32 dims: [10] }]
dynamic_batching { default_queue_policy { allow_timeout_override: true default_timeout_microseconds: 5000 } }
"""


def spec_of(*inputs: TensorSpec, name: str = "m", max_batch_size: int = 0, **fields: Any) -> ModelSpec:
    outputs = fields.pop("outputs", (TensorSpec(name="y", datatype="FP32", dims=(1,)),))
    return ModelSpec(name=name, inputs=inputs, outputs=outputs, max_batch_size=max_batch_size, **fields)


EVERYTHING = spec_of(
    *(TensorSpec(name=f"in_{name}", datatype=name, dims=(2, -1)) for name in BY_DATATYPE),
    TensorSpec(name="late", datatype="INT8", dims=(), optional=True),
    name="every-thing.v2",
    max_batch_size=4,
    outputs=tuple(TensorSpec(name=f"out_{name}", datatype=name, dims=(1,)) for name in BY_DATATYPE),
    version="3",
    queue_timeout_us=7,
)
NASTY = spec_of(
    *(
        TensorSpec(name=name, datatype="INT8", dims=(1,))
        for name in ("a:0", "a_0", "class", 'q"\\', "options", "self", "__x", "0", "\u00e9", "Client")
    ),
    name='"""\\ model',
    outputs=tuple(TensorSpec(name=name, datatype="FP32", dims=(1,)) for name in ("np", "None", "a/b", "a.b")),
)
DECOUPLED = dataclasses.replace(EVERYTHING, decoupled=True)
IN_SEQUENCE = dataclasses.replace(
    EVERYTHING, inputs=(*EVERYTHING.inputs, TensorSpec(name="end", datatype="INT8", dims=(1,))), sequence=True
)
SPEC_OF_DIGITS = spec_of(
    TensorSpec(name="images", datatype="FP32", dims=(1, 8, 8)),
    name="digits",
    max_batch_size=32,
    outputs=(TensorSpec(name="probabilities", datatype="FP32", dims=(10,)),),
)
SPECS = {"everything": EVERYTHING, "nasty": NASTY, "decoupled": DECOUPLED, "in sequence": IN_SEQUENCE}


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[path.stem]
    return module


def write_config(repository: Path, model: str, text: str) -> None:
    (repository / model).mkdir(parents=True)
    (repository / model / "config.pbtxt").write_text(text)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_module_holds_the_spec_it_was_made_from(spec: ModelSpec, tmp_path: Path) -> None:
    (path,) = modules_from_specs([spec], tmp_path)
    module = load(path)
    assert dataclasses.replace(spec, digest=digest_from_spec(spec)) == module.SPEC
    assert module_from_spec(spec) == path.read_text(encoding="utf-8")
    assert digest_from_spec(spec) in (module.__doc__ or "")


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("line_length", ["88", "120"])
def test_a_module_is_clean_for_ruff(spec: ModelSpec, line_length: str, tmp_path: Path) -> None:
    (path,) = modules_from_specs([spec], tmp_path)
    ruff = [sys.executable, "-m", "ruff"]
    common = ["--isolated", "--line-length", line_length, str(path)]
    rules = "A,ARG,B,C4,D,E,F,I,N801,N802,PIE,PL,PYI,RET,RUF,SIM,UP,W"
    ignored = "D105,D107,PLR0913,E501,RUF001,RUF002,RUF003,D301"
    checks = [
        [
            *ruff,
            "check",
            "--select",
            rules,
            "--ignore",
            ignored,
            "--config",
            'lint.pydocstyle.convention="google"',
            *common,
        ],
    ]
    if line_length == "120":
        checks.append([*ruff, "format", "--diff", *common])
    for check in checks:
        run = subprocess.run(check, capture_output=True, text=True, check=False, timeout=60)
        assert run.returncode == 0, run.stdout + run.stderr


def test_the_committed_shape_of_a_module(tmp_path: Path) -> None:
    write_config(tmp_path / "repository", "digits", DIGITS)
    (path,) = modules_from_repository(tmp_path / "repository", tmp_path / "out")
    assert path == tmp_path / "out" / "digits.py"
    module = load(path)
    assert module.SPEC.queue_timeout_us == 5000
    with Client("grpc://127.0.0.1:1") as client:
        digits = module.Digits(client)
        with pytest.raises(InvalidInput, match="got float64"):
            digits.infer(images=np.zeros((1, 1, 8, 8)))
        with pytest.raises(InvalidInput, match="got float32"):
            digits.infer_one(images=np.zeros((8, 8), np.float32))
        with pytest.raises(TypeError, match="positional"):
            digits.infer(np.zeros((1, 1, 8, 8), np.float32))
    outputs = module.Outputs(probabilities=np.zeros((1, 10), np.float32))
    with pytest.raises(dataclasses.FrozenInstanceError):
        outputs.probabilities = 1


def test_a_prepared_request_of_a_module_has_typed_outputs(tmp_path: Path) -> None:
    (path,) = modules_from_specs([SPEC_OF_DIGITS], tmp_path)
    module = load(path)
    images = np.ones((2, 1, 8, 8), np.float32)
    with Client("fake", transport=FakeTransport(SPEC_OF_DIGITS)) as client:
        digits = module.Digits(client)
        outputs = digits.decode(client.send(digits.prepare(images=images)))
        with pytest.raises(InvalidInput, match="got float64"):
            digits.prepare(images=images.astype(np.float64))

    async def asynchronous() -> Any:
        async with AsyncClient("fake", transport=AsyncFakeTransport(SPEC_OF_DIGITS)) as client:
            digits = module.AsyncDigits(client)
            return digits.decode(await client.send(digits.prepare(images=images, options=Options(timeout_s=1))))

    for one in (outputs, asyncio.run(asynchronous())):
        assert isinstance(one, module.Outputs)
        assert one.probabilities.shape == (2, 10)


def test_only_models_that_answer_once_have_prepared_requests() -> None:
    assert {name: "def prepare(" in module_from_spec(spec) for name, spec in SPECS.items()} == {
        "everything": True,
        "nasty": True,
        "decoupled": False,
        "in sequence": False,
    }


def test_infer_one_exists_only_with_a_batch_dimension() -> None:
    tensor = TensorSpec(name="x", datatype="FP32", dims=(1,))
    assert "def infer_one(" in module_from_spec(spec_of(tensor, max_batch_size=1))
    assert "def infer_one(" not in module_from_spec(spec_of(tensor, max_batch_size=0))


def test_required_inputs_come_before_optional_ones() -> None:
    text = module_from_spec(
        spec_of(
            TensorSpec(name="o", datatype="FP32", dims=(1,), optional=True),
            TensorSpec(name="r", datatype="FP32", dims=(1,)),
        )
    )
    (infer,) = [
        node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef) and node.name == "infer"
    ]
    assert [argument.arg for argument in infer.args.kwonlyargs] == ["r", "o", "options"]
    assert "o: NDArray[np.float32] | None = None," in text


@pytest.mark.parametrize(
    ("dims", "max_batch_size", "annotation"),
    [
        ((), 0, "NDArray[np.object_]"),
        ((-1,), 0, "NDArray[np.object_] | Sequence[bytes | str]"),
        ((1,), 4, "NDArray[np.object_] | Sequence[Sequence[bytes | str]]"),
    ],
)
def test_strings_are_nested_as_deep_as_their_tensor(
    dims: tuple[int, ...], max_batch_size: int, annotation: str
) -> None:
    tensor = TensorSpec(name="x", datatype="BYTES", dims=dims)
    assert f"        x: {annotation},\n" in module_from_spec(spec_of(tensor, max_batch_size=max_batch_size))


def test_a_decoupled_model_with_sequences_is_refused() -> None:
    spec = spec_of(TensorSpec(name="x", datatype="FP32", dims=(1,)), decoupled=True, sequence=True)
    with pytest.raises(CodegenError, match="got one that is both"):
        module_from_spec(spec)


@pytest.mark.parametrize(
    ("models", "text"),
    [
        (["digit"], 'did you mean "digits"?'),
        (["zzz"], "it has broken, digits, silent"),
        (["digits", "broken"], "broken/config.pbtxt: expected a model config in protobuf text format"),
        (["digits", "silent"], "without input and output"),
    ],
)
def test_a_refusal_writes_nothing(models: list[str], text: str, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    write_config(repository, "digits", DIGITS)
    write_config(repository, "broken", "max_batch_sise: 3")
    write_config(repository, "silent", 'backend: "onnxruntime"')
    with pytest.raises(CodegenError) as caught:
        modules_from_repository(repository, tmp_path / "out", models=models)
    assert text in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CodegenError, match=r"no folder with a config.pbtxt"):
        modules_from_repository(tmp_path, tmp_path / "out")
    with pytest.raises(CodegenError, match="not a folder"):
        modules_from_repository(tmp_path / "none", tmp_path / "out")


def test_two_models_with_one_file_name_are_refused(tmp_path: Path) -> None:
    tensor = TensorSpec(name="x", datatype="FP32", dims=(1,))
    with pytest.raises(CodegenError, match=r"models a-b and a_b both give a_b.py"):
        modules_from_specs([spec_of(tensor, name="a-b"), spec_of(tensor, name="a_b")], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_config_without_a_name_has_that_of_its_folder(tmp_path: Path) -> None:
    write_config(tmp_path, "other", DIGITS.replace('name: "digits"', "", 1))
    (path,) = modules_from_repository(tmp_path, tmp_path / "out")
    assert load(path).SPEC.name == "other"


@pytest.mark.parametrize(
    ("model", "module", "class_name"),
    [
        ("digits", "digits", "Digits"),
        ("ResNet-50.v2", "resnet_50_v2", "ResNet50V2"),
        ("3d", "model_3d", "Model3d"),
        ("class", "class_", "Class"),
        ("options", "options", "OptionsModel"),
        ("none", "none", "NoneModel"),
        ("---", "___", "Model"),
    ],
)
def test_names_of_modules_and_classes(model: str, module: str, class_name: str) -> None:
    assert class_name_from_model(model) == class_name
    assert module_name_from_model(model) == (module if module != "___" else "model")


def test_names_of_tensors_are_stable() -> None:
    names = ["a:0", "a_0", "a/0", "class", "x"]
    assert attributes_from_tensors(names, reserved=["x"]) == {
        "a_0": "a_0",
        "a:0": "a_0_",
        "a/0": "a_0_2",
        "class": "class_",
        "x": "x_",
    }
