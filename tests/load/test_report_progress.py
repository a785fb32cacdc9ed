from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tritonforge_load.report.progress import Progress


def phase(run: str, **more: Any) -> dict[str, Any]:
    usual = {"arrival": "poisson", "rate_per_s": 200, "users": None, "duration_s": 30, "measured": True}
    return {"event": "phase", "run": run, **usual, **more}


def second(run: str, at_s: float, **more: Any) -> dict[str, Any]:
    usual = {"rate_per_s": 199.0, "errors": 0, "shed": 0, "p50_ms": 1.2, "p99_ms": 4.5, "in_flight": 2}
    return {"event": "second", "run": run, "at_s": at_s, **usual, **more}


def events(runs: int = 2) -> Iterator[dict[str, Any]]:
    yield phase("warm", arrival="closed", rate_per_s=None, users=1, duration_s=2, measured=False)
    yield second("warm", 1)
    for number in range(1, runs + 1):
        run = f"peak@{number}00/s"
        yield phase(run)
        for at_s in range(1, 31):
            # Nothing is answered in the third second.
            silent = {"rate_per_s": 0.0, "p50_ms": None, "p99_ms": None} if at_s == 3 else {}
            yield second(run, at_s, **silent, **({"errors": 2, "shed": 1} if at_s == 15 else {}))
        held = number < runs
        reasons = [] if held else ["p99 is 31 ms [/x]"]
        yield {"event": "search", "run": run, "load": 200, "held": held, "reasons": reasons}
    yield {"event": "note", "text": "1 of 2 [load] generators died"}
    yield {"event": "unheard of"}


def test_elsewhere_there_is_a_line_a_run_and_one_each_ten_seconds() -> None:
    out = io.StringIO()
    with Progress(out) as progress:
        for event in events(1):
            progress.on_event(event)
    assert out.getvalue().splitlines() == [
        "phase warm: closed, 1 user, 2 s, not measured",
        "phase peak@100/s: poisson, 200 requests/s, 30 s",
        "  peak@100/s at 10 s: 199 requests/s, p50 1.20 ms, p99 4.50 ms",
        "  peak@100/s at 20 s: 199 requests/s, p50 1.20 ms, p99 4.50 ms, 2 errors, 1 shed",
        "  peak@100/s at 30 s: 199 requests/s, p50 1.20 ms, p99 4.50 ms, 2 errors, 1 shed",
        "  peak@100/s did not hold: p99 is 31 ms [/x]",
        "1 of 2 [load] generators died",
    ]


def test_a_second_of_an_unknown_run_is_passed_over() -> None:
    out = io.StringIO()
    with Progress(out) as progress:
        progress.on_event(second("nobody", 10))
        progress.on_event({})
    assert out.getvalue() == ""


_SHOW = """
import sys
from load.test_report_progress import events
from tritonforge_load.report.progress import Progress
with Progress() as progress:
    for event in events(int(sys.argv[1])):
        progress.on_event(event)
    if sys.argv[2:]:
        raise KeyboardInterrupt
"""


def on_terminal(columns: int, rows: int, *arguments: str) -> tuple[int, str]:
    """What a process writes to a terminal of a size."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[1]), "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [sys.executable, "-c", _SHOW, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    written = b""
    try:
        while chunk := os.read(ours, 65536):
            written += chunk
    except OSError:  # Linux's way to say that nobody has the other end any more
        pass
    os.close(ours)
    return process.wait(timeout=60), written.decode()


def last_table(written: str) -> list[str]:
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written).replace("\r", "")
    lines = [line.rstrip() for line in plain[plain.rindex("req/s") :].splitlines()[1:]]
    return [line for line in lines if line]


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_shows_all_runs_and_is_left_as_it_was(columns: int) -> None:
    code, written = on_terminal(columns, 24, "3")
    assert code == 0
    table = last_table(written)
    assert [line.split()[0] for line in table] == ["(warm)", "peak@100/s", "peak@200/s", "peak@300/s"]
    assert [line.split()[-1] for line in table[1:]] == ["held", "held", "no"]
    assert "2/2 s" in table[0], "a run that has ended is whole, whatever was told of it last"
    assert all(len(line) <= columns for line in table)
    assert "\N{HORIZONTAL ELLIPSIS}" not in "".join(table), "nothing is cut"
    assert "1 of 2 [load] generators died" in written
    assert ("poisson, 200/s" in table[1]) == (columns == 120)
    assert written.rstrip().endswith("\x1b[?25h"), "the cursor is shown again"


def test_a_low_terminal_shows_the_last_runs() -> None:
    _, written = on_terminal(80, 10, "9")
    table = last_table(written)
    assert table[-2].split()[0] == "peak@900/s"
    assert table[-1].strip() == "after 5 earlier runs"


def test_ctrl_c_leaves_the_terminal_as_it_was() -> None:
    code, written = on_terminal(80, 24, "1", "interrupt")
    assert code != 0
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h")
