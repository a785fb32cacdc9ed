"""What is imported when, seen from fresh interpreters."""

import json
import resource
import subprocess
import sys

import pytest

HEAVY = ["grpc", "urllib3", "tritonclient", "jinja2", "google.protobuf", "aiohttp", "gevent"]


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport json, sys\nprint(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(run.stdout))


def test_importing_the_client_imports_no_transport() -> None:
    assert modules_after("import tritonforge_client, tritonforge_client.codegen") == set()


def test_http_needs_no_library_at_all() -> None:
    code = """
from tritonforge_client import Client, TritonError
try:
    Client("http://127.0.0.1:1").spec("m")
except TritonError:
    pass
"""
    assert modules_after(code) == set()


def test_grpc_inference_needs_no_library_at_all() -> None:
    code = """
import numpy as np
from tritonforge_client import Client, TritonError
try:
    Client("grpc://127.0.0.1:1").infer("m", {"x": np.zeros(1, np.float32)})
except TritonError:
    pass
"""
    assert modules_after(code) == set()


def test_grpc_administration_needs_no_urllib3() -> None:
    code = """
from tritonforge_client import Client, TritonError
try:
    Client("grpc://127.0.0.1:1").spec("m")
except TritonError:
    pass
"""
    assert "urllib3" not in modules_after(code)


def test_the_client_adds_little_to_the_import_of_numpy() -> None:
    """In processor time, which other programs on the machine hardly change."""

    def cpu_s(code: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # In turns: the processor itself is slower at times.
    pairs = [(cpu_s("import tritonforge_client"), cpu_s("import numpy")) for _ in range(7)]
    assert min(ours for ours, _ in pairs) - min(numpy for _, numpy in pairs) < 0.1


@pytest.mark.parametrize("module", ["tritonforge_generator", "tritonforge_load"])
def test_the_client_knows_nothing_of_the_other_packages(module: str) -> None:
    script = f"import sys, tritonforge_client, tritonforge_client.codegen\nassert {module!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
