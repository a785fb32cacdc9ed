"""The linter stays fast: wide bounds on processor time, which other work on the machine does not stretch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.lint_speed import judging_s, main, write_models


def test_three_hundred_configs_take_well_under_three_seconds(tmp_path: Path) -> None:
    write_models(tmp_path, 300)
    _, cpu_s = judging_s(tmp_path, 2)
    assert cpu_s < 3.0


def test_importing_it_is_quick_and_brings_no_large_package() -> None:
    code = (
        "import time, sys; started = time.process_time(); import tritonforge_generator.lint;"
        "print(time.process_time() - started);"
        "print([m for m in ('numpy', 'onnx', 'onnxruntime', 'google.protobuf', 'grpc') if m in sys.modules])"
    )
    outputs = [
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True) for _ in range(3)
    ]
    assert min(float(done.stdout.split("\n")[0]) for done in outputs) < 0.5
    assert outputs[0].stdout.split("\n")[1] == "[]"


def test_the_benchmark_says_what_it_measured(capsys: pytest.CaptureFixture[str]) -> None:
    main(20, 1)
    assert "20 configs, rules on the text" in capsys.readouterr().out
