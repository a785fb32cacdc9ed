"""The command line as a user types it, in this process."""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from tritonforge_generator.cli.main import main


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def tritonforge(folder: Path, *arguments: str, stdin: str = "") -> Done:
    """Run the command in this process, which has its imports already; ``test_main`` starts real ones."""
    before, own_stdin = Path.cwd(), sys.stdin
    stdout, stderr = io.StringIO(), io.StringIO()
    os.chdir(folder)
    sys.stdin = io.StringIO(stdin)
    try:
        with redirect_stdout(stdout), redirect_stderr(stderr):
            main(list(arguments))
    except SystemExit as ended:
        return Done(int(ended.code or 0), stdout.getvalue(), stderr.getvalue())
    finally:
        os.chdir(before)
        sys.stdin = own_stdin
    raise AssertionError("the command line always exits")
