"""The process that runs a runtime, seen from its parent."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.stand_in_plans import STAND_IN, write_plan

from tritonforge_generator.bench import child
from tritonforge_generator.bench.child import run_job
from tritonforge_generator.bench.runtimes import Interpreter, interpreters_from_flags
from tritonforge_generator.errors import BenchError, RuntimeMissingError, SpecError

PROBE = {"job": "probe", "runtime": "onnxruntime-cpu", "device_id": 0}
Program = Callable[[str], str]


def request_for(model: Path, folder: Path, **changes: Any) -> Mapping[str, Any]:
    images = np.random.default_rng(0).standard_normal((5, 3, 16, 16)).astype(np.float32)
    np.savez(folder / "samples.npz", **{"input/images": images})
    return {
        "job": "measure",
        "runtime": "onnxruntime-cpu",
        "precision": "FP32",
        "model": str(model),
        "plan": None,
        "torch": None,
        "device_id": 0,
        "inputs": ["images"],
        "outputs": ["logits"],
        "samples": str(folder / "samples.npz"),
        "answers": str(folder / "answers.npz"),
        "batched": True,
        "batch_sizes": [1, 4],
        "seconds": 0.05,
        "repeats": 2,
        **changes,
    }


def test_a_probe_says_versions() -> None:
    version = run_job(PROBE, Interpreter())
    assert "ONNX Runtime 1." in version
    assert f"Python {sys.version_info.major}.{sys.version_info.minor}" in version


def test_a_measurement_says_what_it_does(network: Path, tmp_path: Path) -> None:
    said: list[tuple[str, int | None]] = []
    result = run_job(request_for(network, tmp_path), Interpreter(), lambda *words: said.append(words))
    assert [text for text, size in said if size is None] == ["loading", "answering"]
    assert {size for _, size in said} == {None, 1, 4}
    assert set(result["rows"]) == {"1", "4"}
    assert result["on_gpu"] is False
    assert result["pass_ms"] > 0
    with np.load(tmp_path / "answers.npz") as answers:
        assert {name: answers[name].shape for name in answers} == {
            "1/logits": (1, 10),
            "4/logits": (4, 10),
            "all/logits": (5, 10),
        }


def test_a_crash_is_an_error_with_the_last_words(program: Program) -> None:
    crashing = program("echo 'CUDA error: an illegal memory access' >&2\nkill -SEGV $$")
    with pytest.raises(BenchError, match=r"ONNX Runtime CPU crashed.*ended by SIGSEGV.*illegal memory access"):
        run_job(PROBE, Interpreter(python=crashing))


def test_an_end_without_a_result_is_a_crash(program: Program) -> None:
    with pytest.raises(BenchError, match=r"crashed.*exit code 7"):
        run_job(PROBE, Interpreter(python=program("exit 7")))


def test_a_python_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RuntimeMissingError, match=r"No such file.*Correct --python onnxruntime-cpu="):
        run_job(PROBE, Interpreter(python=str(tmp_path / "no" / "python")))


HIDING = """
from importlib.machinery import PathFinder
found = PathFinder.find_spec
hidden = {"torch", "tensorrt"}
PathFinder.find_spec = lambda name, *more: None if name.partition(".")[0] in hidden else found(name, *more)
"""


@pytest.mark.parametrize(("runtime", "package"), [("pytorch", "torch"), ("tensorrt", "tensorrt")])
def test_what_is_missing_says_how_to_get_it(runtime: str, package: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDING)
    without = Interpreter(variables=(("PYTHONPATH", str(tmp_path)),))
    with pytest.raises(RuntimeMissingError) as caught:
        run_job({**PROBE, "runtime": runtime}, without)
    assert caught.value.what == f"{package} is not installed"
    assert f"{sys.executable} -m pip install " in caught.value.action
    assert f"--python {runtime}=" in caught.value.action


def test_onnx_runtime_without_cuda_is_missing() -> None:
    with pytest.raises(RuntimeMissingError, match=r"no CUDA provider: .*-m pip install onnxruntime-gpu"):
        run_job({**PROBE, "runtime": "onnxruntime-cuda"}, Interpreter())


def test_a_python_without_numpy_says_so(program: Program) -> None:
    with pytest.raises(BenchError, match="No module named 'numpy'"):
        run_job(PROBE, Interpreter(python=program(f'exec {sys.executable} -S "$@"')))


def test_variables_are_set_and_unset(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/not/for/others")
    monkeypatch.setenv("PYTHONHOME", sys.prefix)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/stand/ins")
    monkeypatch.setenv("KEPT", "1")
    dump = tmp_path / "environment"
    other = Interpreter(
        python=program(f"env > {dump}; exit 1"),
        variables=(("LD_LIBRARY_PATH", ""), ("CUDA_VISIBLE_DEVICES", "2"), ("PYTHONPATH", "/theirs")),
    )
    with pytest.raises(BenchError):
        run_job(PROBE, other)
    found = dict(line.split("=", 1) for line in dump.read_text().splitlines() if "=" in line)
    assert found["CUDA_VISIBLE_DEVICES"] == "2"
    assert found["PYTHONPATH"] == "/theirs"
    assert found["KEPT"] == "1"
    assert "LD_LIBRARY_PATH" not in found
    assert "PYTHONHOME" not in found


def test_own_python_keeps_its_packages_beside_a_variable() -> None:
    assert "ONNX Runtime" in run_job(PROBE, Interpreter(variables=(("PYTHONPATH", "/theirs"),)))


def test_flags_name_pythons_and_variables() -> None:
    found = interpreters_from_flags(["pytorch=sh", "tensorrt=/opt/p"], ["pytorch:A=b=c", "pytorch:D=", "tensorrt:E=f"])
    assert found["pytorch"].python.endswith("/sh"), "looked for on PATH"
    assert found["pytorch"].variables == (("A", "b=c"), ("D", ""))
    assert found["tensorrt"] == Interpreter(python="/opt/p", variables=(("E", "f"),))


@pytest.mark.parametrize(
    ("pythons", "variables"), [(["pytorch"], []), ([], ["pytorch:A"]), ([], ["A=b"]), (["=x"], [])]
)
def test_flags_that_cannot_be_read(pythons: list[str], variables: list[str]) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        interpreters_from_flags(pythons, variables)


def test_the_worker_needs_numpy_and_its_runtime_alone(network: Path, tmp_path: Path) -> None:
    """Run it as a Python would that lacks everything else that this package uses."""
    request = tmp_path / "request.json"
    request.write_text(json.dumps(request_for(network, tmp_path)))
    code = f"""
import sys
LACKING = {{"pydantic", "pydantic_core", "onnx", "click", "tritonclient", "grpc", "urllib3", "rich", "jinja2", "yaml",
           "typing_extensions", "tritonforge_client"}}
class Blocked:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in LACKING:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked)
from pathlib import Path
from tritonforge_generator.bench import worker
import tritonforge_generator.bench.subjects.pytorch
sys.exit(worker.main(Path({str(request)!r}), Path({str(tmp_path / "result.json")!r})))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(json.loads((tmp_path / "result.json").read_text())["result"]["rows"]) == {"1", "4"}


def test_a_plan_is_measured(tmp_path: Path) -> None:
    """With a stand-in for TensorRT and CUDA, whose engine negates; INT64 becomes what the plan takes."""
    plan = write_plan(
        tmp_path / "model.plan",
        tensors=[("x", "int32", [-1, 4]), ("y", "int32", [-1, 4])],
        outputs={"y": ["negative", "x"]},
        profiles=[{"x": ([1, 4], [4, 4], [8, 4])}],
        run_s=0.001,
    )
    rows = np.arange(20, dtype=np.int64).reshape(5, 4)
    request = request_for(tmp_path / "none.onnx", tmp_path, runtime="tensorrt", plan=str(plan), inputs=["x"])
    np.savez(tmp_path / "samples.npz", **{"input/x": rows})
    result = run_job(request, Interpreter(variables=(("PYTHONPATH", str(STAND_IN)),)))
    assert result["on_gpu"] is True
    assert result["rows"]["4"]["total"]["p50_ms"] >= 1
    with np.load(tmp_path / "answers.npz") as answers:
        assert np.array_equal(answers["all/y"], -rows)
        assert np.array_equal(answers["4/y"], -rows[:4])


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Whether a process ended; one that nobody has asked about yet counts."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def test_ctrl_c_ends_the_worker_and_what_it_started(program: Program) -> None:
    worker = program(
        "setsid sleep 300 &\ntrap 'kill $!; exit 1' TERM\n"
        'echo "{\\"text\\": \\"$$ $!\\", \\"batch_size\\": null}"\nwait'
    )
    code = f"""
from tritonforge_generator.bench.child import run_job
from tritonforge_generator.bench.runtimes import Interpreter
run_job({PROBE!r}, Interpreter(python={worker!r}), lambda text, _: print(text, flush=True))
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        pids = (parent.stdout.readline() if parent.stdout else "").split()
        parent.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in parent.communicate(timeout=60)[1]
    assert len(pids) == 2
    eventually(lambda: all(gone(int(pid)) for pid in pids))


def test_a_worker_that_does_not_listen_is_killed(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "_LONGEST_S", 0.5)
    monkeypatch.setattr(child, "_PATIENCE_S", 0.2)
    deaf = program(f"trap '' TERM\necho $$ > {tmp_path / 'pid'}\nwhile true; do sleep 0.1; done")
    with pytest.raises(BenchError, match=r"took too long: expected at most 0\.5 s"):
        run_job(PROBE, Interpreter(python=deaf))
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_worker_does_not_outlive_its_parent(network: Path, tmp_path: Path) -> None:
    code = f"""
import os
from tritonforge_generator.bench.child import run_job
from tritonforge_generator.bench.runtimes import Interpreter
def report(text, batch_size):
    if batch_size is not None:
        print(open(f"/proc/{{os.getpid()}}/task/{{os.getpid()}}/children").read(), flush=True)
run_job({dict(request_for(network, tmp_path, seconds=300.0))!r}, Interpreter(), report)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with parent:
        (pid,) = (parent.stdout.readline() if parent.stdout else "").split()
        parent.kill()
    eventually(lambda: gone(int(pid)))
