"""A module of the tests in a process of its own, which answers what it is asked: a line of JSON for a line of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from typing_extensions import Self

_TESTS: Final = Path(__file__).parents[1]
_END_S: Final = 10.0


class Child:
    """A process that ends when its standard input does, so also when this one dies.

    Args:
        module: What it runs, ``support.responder`` for one. It says its first line when it is ready.
        arguments: Its command line.

    Attributes:
        said: Its first line.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", module, *arguments]
        self._process = subprocess.Popen(
            command, cwd=_TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self.said = self.answer()

    def tell(self, question: Any) -> None:
        """Send a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(question)}\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """Wait for a line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line != "", f"the process ended with exit code {self._process.wait(_END_S)}; its errors are above"
        return json.loads(line)

    def close(self) -> None:
        """Let it end, by force if need be."""
        try:
            self._process.communicate(timeout=_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def say(answer: Any) -> None:
    """Send a line to the process that started this one."""
    sys.stdout.write(f"{json.dumps(answer)}\n")
    sys.stdout.flush()
