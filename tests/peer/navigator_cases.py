"""Repositories as Model Navigator 0.14 writes them, one for each of its known faults.

Usage: ``python navigator_cases.py FOLDER`` with its packages on the path. The folder has ``linear.onnx``,
``single.onnx`` (batch 1), ``external.onnx`` and ``text.plan``. Each case is written to ``FOLDER/repositories/<case>``,
and ``FOLDER/errors.json`` says which ones it refused.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(sys.argv[1])
TRITON = importlib.import_module("model_navigator").triton
INPUT = TRITON.InputTensorSpec(name="x", shape=(4,), dtype=np.float32)
OUTPUT = TRITON.OutputTensorSpec(name="y", shape=(3,), dtype=np.float32)


def onnx(**options: Any) -> Any:
    return TRITON.ONNXModelConfig(**{"inputs": [INPUT], "outputs": [OUTPUT], **options})


def add(case: str, source: str, config: Any, *, name: str = "m", version: int = 1) -> None:
    repository = FOLDER / "repositories" / case
    repository.mkdir(parents=True, exist_ok=True)
    TRITON.model_repository.add_model(
        model_repository_path=repository,
        model_name=name,
        model_path=FOLDER / source,
        config=config,
        model_version=version,
    )


def named(name: str, shape: tuple[int, ...], dtype: Any) -> list[Any]:
    return [TRITON.InputTensorSpec(name=name, shape=shape, dtype=dtype)]


def warm_up(batch_size: int) -> Any:
    zeros = TRITON.ModelWarmupInput(shape=(4,), dtype=np.float32, input_data_type=TRITON.ModelWarmupInputDataType.ZERO)
    return {"w": TRITON.ModelWarmup(inputs={"x": zeros}, batch_size=batch_size)}


def twice(case: str) -> None:
    add(case, "linear.onnx", onnx(max_batch_size=8))
    add(case, "single.onnx", onnx(max_batch_size=64), version=2)


CASES: dict[str, Callable[[str], None]] = {
    "right": lambda case: add(case, "linear.onnx", onnx(max_batch_size=8)),
    "N5": lambda case: add(case, "text.plan", TRITON.TensorRTModelConfig(max_batch_size=256)),
    "N6_batch": lambda case: add(case, "single.onnx", onnx(max_batch_size=64)),
    "N6_name": lambda case: add(case, "linear.onnx", onnx(inputs=named("images", (4,), np.float32))),
    "N6_dims": lambda case: add(case, "linear.onnx", onnx(inputs=named("x", (5,), np.float32))),
    "N6_type": lambda case: add(case, "linear.onnx", onnx(inputs=named("x", (4,), np.int32))),
    "N7": lambda case: add(case, "external.onnx", onnx(max_batch_size=8)),
    "N8_preferred": lambda case: add(
        case, "linear.onnx", onnx(max_batch_size=8, batcher=TRITON.DynamicBatcher(preferred_batch_size=[16, 32]))
    ),
    "N8_warmup": lambda case: add(case, "linear.onnx", onnx(max_batch_size=8, warmup=warm_up(64))),
    "N9": lambda case: add(
        case,
        "linear.onnx",
        onnx(max_batch_size=8, batcher=TRITON.SequenceBatcher(max_sequence_idle_microseconds=5_000_000)),
    ),
    "N10": lambda case: add(
        case,
        "text.plan",
        TRITON.TensorRTModelConfig(
            max_batch_size=8, optimization=TRITON.TensorRTOptimization(cuda_graphs=True, eager_batching=False)
        ),
    ),
    "N11": lambda case: add(case, "text.plan", TRITON.TensorRTModelConfig(optimization=TRITON.CUDAGraphOptimization())),
    "N12": lambda case: add(case, "linear.onnx", onnx(), name="a/../../b c"),
    "N13": twice,
}

if __name__ == "__main__":
    errors = {}
    for case, write in CASES.items():
        try:
            write(case)
        except Exception as error:  # what it refuses is what is asked for
            errors[case] = f"{type(error).__name__}: {error}"
    (FOLDER / "errors.json").write_text(json.dumps(errors), "utf-8")
