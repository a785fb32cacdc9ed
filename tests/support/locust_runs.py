"""Locust as its users run it: its own command line, in processes of their own, which end with the test."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

LOCUSTFILE: Final = Path(__file__).parents[2] / "load_tests" / "locustfile.py"


@contextlib.contextmanager
def started_locust(
    *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Start Locust; whatever is left of it at the end is killed.

    Args:
        arguments: Its command line.
        cwd: Where it runs.
        environment: Variables beside those of this process.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "locust", *arguments],
        cwd=cwd, env={**os.environ, **(environment or {})}, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def run_locust(
    *arguments: str, cwd: Path, timeout_s: float = 40.0, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Locust to its end.

    Args:
        arguments: Its command line.
        cwd: Where it runs.
        timeout_s: When it must have ended.
        environment: Variables beside those of this process.
    """
    with started_locust(*arguments, cwd=cwd, environment=environment) as process:
        output, errors = process.communicate(timeout=timeout_s)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def write_locustfile(folder: Path, text: str, **values: object) -> Path:
    """Write a locustfile.

    Args:
        folder: Where.
        text: What it says.
        values: What its words in capitals stand for.
    """
    for name, value in values.items():
        text = re.sub(rf"\b{name}\b", repr(value), text)
    path = folder / "locustfile.py"
    path.write_text(text)
    return path


def worker_ports(port: int) -> list[str]:
    """Options that keep a master and its workers apart from those of other tests."""
    return ["--master-bind-host", "127.0.0.1", "--master-bind-port", str(port), "--master-port", str(port)]


def wait_until(holds: Callable[[], object], *, timeout_s: float = 15.0) -> bool:
    """Ask again and again until something holds; an answer that does not come counts as a no."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(OSError):
            if holds():
                return True
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.05)


def fetched(url: str, form: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Ask Locust's web page for JSON; with a form it is sent by POST."""
    data = None if form is None else urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(url, data, timeout=5) as answer:
        page: dict[str, Any] = json.load(answer)
        return page


def lines_of(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    """Lines of a CSV file that Locust wrote, by type and name."""
    with path.open(newline="") as file:
        return {(line["Type"], line["Name"]): line for line in csv.DictReader(file)}


def stats_of(done: subprocess.CompletedProcess[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """What ``--json`` printed, Locust's own final counts, by type and name."""
    return {(entry["method"], entry["name"]): entry for entry in json.loads(done.stdout)}
