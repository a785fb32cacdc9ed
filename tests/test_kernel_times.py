"""The benchmark that sums kernel times reads what Nsight Compute writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.kernel_times import KernelTime, kernels_from_csv

SCRIPT = Path(__file__).parent / "benchmarks/kernel_times.py"
TABLE = """==PROF== Connected to process 1158
"ID","Kernel Name","Metric Name","Metric Unit","Metric Value"
"0","gelu","gpu__time_duration.sum","ns","22,688"
"1","gemm","gpu__time_duration.sum","us","42.5"
"2","gelu","gpu__time_duration.sum","ns","312"
"3","gelu","another","%","1"
"""


def test_kernels_are_summed_by_name_the_longest_first() -> None:
    assert kernels_from_csv(TABLE) == [KernelTime("gemm", 1, 42.5), KernelTime("gelu", 2, 22.688 + 0.312)]


@pytest.mark.parametrize(
    ("output", "code", "words"),
    [(TABLE, 0, "65.5 us in 3 kernels"), ("==ERROR== no counters\n", 1, "==ERROR== no counters")],
)
def test_what_the_profiler_says_is_shown(tmp_path: Path, output: str, code: int, words: str) -> None:
    ncu = tmp_path / "ncu"
    ncu.write_text(f"#!{sys.executable}\nprint({output!r})\n")
    ncu.chmod(0o755)
    command = [sys.executable, str(SCRIPT), "model.plan", "--ncu", str(ncu)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert words in done.stdout + done.stderr
