"""What mypy --strict and pyright say about code that uses a generated module."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tritonforge_client import ModelSpec, TensorSpec
from tritonforge_client.codegen import modules_from_specs

SPEC = ModelSpec(
    name="digits",
    inputs=(
        TensorSpec(name="images", datatype="FP32", dims=(1, 8, 8)),
        TensorSpec(name="labels", datatype="BYTES", dims=(1,), optional=True),
    ),
    outputs=(TensorSpec(name="probabilities", datatype="FP32", dims=(10,)),),
    max_batch_size=8,
)

HEAD = """
import numpy as np
from numpy.typing import NDArray
from tritonforge_client import AsyncClient, Client, Options

from counted import AsyncCounted, Counted
from digits import AsyncDigits, Digits, Outputs
from repeated import AsyncRepeated, Repeated

client, awaited = Client("grpc://localhost"), AsyncClient("grpc://localhost")
model = Digits(client, options=Options(timeout_s=1.0))
waiting = AsyncDigits(awaited)
counted, counting = Counted(Client("grpc://localhost")), AsyncCounted(AsyncClient("grpc://localhost"))
repeated, repeating = Repeated(Client("grpc://localhost")), AsyncRepeated(AsyncClient("grpc://localhost"))
images = np.zeros((1, 1, 8, 8), dtype=np.float32)
doubles = np.zeros((1, 1, 8, 8), dtype=np.float64)
"""

CORRECT = """
outputs: Outputs = model.infer(images=images)
row: NDArray[np.float32] = model.infer_one(images=images[0], options=Options()).probabilities
model.infer(images=images, labels=[["a"], [b"b"]])
model.infer(images=images, labels=np.array([["a"]], dtype=np.object_))
model.infer_one(images=images[0], labels=["a"])
model.infer(images=images, labels=None)
prepared = model.prepare(images=images, labels=[["a"]])
again: NDArray[np.float32] = model.decode(client.send(prepared)).probabilities
with counted.sequence() as steps:
    first: NDArray[np.float32] = steps.infer(images=images, end=True).probabilities
for answer in repeated.stream(images=images):
    each: NDArray[np.float32] = answer.probabilities


async def in_an_event_loop() -> None:
    one: NDArray[np.float32] = (await waiting.infer(images=images)).probabilities
    outputs = waiting.decode(await awaited.send(waiting.prepare(images=images)))
    three: NDArray[np.float32] = outputs.probabilities
    async with counting.sequence(id="a") as steps:
        (await steps.infer(images=images)).probabilities
    async for answer in repeating.stream(images=images):
        two: NDArray[np.float32] = answer.probabilities
"""

MODULES = ["digits.py", "counted.py", "repeated.py"]

MISTAKES = {
    "wrong input name": "model.infer(image=images)",
    "missing input": "model.infer()",
    "wrong dtype via a variable": "model.infer(images=doubles)",
    "positional input": "model.infer(images)",
    "list for an array": "model.infer(images=[1.0])",
    "numbers for strings": "model.infer(images=images, labels=[[1]])",
    "output typo": "model.infer(images=images).probabilites",
    "assignment to an output": "model.infer(images=images).probabilities = images",
    "a blocking client for the asynchronous class": "AsyncDigits(Client('grpc://localhost'))",
    "an asynchronous client for the blocking class": "Digits(AsyncClient('grpc://localhost'))",
    "an answer that was not awaited": "waiting.infer(images=images).probabilities",
    "wrong dtype for the asynchronous class": "waiting.infer(images=doubles)",
    "wrong dtype in a sequence": "counted.sequence().infer(images=doubles)",
    "a model in sequences called by itself": "counted.infer(images=images)",
    "a decoupled model asked for one answer": "repeated.infer(images=images)",
    "wrong dtype for a stream": "repeating.stream(images=doubles)",
    "wrong dtype of a prepared request": "model.prepare(images=doubles)",
    "an answer of another kind": "model.decode(model.infer(images=images))",
    "a prepared request of a decoupled model": "repeated.prepare(images=images)",
    "wrong output dtype": "text: NDArray[np.str_] = model.infer(images=images).probabilities",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's project: the module, correct code, and one mistake a line."""
    folder = tmp_path_factory.mktemp("project")
    counted = dataclasses.replace(SPEC, name="counted", sequence=True)
    modules_from_specs([SPEC, counted, dataclasses.replace(SPEC, name="repeated", decoupled=True)], folder)
    (folder / "correct.py").write_text(HEAD + CORRECT)
    (folder / "mistakes.py").write_text(HEAD + "\n".join(MISTAKES.values()) + "\n")
    return folder


def lines_reported(command: list[str], folder: Path) -> dict[str, set[int]]:
    """Run a checker and return the lines with errors, by file."""
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=170)
    assert run.returncode in {0, 1}, run.stdout + run.stderr
    lines: dict[str, set[int]] = {}
    for name, line in re.findall(r"(\w+\.py):(\d+)(?::\d+)?(?: -|:) error", run.stdout):
        lines.setdefault(name, set()).add(int(line))
    return lines


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "correct.py", "mistakes.py", *MODULES],
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "correct.py", "mistakes.py", *MODULES],
    ],
    ids=["mypy", "pyright"],
)
def test_each_mistake_is_reported_and_correct_code_is_clean(command: list[str], folder: Path) -> None:
    first = len(HEAD.splitlines()) + 1
    expected = {first + index for index in range(len(MISTAKES))}
    assert lines_reported(command, folder) == {"mistakes.py": expected}
