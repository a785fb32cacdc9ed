"""How long the linter takes to import, and to judge 1,000 models.

``python tests/benchmarks/lint_speed.py`` prints the best of some runs; ``python tests/benchmarks/lint_speed.py 200 1``
judges 200 models once.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tritonforge_generator.lint import lint_repository

_CONFIG: Final = """\
name: "{name}"
platform: "onnxruntime_onnx"
max_batch_size: 64  # the largest that fits
input [
  {{
    name: "input_ids"
    data_type: TYPE_INT64
    dims: [ -1 ]
  }},
  {{
    name: "attention_mask"
    data_type: TYPE_INT64
    dims: [ -1 ]
  }},
  {{
    name: "image"
    data_type: TYPE_FP32
    dims: [ 3, 224, 224 ]
  }}
]
output [
  {{
    name: "logits"
    data_type: TYPE_FP32
    dims: [ 1000 ]
  }},
  {{
    name: "embedding"
    data_type: TYPE_FP32
    dims: [ 768 ]
  }}
]
instance_group [
  {{
    count: 2
    kind: KIND_GPU
    gpus: [ 0, 1 ]
  }}
]
dynamic_batching {{
  preferred_batch_size: [ 8, 16, 32, {preferred} ]
  max_queue_delay_microseconds: 500
}}
optimization {{
  graph {{ level: 1 }}
  execution_accelerators {{
    gpu_execution_accelerator: [ {{
      name: "tensorrt"
      parameters {{ key: "precision_mode" value: "FP16" }}
    }} ]
  }}
}}
parameters {{ key: "intra_op_thread_count" value: {{ string_value: "4" }} }}
version_policy: {{ latest: {{ num_versions: 2 }} }}
"""


def write_models(repository: Path, count: int) -> None:
    """Write models of some 50 lines each; every tenth breaks a rule."""
    for number in range(count):
        name = f"model_{number:04}"
        (repository / name / "1").mkdir(parents=True)
        config = _CONFIG.format(name=name, preferred=64 if number % 10 else 65)
        (repository / name / "config.pbtxt").write_text(config)


def judging_s(repository: Path, runs: int) -> tuple[float, float]:
    """Return how long the rules on the text take for all models, best of some runs: ``(seconds, CPU seconds)``."""
    times = []
    for _ in range(runs):
        started, started_cpu = time.perf_counter(), time.process_time()
        lint_repository(repository, needs={"text"})
        times.append((time.perf_counter() - started, time.process_time() - started_cpu))
    return min(times)


def import_s(runs: int) -> float:
    """Return the seconds that importing the linter takes in a new interpreter, best of some runs."""
    code = "import time; s = time.perf_counter(); import tritonforge_generator.lint; print(time.perf_counter() - s)"
    outputs = [subprocess.run([sys.executable, "-c", code], check=True, capture_output=True) for _ in range(runs)]
    return min(float(done.stdout) for done in outputs)


def main(count: int = 1000, runs: int = 5) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        write_models(Path(folder), count)
        print(f"import: {import_s(runs):.3f} s")
        wall_s, cpu_s = judging_s(Path(folder), runs)
        print(f"{count} configs, rules on the text: {wall_s:.2f} s, {cpu_s:.2f} s of them on a core")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
