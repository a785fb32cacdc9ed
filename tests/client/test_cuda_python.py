"""What the client asks of cuda-python is there, in the releases that the extra allows; no GPU is needed to see it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from support.extras import run_without_extras

from tritonforge_client import cuda_python
from tritonforge_client.core.cuda import CudaError, CudaRuntime
from tritonforge_client.cuda_python import CudaPython, cuda_runtime

SOURCE = Path(cuda_python.__file__).read_text("utf-8")
# The oldest that pip finds, the last with its own runtime, the last of 12, and two of 13.
RELEASES = ("cuda-python==12.1.0", "cuda-bindings==12.8.0", "cuda-bindings==12.9.10", "cuda-bindings==13.0.3")

# Every call, past the question for the current GPU, which is the first that fails where there is none.
_CALLS = """
import contextlib, ctypes, sys
from tritonforge_client.core.cuda import CudaError
from tritonforge_client.cuda_python import CudaPython, cuda_runtime

runtime = cuda_runtime()
module = runtime._cuda
assert sys.argv[1] in module.__file__, module.__file__
places = (module, module.cudaError_t, module.cudaMemcpyKind)
missing = [name for name in sys.argv[2].split(",") if not any(hasattr(place, name) for place in places)]
assert missing == [], missing
assert len(ctypes.string_at(module.cudaIpcMemHandle_t().getPtr(), 64)) == 64
assert int(module.cudaStreamLegacy) == 1
CudaPython.on = lambda self, device_id: contextlib.nullcontext()
for name, arguments in (("allocate", (0, 1)), ("free", (0, 4096)), ("ipc_handle", (0, 4096)),
                        ("copy", (0, 4096, 8192, 4)), ("synchronize", (0,)), ("drain", (0,))):
    try:
        getattr(runtime, name)(*arguments)
    except CudaError as error:
        print(name, error)
"""


def names_used() -> set[str]:
    """Every name of cuda-python in the module's source."""
    nodes = list(ast.walk(ast.parse(SOURCE)))
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {name for name in attributes | texts if name.startswith("cuda") and name[4:5].isupper()}


def test_the_names_are_found() -> None:
    assert {"cudaMalloc", "cudaMemcpyKind", "cudaStreamLegacy", "cudaGetErrorString"} <= names_used()
    assert len(names_used()) == 14


def test_without_a_gpu_every_call_is_an_error_in_words() -> None:
    pytest.importorskip("cuda.bindings.runtime")
    runtime: CudaRuntime = cuda_runtime()
    assert isinstance(runtime, CudaPython)
    try:
        address = runtime.allocate(0, 1)
    except CudaError as error:
        assert str(error).startswith("cudaGetDevice: ")  # noqa: PT017 - there may be a GPU
    else:
        runtime.free(0, address)


def test_without_cuda_python_the_error_says_what_to_install() -> None:
    code = """
from tritonforge_client import Client, MissingExtraError
from tritonforge_client.cuda_python import cuda_runtime
try:
    cuda_runtime()
except MissingExtraError as error:
    print(error)
"""
    run = run_without_extras(code)
    assert run.stdout == "cuda.bindings.runtime is not installed; run: pip install 'tritonforge[cuda]'\n", run.stderr


@pytest.mark.peer
@pytest.mark.timeout(600)
@pytest.mark.parametrize("release", RELEASES)
def test_a_release_of_cuda_python_takes_every_call(release: str, tmp_path: Path) -> None:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path), release]
    installed = subprocess.run(install, capture_output=True, text=True, check=False, timeout=500)
    if installed.returncode != 0:
        pytest.skip(f"pip finds no wheel of {release} here: {installed.stderr.strip().splitlines()[-1]}")
    script = f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n{_CALLS}"
    command = [sys.executable, "-c", script, str(tmp_path), ",".join(sorted(names_used()))]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stderr
    # A call that cuda-python does not take so is a TypeError; without a GPU each of these is refused by CUDA.
    said = [line.split()[:2] for line in run.stdout.splitlines()]
    assert said in (
        [],
        [
            ["allocate", "cudaMalloc:"],
            ["free", "cudaFree:"],
            ["ipc_handle", "cudaIpcGetMemHandle:"],
            ["copy", "cudaMemcpyAsync:"],
            ["synchronize", "cudaStreamSynchronize:"],
            ["drain", "cudaDeviceSynchronize:"],
        ],
    )
