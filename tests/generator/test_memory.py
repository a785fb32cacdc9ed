"""Weights outside the model file are never loaded by anybody but ONNX Runtime."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from onnx import TensorProto, helper
from support import graphs

WIDTH = 23_200
WEIGHT_BYTES = WIDTH * WIDTH * 4
PEAK = """
import re, sys
from pathlib import Path
{body}
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""
ONNX_RUNTIME_ALONE = """
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
session.run(None, {"x": numpy.zeros((32, session.get_inputs()[0].shape[1]), numpy.float32)})
"""
GENERATE = """
from tritonforge_generator.pipeline import generate
from tritonforge_generator.spec import forge_spec_from_flags
spec = forge_spec_from_flags({"name": "large", "source": sys.argv[1]}, repository=Path(sys.argv[2]))
generate(spec, serve_check=False)
"""


def peak_bytes(body: str, *arguments: Path) -> int:
    command = [sys.executable, "-c", PEAK.format(body=body), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    return int(done.stdout.splitlines()[-1]) * 1024


def large(path: Path) -> Path:
    """Two gigabytes of zeros in a sparse external file."""
    weight = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH])
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", str(WEIGHT_BYTES))):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    with (path.parent / "weights.bin").open("wb") as stream:
        stream.truncate(WEIGHT_BYTES)
    node = helper.make_node("MatMul", ["x", "weight"], ["y"])
    shape = ("batch", WIDTH)
    return graphs.save(path, [node], [graphs.tensor("x", shape=shape)], [graphs.tensor("y", shape=shape)], [weight])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_gigabytes_of_weights_stay_outside(tmp_path: Path) -> None:
    source = large(tmp_path / "large.onnx")
    alone = peak_bytes(ONNX_RUNTIME_ALONE, source)
    generating = peak_bytes(GENERATE, source, tmp_path / "repo")
    print(f"ONNX Runtime alone {alone / 1e6:.0f} MB, generating {generating / 1e6:.0f} MB")
    assert (tmp_path / "repo/large/1/weights.bin").stat().st_size == WEIGHT_BYTES
    assert generating - alone < 500e6
