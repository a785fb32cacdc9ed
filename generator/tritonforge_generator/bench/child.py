"""Runs a worker: in the Python that has the runtime, watched, with its last words kept when it crashes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

import tritonforge_client
import tritonforge_generator
from tritonforge_generator.bench.runtimes import RUNTIMES, Interpreter, Runtime, install_advice
from tritonforge_generator.children import import_path
from tritonforge_generator.environment import inherited
from tritonforge_generator.errors import BenchError, RuntimeMissingError

OnMessage = Callable[[str, int | None], None]
"""Called with what a worker is doing, and the batch size that it is timing, if it is."""

_LAST_WORDS_BYTES: Final = 2000
_LONGEST_S: Final = 3600.0
_PATIENCE_S: Final = 5.0


def run_job(request: Mapping[str, Any], interpreter: Interpreter, on_message: OnMessage = lambda *_: None) -> Any:
    """Run one job of ``bench.worker`` in a process of its own.

    Args:
        request: What to do, as the worker reads it.
        interpreter: The Python to do it in.
        on_message: Told what it is doing.

    Returns:
        The job's result.

    Raises:
        RuntimeMissingError: The runtime is not there.
        BenchError: It is there and does not work, crashed or took more than an hour.
    """
    runtime = RUNTIMES[request["runtime"]]
    with _workplace() as folder:
        request_path, result_path, words_path = folder / "request.json", folder / "result.json", folder / "stderr"
        request_path.write_text(json.dumps(request), encoding="utf-8")
        command = [interpreter.python, str(folder / "worker.py"), str(request_path), str(result_path)]
        code = _followed(command, environment_of(interpreter), words_path, on_message, runtime)
        if not result_path.is_file():
            last_words = words_path.read_bytes()[-_LAST_WORDS_BYTES:].decode("utf-8", "replace").strip().splitlines()
            raise BenchError(
                f"the process of {runtime.label} crashed",
                expected="a result",
                got=" | ".join([_exit_text(code), *last_words[-3:]]),
            )
        result = json.loads(result_path.read_text(encoding="utf-8"))
    if "error" in result:
        raise _error_from(result["error"], runtime, interpreter)
    return result["result"]


@contextmanager
def _workplace() -> Iterator[Path]:
    """A folder with the program and our packages alone: other packages of this Python may not reach another one."""
    with tempfile.TemporaryDirectory(prefix="tritonforge-bench-") as name:
        folder = Path(name)
        for package in (tritonforge_generator, tritonforge_client):
            source = Path(package.__path__[0]).resolve()
            (folder / source.name).symlink_to(source)
        (folder / "worker.py").write_text(
            "import sys\nfrom pathlib import Path\nfrom tritonforge_generator.bench.worker import main\n"
            "sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))\n",
            encoding="utf-8",
        )
        yield folder


def environment_of(interpreter: Interpreter) -> dict[str, str]:
    """The environment variables that an interpreter runs with."""
    variables = inherited()
    if interpreter.is_own:
        variables["PYTHONPATH"] = import_path()
    else:  # they speak of this Python's packages
        for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
            variables.pop(name, None)
    for name, value in interpreter.variables:
        if value == "":
            variables.pop(name, None)
        elif name == "PYTHONPATH" and name in variables:
            variables[name] = f"{value}{os.pathsep}{variables[name]}"
        else:
            variables[name] = value
    return variables


def _followed(
    command: list[str], environment: Mapping[str, str], words_path: Path, on_message: OnMessage, runtime: Runtime
) -> int:
    """Run a process to its end.

    Returns:
        Its exit code.
    """
    overdue = threading.Event()
    with words_path.open("wb") as words, _started(command, environment, words, runtime) as child:

        def stop() -> None:
            overdue.set()
            _end(child)

        alarm = threading.Timer(_LONGEST_S, stop)
        alarm.daemon = True
        alarm.start()
        try:
            for line in child.stdout or ():
                if line.startswith(b'{"text"'):
                    message = json.loads(line)
                    on_message(message["text"], message["batch_size"])
            code = child.wait()
        finally:
            alarm.cancel()
    if overdue.is_set():
        raise BenchError(f"the process of {runtime.label} took too long", expected=f"at most {_LONGEST_S:g} s")
    return code


@contextmanager
def _started(
    command: list[str], environment: Mapping[str, str], words: IO[bytes], runtime: Runtime
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, so that Ctrl-C reaches this one only; it has ended when the block is left."""
    try:
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=words, env=dict(environment), start_new_session=True
        )
    except OSError as error:
        raise RuntimeMissingError(
            f"the Python for {runtime.label} cannot be started",
            expected="an executable",
            got=f"{command[0]} ({error.strerror})",
            action=f"Correct --python {runtime.name}=….",
        ) from error
    try:
        yield child
    finally:
        _end(child)
        child.communicate()


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a process that still runs, first by asking, so that it can end its own children."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is None:
            os.killpg(child.pid, number)
            with suppress(subprocess.TimeoutExpired):
                child.wait(_PATIENCE_S)


def _exit_text(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    hint = ", probably out of memory" if -code == signal.SIGKILL else ""
    return f"ended by {signal.Signals(-code).name}{hint}"


def _error_from(fields: Mapping[str, str], runtime: Runtime, interpreter: Interpreter) -> BenchError:
    kind = RuntimeMissingError if fields["kind"] == "RuntimeMissingError" else BenchError
    action = fields.get("action", "")
    if kind is RuntimeMissingError and action == "":
        action = install_advice(runtime, interpreter)
    return kind(fields["what"], expected=fields.get("expected", ""), got=fields.get("got", ""), action=action)
