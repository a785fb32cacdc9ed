"""Runs one server as its parent: ends it when told to or when nobody is left to tell, and leaves nothing behind.

A program of its own (standard library only), because what it guards against is the sudden death of the process that
started the server. It is told to stop by a signal, notices the death of its parent, adopts the server's orphans, and
removes the scratch folder and the shared-memory regions whatever happened.

Usage: ``python -I -S supervisor.py PARENT_PID STOP_TIMEOUT_S SCRATCH SHM_PREFIX PID_FD -- COMMAND...``
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
_STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_WATCHED = {*_STOP_SIGNALS, signal.SIGCHLD}
_PARENT_CHECK_S = 0.2
_LIBC = ctypes.CDLL(None)


def _prepare_server() -> None:
    """Runs in the server's process before its program: safe here, for this process has a single thread."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _watch(server: subprocess.Popen[bytes], *, parent_pid: int, stop_timeout_s: float) -> int:
    """Wait for the server's end; bring it about once asked to, or once the parent is gone."""
    kill_at: float | None = None
    while server.poll() is None:
        received = signal.sigtimedwait(_WATCHED, _PARENT_CHECK_S)
        asked = received is not None and received.si_signo in _STOP_SIGNALS
        if kill_at is None and (asked or os.getppid() != parent_pid):
            server.terminate()
            kill_at = time.monotonic() + stop_timeout_s
        elif kill_at is not None and time.monotonic() > kill_at:
            server.kill()
    return server.returncode


def _kill_orphans() -> None:
    """Kill and reap what the server left running: its orphans are children of this process now."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while True:
        with contextlib.suppress(OSError):
            for pid in children.read_text("ascii").split():
                os.kill(int(pid), signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def remove_leftovers(scratch: Path, shm_prefix: str) -> None:
    """Remove the scratch folder of a server and its stubs' shared-memory regions."""
    for region in Path("/dev/shm").glob(f"{shm_prefix}*"):  # noqa: S108
        region.unlink(missing_ok=True)
    shutil.rmtree(scratch, ignore_errors=True)


def main(arguments: list[str]) -> int:
    """Run the command to its end.

    Returns:
        The command's exit code; 128 plus the signal's number when a signal ended it.
    """
    parent_pid, stop_timeout_s, scratch, shm_prefix, pid_fd, _, *command = arguments
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_prepare_server)  # noqa: PLW1509
        with os.fdopen(int(pid_fd), "w") as pid_pipe:
            pid_pipe.write(str(server.pid))
        returncode = _watch(server, parent_pid=int(parent_pid), stop_timeout_s=float(stop_timeout_s))
    finally:
        _kill_orphans()
        remove_leftovers(Path(scratch), shm_prefix)
    return returncode if returncode >= 0 else 128 - returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
