"""What a pacer does under gevent, played in a process of its own: ``python -m support.pacing SCENE PORT``.

Says ``"started"``, and in the end what came of it. The port is that of an ``Echo``.
"""

from __future__ import annotations

import contextlib
import gc
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from support.child import say

from tritonforge_client import WireTimes
from tritonforge_client.extras import require_extra
from tritonforge_load.arrivals import constant_times_s
from tritonforge_load.arrivals.pacer import Pacer
from tritonforge_load.measure.histogram import Histogram

gevent: Any = require_extra("gevent", "load")
greenlet: Any = require_extra("greenlet", "load")

BODY = b"x" * 64
REAL_SLEEP: Any = require_extra("gevent.monkey", "load").get_original("time", "sleep")


class Caller:
    """Sends requests on kept connections and records what happens.

    Attributes:
        slips: How much later than due each was sent. One that is sent early is an error.
        awakes: How long each was ready and waited.
        services: From sending to the answer.
        latencies: From the moment that each was due to its answer.
        sent: Indices, in the order of sending.
        most_in_flight: How many waited for an answer at the same time.
        greenlets: How many greenlets have called.
    """

    def __init__(self, port: int, prepare_s: float = 0.0) -> None:
        self._prepare_s = prepare_s
        self._address = ("127.0.0.1", port)
        self._connections: list[socket.socket] = []
        self._in_flight = 0
        self._greenlets: set[int] = set()
        self.slips, self.awakes, self.services, self.latencies = Histogram(), Histogram(), Histogram(), Histogram()
        self.sent: list[int] = []
        self.most_in_flight = 0

    def send(self, index: int, times: WireTimes) -> None:
        """One request."""
        end_s = time.perf_counter() + self._prepare_s
        self.sent.append(index)
        self._greenlets.add(id(greenlet.getcurrent()))
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        connection = self._connections.pop() if self._connections else socket.create_connection(self._address)
        while time.perf_counter() < end_s:
            pass
        ready_ns = time.perf_counter_ns()
        times.depart()
        due_ns, sent_ns = times.not_before_ns, time.perf_counter_ns()
        connection.sendall(BODY)
        connection.recv(len(BODY))
        self._connections.append(connection)
        self._in_flight -= 1
        answered_ns = time.perf_counter_ns()
        for histogram, since_ns, until_ns in (
            (self.slips, due_ns, sent_ns), (self.awakes, ready_ns, sent_ns),
            (self.services, sent_ns, answered_ns), (self.latencies, due_ns, answered_ns),
        ):  # fmt: skip
            histogram.record(until_ns - since_ns)

    def told(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return {
            "slips": self.slips.to_dict(), "awakes": self.awakes.to_dict(), "services": self.services.to_dict(),
            "latencies": self.latencies.to_dict(), "sent": self.sent, "most_in_flight": self.most_in_flight,
            "greenlets": len(self._greenlets),
        }  # fmt: skip


def soon_s() -> float:
    """A start that leaves time to get ready."""
    return time.perf_counter() + 0.05


def left_behind() -> dict[str, Any]:
    """What a pacer must not leave: greenlets of its own, a timer, a collector that is off."""
    gevent.sleep(0.01)  # files are closed by the event loop
    return {
        "greenlets": living(),
        "timers": timers(),
        "gc_enabled": gc.isenabled(),
        "frozen": gc.get_freeze_count(),
    }


def living() -> int:
    """How many greenlets of pacers live."""
    found = [thing for thing in gc.get_objects() if isinstance(thing, gevent.Greenlet) and not thing.dead]
    return sum("_serve" in repr(greenlet) for greenlet in found)


def timers() -> int:
    """How many of this process's files are timers."""
    found = 0
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the folder itself was one of them
            found += "timerfd" in str(file.readlink())
    return found


# --- scenes -------------------------------------------------------------------------------------------------------


def steady(port: int, rate_per_s: float, seconds: float, prepare_s: float = 0.0) -> dict[str, Any]:
    """A constant rate; each request takes a while to prepare."""
    caller = Caller(port, prepare_s)
    start_s = soon_s()
    pacer = Pacer(constant_times_s(rate_per_s, seconds), start_s, caller.send, max_in_flight=1000, grace_s=5)
    pacer.run()
    return caller.told() | {"counts": asdict(pacer.counts), "left": left_behind()}


def slow_turns(port: int, turn_s: float) -> dict[str, Any]:
    """Every turn of the event loop takes so long at least; requests are due at any moment of one."""
    caller = Caller(port)
    turn = gevent.get_hub().loop.prepare()
    turn.start(REAL_SLEEP, turn_s)
    pacer = Pacer(constant_times_s(1 / (4.62 * turn_s), 2), soon_s(), caller.send, max_in_flight=10, grace_s=5)
    pacer.run()
    turn.close()
    return caller.told()


def turns(port: int, rate_per_s: float) -> dict[str, Any]:
    """A constant rate; in how many turns of the event loop the last millisecond before a request goes by."""
    caller = Caller(port)
    start_s, times_s = soon_s(), constant_times_s(rate_per_s, 1)
    seen_s: list[float] = []
    turn = gevent.get_hub().loop.prepare()
    turn.start(lambda: seen_s.append(time.perf_counter()))
    Pacer(times_s, start_s, caller.send, max_in_flight=1000, grace_s=5).run()
    turn.close()
    before_ms = 1e3 * (start_s + times_s[:, None] - np.array(seen_s))
    return {
        "last": float(np.median(((before_ms > 0) & (before_ms < 1)).sum(axis=1))),
        "earlier": float(np.median(((before_ms > 3) & (before_ms < 13)).sum(axis=1))),
    }


def shedding(port: int) -> dict[str, Any]:
    """More than may be in flight is due while the server is frozen."""
    caller = Caller(port)
    shed: list[int] = []
    pacer = Pacer(
        constant_times_s(200, 2), soon_s(), caller.send,
        max_in_flight=20, grace_s=5, shed=lambda index, due_s: shed.append(index),
    )  # fmt: skip
    pacer.run()
    return caller.told() | {"counts": asdict(pacer.counts), "shed": shed}


def held_up(port: int) -> dict[str, Any]:
    """The generator itself does something else for a while."""
    caller = Caller(port)
    pacer = Pacer(constant_times_s(500, 1), soon_s(), caller.send, max_in_flight=1000, grace_s=5)
    gevent.spawn_later(0.5, REAL_SLEEP, 0.3)
    pacer.run()
    return caller.told() | {"counts": asdict(pacer.counts)}


def impatient(port: int) -> dict[str, Any]:
    """The server does not answer any more, and the grace is short."""
    caller = Caller(port)
    pacer = Pacer(constant_times_s(100, 0.5), soon_s(), caller.send, max_in_flight=1000, grace_s=0.3)
    before_s = time.perf_counter()
    pacer.run()
    took_s = time.perf_counter() - before_s
    return caller.told() | {"counts": asdict(pacer.counts), "took_s": took_s, "left": left_behind()}


def stopped(port: int) -> dict[str, Any]:
    """It is stopped from outside, while it waits for a request that is due much later."""
    caller = Caller(port)
    times_s = np.concatenate([constant_times_s(100, 0.5), [60.0]])
    pacer = Pacer(times_s, soon_s(), caller.send, max_in_flight=1000, grace_s=5)
    gevent.spawn_later(0.8, pacer.stop)
    before_s = time.perf_counter()
    pacer.run()
    took_s = time.perf_counter() - before_s
    pacer.stop()  # nothing happens
    never = Pacer(times_s, soon_s(), caller.send, max_in_flight=1000, grace_s=5)
    never.stop()
    never.run()
    return {
        "counts": asdict(pacer.counts), "took_s": took_s, "left": left_behind(), "never": asdict(never.counts),
    }  # fmt: skip


def killed(port: int) -> dict[str, Any]:
    """Its greenlet is killed while requests are due and in flight."""
    caller = Caller(port)
    pacer = Pacer(constant_times_s(100, 30), soon_s(), caller.send, max_in_flight=1000, grace_s=30)
    running = gevent.spawn(pacer.run)
    gevent.sleep(0.6)
    during = left_behind()
    running.kill()
    counts = asdict(pacer.counts)
    gevent.sleep(0.2)
    later = asdict(pacer.counts)
    return {"during": during, "left": left_behind(), "counts": counts, "later": later, "dead": running.dead}


def killed_when_due(port: int) -> dict[str, Any]:
    """It is killed in the turn of the event loop in which it sends a request."""
    caller = Caller(port)
    pacer = Pacer(constant_times_s(10, 3), soon_s(), caller.send, max_in_flight=1000, grace_s=5)
    left: list[int] = []

    def run() -> None:
        try:
            pacer.run()
        finally:
            left.append(living())

    running = gevent.spawn(run)
    gevent.sleep(0.48)
    gevent.spawn_later(0.1, running.kill, block=False)
    gevent.sleep(0)
    REAL_SLEEP(0.15)  # now both are due
    running.join(2)
    return {"sent": pacer.counts.sent, "left_at_its_end": left}


def locust_stops(port: int) -> dict[str, Any]:
    """Locust ends its users before the schedule has ended."""
    import locust
    from locust.env import Environment

    caller = Caller(port)
    pacer = Pacer(constant_times_s(100, 30), soon_s(), caller.send, max_in_flight=1000, grace_s=30)

    class Paced(locust.User):
        @locust.task
        def play(self) -> None:
            pacer.run()

    runner = Environment(user_classes=[Paced]).create_local_runner()
    runner.start(1, 1)
    gevent.sleep(0.5)
    before_s = time.perf_counter()
    runner.quit()
    return {
        "counts": asdict(pacer.counts), "left": left_behind(), "took_s": time.perf_counter() - before_s,
    }  # fmt: skip


def failing(port: int) -> dict[str, Any]:
    """Sending raises what is no answer of a server."""

    def send(index: int, times: WireTimes) -> None:
        times.depart()
        if index == 20:
            raise KeyError("a mistake of the caller")
        gevent.sleep(0.01)

    pacer = Pacer(constant_times_s(100, 30), soon_s(), send, max_in_flight=10, grace_s=5)
    try:
        pacer.run()
    except KeyError as error:
        return {"raised": str(error), "sent": pacer.counts.sent, "left": left_behind()}
    return {"raised": None}


def two_at_once(port: int) -> dict[str, Any]:
    """Two schedules in one process, of which the one that starts later ends first."""
    callers = [Caller(port), Caller(port)]
    pacers = [
        Pacer(constant_times_s(200, seconds), soon_s(), caller.send, max_in_flight=100, grace_s=5)
        for caller, seconds in zip(callers, (1.0, 0.4), strict=True)
    ]
    short_ended = []
    running = [gevent.spawn(pacer.run) for pacer in pacers]
    running[1].join()
    short_ended.append(gc.isenabled())
    running[0].join()
    sent = [pacer.counts.sent for pacer in pacers]
    return {"sent": sent, "enabled_in_between": short_ended[0], "left": left_behind()}


def littering(port: int) -> dict[str, Any]:
    """Every request leaves garbage in cycles; the rate leaves hardly any slack."""

    class Litter:
        alive = 0

        def __init__(self) -> None:
            self.itself = self
            self.more: list[list[int]] = [[] for _ in range(20)]
            Litter.alive += 1

        def __del__(self) -> None:
            Litter.alive -= 1

    most = 0

    def send(index: int, times: WireTimes) -> None:
        nonlocal most
        times.depart()
        Litter()
        most = max(most, Litter.alive)

    pacer = Pacer(constant_times_s(2000, 2), soon_s(), send, max_in_flight=10, grace_s=5)
    pacer.run()
    return {"counts": asdict(pacer.counts), "most_alive": most}


SCENES: dict[str, Callable[..., dict[str, Any]]] = {
    scene.__name__: scene
    for scene in (
        steady,
        slow_turns,
        turns,
        shedding,
        held_up,
        impatient,
        stopped,
        killed,
        killed_when_due,
        locust_stops,
        failing,
        two_at_once,
        littering,
    )
}

if __name__ == "__main__":
    require_extra("gevent.monkey", "load").patch_all()
    _, name, *numbers = sys.argv
    port, *others = numbers
    say("started")
    say(SCENES[name](int(port), *map(float, others)))
