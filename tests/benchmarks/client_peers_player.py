"""One client in a process of its own, which plays a round whenever it is told to.

What malloc learned of another client's buffers changes nothing then. ``client_peers.py`` runs it: a line on its
standard input for each round, a line of JSON on its standard output for each result.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a script, this folder is no package yet
from benchmarks.client_peers_clients import ASYNC, SYNC, Array, AsyncCall

AT_ONCE, CALLS_A_ROUND = 64, 512
LARGE_AT_ONCE = 8
TICK_S = 0.001
WARM_UP_S = 0.3


class Player:
    """A client in a process of its own.

    Args:
        part: ``sync``, ``async`` or ``loop``.
        name: The client, by its name in the table of that part.
        url: Where it calls.
        shape: Shape of the tensor that it sends and receives.
        calls: Calls of a round, one after the other (``sync``).
    """

    def __init__(self, part: str, name: str, url: str, shape: tuple[int, ...], *, calls: int = 1) -> None:
        self.name = name
        task = json.dumps({"part": part, "name": name, "url": url, "shape": shape, "calls": calls})
        self._process = subprocess.Popen(
            [sys.executable, __file__, task], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._read()

    def round(self) -> Mapping[str, list[float]]:
        """Play a round: ``us`` of each call, or what the part measures."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=60)

    def _read(self) -> Mapping[str, list[float]]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended: see above")
        result: Mapping[str, list[float]] = json.loads(line)
        return result


@contextmanager
def players(
    part: str, names: Mapping[str, str], shape: tuple[int, ...], *, calls: int = 1
) -> Iterator[dict[str, Player]]:
    """Start players by name, each at its URL."""
    with ExitStack() as stack:
        started = {}
        for name, url in names.items():
            started[name] = Player(part, name, url, shape, calls=calls)
            stack.callback(started[name].close)
        yield started


def random_array(shape: tuple[int, ...]) -> Array:
    """The same noise in every run."""
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def check_echo(name: str, reply: Any, array: Array) -> None:
    """Stop when a client does not return what it sent."""
    if not np.array_equal(reply, array):
        raise SystemExit(f"{name} returned another array than it sent")


async def ticker_lateness_ms(work: Awaitable[Any]) -> list[float]:
    """Run a ticker beside some work; returns how late each tick came."""
    late_ms: list[float] = []

    async def tick() -> None:
        while True:
            due = time.perf_counter() + TICK_S
            await asyncio.sleep(TICK_S)
            late_ms.append((time.perf_counter() - due) * 1e3)

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0)
    await work
    # The tick that the end of the work has delayed counts too.
    await asyncio.sleep(2 * TICK_S)
    ticker.cancel()
    return late_ms


# ---- in the process ----


def main() -> None:
    """Play."""
    task = json.loads(sys.argv[1])
    task["shape"] = tuple(task["shape"])
    if task.pop("part") == "sync":
        play(**task)
    else:
        play_async = {"async": many_calls, "loop": large_calls}[json.loads(sys.argv[1])["part"]]
        asyncio.run(play_in_loop(task["name"], task["url"], task["shape"], play_async))


def say(result: Mapping[str, list[float]]) -> None:
    """Answer the other process."""
    print(json.dumps(result), flush=True)


def play(name: str, url: str, shape: tuple[int, ...], calls: int) -> None:
    """Calls one after the other."""
    array = random_array(shape)
    with SYNC[name].open(url, array) as call:
        check_echo(name, call(), array)
        end_s = time.perf_counter() + WARM_UP_S
        while time.perf_counter() < end_s:
            call()
        say({})
        for _ in sys.stdin:
            times_us = []
            for _ in range(calls):
                start_s = time.perf_counter()
                call()
                times_us.append((time.perf_counter() - start_s) * 1e6)
            say({"us": times_us})


async def play_in_loop(name: str, url: str, shape: tuple[int, ...], play: Any) -> None:
    """Rounds in one event loop."""
    array = random_array(shape)
    async with AsyncExitStack() as stack:
        call = await stack.enter_async_context(ASYNC[name].open(url, array))
        check_echo(name, await call(), array)
        await play(call)
        say({})
        for _ in sys.stdin:
            say(await play(call))


async def many_calls(call: AsyncCall) -> Mapping[str, list[float]]:
    """As many workers as calls at once; time and processor time of a call."""

    async def worker() -> None:
        for _ in range(CALLS_A_ROUND // AT_ONCE):
            await call()

    start_s, cpu_start_s = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return {
        "us": [(time.perf_counter() - start_s) * 1e6 / CALLS_A_ROUND],
        "cpu_us": [(time.process_time() - cpu_start_s) * 1e6 / CALLS_A_ROUND],
    }


async def large_calls(call: AsyncCall) -> Mapping[str, list[float]]:
    """Eight large calls at once beside a ticker."""
    start_s = time.perf_counter()
    late_ms = await ticker_lateness_ms(asyncio.gather(*(call() for _ in range(LARGE_AT_ONCE))))
    return {"ms": [(time.perf_counter() - start_s) * 1e3], "late_ms": late_ms}


if __name__ == "__main__":
    main()
