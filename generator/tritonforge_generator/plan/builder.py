"""The plan stage: builds in a child process, so that a crash of the builder is an error message here."""

from __future__ import annotations

import json
import os
import queue
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Final

from tritonforge_generator import errors
from tritonforge_generator.children import import_path
from tritonforge_generator.environment import inherited
from tritonforge_generator.errors import PlanBuildError, PlanError
from tritonforge_generator.plan.build import BuildRequest, request_to_json
from tritonforge_generator.plan.cuda import Gpu
from tritonforge_generator.plan.engine import PlanTensor, ShapeRange
from tritonforge_generator.plan.layers import Layer, PrecisionProof
from tritonforge_generator.plan.plan import Plan, TimingCacheUse
from tritonforge_generator.plan.profiles import Profile
from tritonforge_generator.plan.progress import OnProgress
from tritonforge_generator.plan.recipe import KnownPlan
from tritonforge_generator.spec import PrecisionType, TensorRTOptions

_LAST_WORDS: Final = 20


def plan_from_onnx(
    network: Path,
    destination: Path,
    options: TensorRTOptions,
    *,
    precision: PrecisionType,
    profiles: Sequence[Profile],
    known: Mapping[str, KnownPlan] = MappingProxyType({}),
    on_progress: OnProgress = lambda *_: None,
) -> Plan:
    """Build a plan, or take a known one that was made from the same.

    Args:
        network: The ONNX file, already in the types it is to compute in. It is only read.
        destination: Where the plan goes; nothing is there unless the build succeeded.
        options: How to build.
        precision: What the graph was typed for.
        profiles: Optimisation profiles with the shapes of every input.
        known: Plans that were built before, by recipe; ``timing_cache: false`` builds all the same.
        on_progress: Told how far the build is.

    Returns:
        The plan with its facts.

    Raises:
        PlanBuildError: The builder refused, crashed, or took longer than ``time_budget_s``; with its last words and
            a folder that repeats the build.
        PlanError: An option is not available in the installed TensorRT.
        TensorRTMissingError: TensorRT or a GPU is missing.
    """
    work = Path(tempfile.mkdtemp(prefix="tritonforge-build-"))
    partial = work / "model.plan"
    request = BuildRequest(
        network=network.absolute(),
        destination=partial,
        precision=precision,
        profiles=tuple(profiles),
        options=options,
        known={recipe: KnownPlan(path=plan.path.absolute(), sha256=plan.sha256) for recipe, plan in known.items()},
    )
    try:
        result = _run_child(work, request, on_progress)
        shutil.move(partial, destination)
    except PlanBuildError:
        partial.unlink(missing_ok=True)  # the folder stays, to repeat the build with
        raise
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work, ignore_errors=True)
    return _plan_from_facts(result, destination)


def _run_child(work: Path, request: BuildRequest, on_progress: OnProgress) -> Mapping[str, Any]:
    request_path, result_path = work / "request.json", work / "result.json"
    request_path.write_text(json.dumps(request_to_json(request), indent=1), encoding="utf-8")
    command = [sys.executable, "-m", "tritonforge_generator.plan.child", str(request_path), str(result_path)]
    replay = work / "replay.sh"
    packages = import_path()
    script = f"#!/bin/sh\nexport PYTHONPATH={shlex.quote(packages)}\nexec {shlex.join(command)}\n"
    replay.write_text(script, encoding="utf-8")
    replay.chmod(0o755)
    environment = {**inherited(), "PYTHONPATH": packages}
    # A session of its own: Ctrl-C reaches this process only, which then ends the whole group.
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, start_new_session=True
    )
    try:
        last_words = _follow(child, request.options.time_budget_s, on_progress, replay)
    finally:
        _end(child)
    if not result_path.is_file():
        raise PlanBuildError(
            f"the builder ended without a word about {request.network.name}",
            expected="a plan or a reason",
            got=_exit_text(child.returncode) + (f" after: {last_words}" if last_words else ""),
            action=f"Repeat it with {replay}.",
        )
    result = json.loads(result_path.read_text(encoding="utf-8"))
    if "error" in result:
        raise _error_from(result, replay)
    plan: Mapping[str, Any] = result["plan"]
    return plan


def _follow(child: subprocess.Popen[bytes], time_budget_s: float | None, on_progress: OnProgress, replay: Path) -> str:
    """Pass progress on until the child ends.

    Returns:
        The last lines of its standard error.
    """
    lines: queue.Queue[bytes | None] = queue.Queue()
    words: deque[str] = deque(maxlen=_LAST_WORDS)

    def read_progress(stream: IO[bytes]) -> None:
        for line in stream:
            lines.put(line)
        lines.put(None)

    def read_words(stream: IO[bytes]) -> None:
        words.extend(line.decode("utf-8", "replace").rstrip() for line in stream)

    streams = ((read_progress, child.stdout), (read_words, child.stderr))
    readers = [threading.Thread(target=read, args=(stream,), daemon=True) for read, stream in streams]
    for reader in readers:
        reader.start()
    deadline = None if time_budget_s is None else time.monotonic() + time_budget_s
    while True:
        try:
            line = lines.get(timeout=None if deadline is None else max(deadline - time.monotonic(), 0.0))
        except queue.Empty:
            raise PlanBuildError(
                "the build took longer than allowed",
                expected=f"at most {time_budget_s:g} s (tensorrt.time_budget_s)",
                got="no plan by then",
                action=f"Raise it, or lower tensorrt.builder_optimization_level. {replay} builds without a limit.",
            ) from None
        if line is None:
            break
        if line.startswith(b'{"share"'):
            message = json.loads(line)
            on_progress(message["share"], message["text"])
    child.wait()
    readers[1].join()
    return " | ".join(line for line in words if line)


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for stream in (child.stdout, child.stderr):
        if stream is not None:
            stream.close()


def _exit_text(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        hint = ", probably out of memory" if name == "SIGKILL" else ""
        return f"it was ended by {name}{hint}"
    return f"exit code {code}"


def _error_from(result: Mapping[str, str], replay: Path) -> PlanError:
    kind = getattr(errors, result["error"], PlanError)
    what, expected, got, action = (result[name] for name in ("what", "expected", "got", "action"))
    if issubclass(kind, PlanBuildError):
        action = f"{action} Repeat the build with {replay}.".strip()
    error: PlanError = kind(what, expected=expected, got=got, action=action)
    return error


def _plan_from_facts(facts: Mapping[str, Any], path: Path) -> Plan:
    return Plan(
        **{
            **facts,
            "path": path,
            "gpu": Gpu(**facts["gpu"]),
            "tensors": tuple(PlanTensor(**{**tensor, "shape": tuple(tensor["shape"])}) for tensor in facts["tensors"]),
            "profiles": tuple(
                {
                    name: ShapeRange(**{bound: tuple(shape) for bound, shape in shapes.items()})
                    for name, shapes in profile.items()
                }
                for profile in facts["profiles"]
            ),
            "device_memory_bytes": tuple(facts["device_memory_bytes"]),
            "layers": tuple(Layer(**{**layer, "nodes": tuple(layer["nodes"])}) for layer in facts["layers"]),
            "proof": PrecisionProof(**facts["proof"]),
            "timing_cache": TimingCacheUse(**facts["timing_cache"]),
        }
    )
