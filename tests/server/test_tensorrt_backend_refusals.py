"""Plans that the C++ tensorrt backend refuses are refused here, in its words; and what is not served here at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support import stand_in_plans
from support.serving import BATCHING, INPUT, OUTPUT, message_of
from support.stand_in_plans import write_model, write_plan

pytestmark = [pytest.mark.triton, pytest.mark.slow]


def configured(text: str) -> Callable[[Path, str], None]:
    """``y = -x`` on [batch, 4] with two profiles, under a config of one's own."""

    def write(repository: Path, name: str) -> None:
        write_plan(
            write_model(repository, name, text),
            tensors=[("x", "float32", [-1, 4]), ("y", "float32", [-1, 4])],
            outputs={"y": ["negative", "x"]},
            profiles=[{"x": ([1, 4], [4, 4], [8, 4])}, {"x": ([1, 4], [1, 4], [2, 4])}],
        )

    return write


def two_of_each(text: str) -> Callable[[Path, str], None]:
    """``y = -x`` and ``z = -w``."""

    def write(repository: Path, name: str) -> None:
        write_plan(
            write_model(repository, name, BATCHING + text),
            tensors=[(one, "float32", [-1, 4]) for one in ("x", "w", "y", "z")],
            outputs={"y": ["negative", "x"], "z": ["negative", "w"]},
            profiles=[{one: ([1, 4], [4, 4], [8, 4]) for one in ("x", "w")}],
        )

    return write


def without_rows(repository: Path, name: str) -> None:
    write_plan(
        write_model(repository, name, BATCHING + INPUT + OUTPUT),
        tensors=[("x", "float32", [-1, 4]), ("y", "float32", [])],
        outputs={"y": ["max", "x"]},
        profiles=[{"x": ([1, 4], [4, 4], [8, 4])}],
    )


def no_file(repository: Path, name: str) -> None:
    write_model(repository, name, BATCHING + INPUT + OUTPUT)


def cut_off(repository: Path, name: str) -> None:
    configured(BATCHING + INPUT + OUTPUT)(repository, name)
    path = repository / name / "1" / "model.plan"
    path.write_bytes(path.read_bytes()[:-10])


def no_plan(repository: Path, name: str) -> None:
    write_model(repository, name, BATCHING + INPUT + OUTPUT).write_bytes(b"no plan at all, though long enough")


def cut_off_to_complete(repository: Path, name: str) -> None:
    cut_off(repository, name)
    (repository / name / "config.pbtxt").unlink()


REFUSALS: dict[str, tuple[Callable[[Path, str], None], str]] = {
    "T2": (no_file, "/T2/1/model.plan' for model instance 'T2'"),
    "T4": (cut_off, "unable to create TensorRT engine: "),
    "T4_complete": (cut_off_to_complete, "the plan is cut off or damaged"),
    "no_plan": (no_plan, "is no TensorRT plan: expected a file that begins with b'ftrt', got b'no p'"),
    "T8": (
        configured("max_batch_size: 9\n" + INPUT + OUTPUT),
        "unexpected configuration maximum batch size 9 for 'T8', model maximum is 8",
    ),
    "T21": (
        configured(BATCHING + INPUT + OUTPUT + 'instance_group { profile: "2" }'),
        "profile 2 of instance T21_0_0 does not exist: the plan has 2",
    ),
    "T30": (two_of_each(INPUT + OUTPUT + OUTPUT.replace('"y"', '"z"')), "expected configuration for input 'w' for T30"),
    "T30_output": (
        two_of_each(INPUT + INPUT.replace('"x"', '"w"') + OUTPUT),
        "expected configuration for output 'z' for T30_output",
    ),
    "T31": (configured(BATCHING + INPUT.replace('"x"', '"w"') + OUTPUT), "input 'w' not found for T31"),
    "T31_output": (
        configured(BATCHING + INPUT + OUTPUT.replace('"y"', '"z"')),
        "output 'z' not found for T31_output",
    ),
    "T35": (
        configured(BATCHING + INPUT.replace("FP32", "INT64") + OUTPUT),
        "unexpected datatype TYPE_FP32 for inference input 'x', expecting TYPE_INT64 for T35",
    ),
    "T36": (
        configured(BATCHING + INPUT + OUTPUT.replace("FP32", "FP16")),
        "unexpected datatype TYPE_FP32 for inference output 'y', expecting TYPE_FP16 for T36",
    ),
    "T37": (
        without_rows,
        (
            "model 'T37', tensor 'y': for the model to support batching the shape should have at least 1 dimension; "
            "but shape expected by the model is []"
        ),
    ),
    "T38": (
        configured(BATCHING + INPUT.replace("[4]", "[5]") + OUTPUT),
        (
            "model 'T38', tensor 'x': the model expects 2 dimensions (shape [-1,4]) but the model configuration "
            "specifies 2 dimensions (an initial batch dimension because max_batch_size > 0 followed by the explicit "
            "tensor shape, making complete shape [-1,5])"
        ),
    ),
    "T39": (
        configured(INPUT + OUTPUT),
        (
            "model 'T39', tensor 'x': the model expects 2 dimensions (shape [-1,4]) but the model configuration "
            "specifies 1 dimensions (shape [4])"
        ),
    ),
    "ragged": (
        configured(BATCHING + INPUT.replace("dims", "allow_ragged_batch: true dims") + OUTPUT),
        "model 'ragged' asks for ragged batches, which are not served here",
    ),
    "decoupled": (
        configured(BATCHING + INPUT + OUTPUT + "model_transaction_policy { decoupled: true }"),
        "model 'decoupled' is decoupled, which TensorRT plans are not",
    ),
    "state": (
        configured(
            BATCHING + INPUT + OUTPUT + 'sequence_batching { state { input_name: "s" output_name: "t" '
            "data_type: TYPE_FP32 dims: [4] } }"
        ),
        "model 'state' asks for sequence states, which are not served here",
    ),
}


@pytest.fixture(scope="module")
def message(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a server says that was started on all of these plans, with the stand-in TensorRT."""
    repository = tmp_path_factory.mktemp("refused")
    for name, (write, _) in REFUSALS.items():
        write(repository, name)
    with stand_in_plans.stand_in_backend(tmp_path_factory.mktemp("backends")):
        return message_of(repository)


@pytest.mark.parametrize("name", REFUSALS)
def test_a_plan_is_refused_in_the_words_of_the_c_backend(message: str, name: str) -> None:
    lines = [line for line in message.splitlines() if line.strip().startswith(f"{name} version 1: ")]
    assert len(lines) == 1, message
    assert REFUSALS[name][1] in lines[0]


def test_a_machine_without_a_gpu_is_told(tmp_path: Path) -> None:
    """The backend itself, with nothing in its place."""
    configured(BATCHING + INPUT + OUTPUT)(tmp_path, "plan")
    message = message_of(tmp_path)
    assert "unable to load model 'plan', TensorRT backend supports only GPU device" in message
    assert "At:" not in message  # nor with frames of the backend's own code
