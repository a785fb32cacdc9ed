"""What sends: the side of a campaign that runs in every local and worker process."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tritonforge_client import Client, Options, Prepared, WireTimes
from tritonforge_client.extras import require_extra
from tritonforge_client.spec import ModelSpec
from tritonforge_load.arrivals.runs import Run, Runs, Schedule
from tritonforge_load.campaign import Campaign, Workload
from tritonforge_load.measure import Recording
from tritonforge_load.observe.process import ProcessMeter
from tritonforge_load.payloads import AnswerCheck, Request, check_of, requests_of
from tritonforge_load.session.messages import BEGIN, FLUSH, FLUSHED, NEXT, PING, PONG, RAN
from tritonforge_load.users import make_client

if TYPE_CHECKING:
    from locust.runners import Runner

gevent: Any = require_extra("gevent", "load")
gevent_event: Any = require_extra("gevent.event", "load")

BETWEEN_RUNS: Final = "between runs"  # no run can have this name: it has a blank

_REPORT_KEY: Final = "tritonforge"
_GRACE_S: Final = 1.0


@dataclass(slots=True)
class Source:
    """What is needed to send one workload.

    Attributes:
        workload: What the campaign says of it.
        spec: Contract of its model.
        requests: Its requests, ready to send.
        check: What its answers are compared with.
        prepared: The requests encoded, one each; empty where they are encoded each time.
        turn: Place of the request that is next: each is sent once before the first is sent again.
    """

    workload: Workload
    spec: ModelSpec
    requests: list[Request]
    check: AnswerCheck | None
    prepared: list[Prepared]
    turn: Iterator[int]


@dataclass(slots=True)
class Window:
    """A run, by this process's clock.

    Attributes:
        run: The run.
        began_s: When it begins, by ``time.perf_counter``.
        index: This process's place among the workers that share the arrivals of an open run.
        count: How many workers share them.
    """

    run: Run
    began_s: float
    index: int
    count: int

    @property
    def ends_s(self) -> float:
        """When it ends."""
        return self.began_s + self.run.duration_s

    def place(self, at_s: float, *, is_open: bool) -> tuple[str, int, bool]:
        """Name of the run, second of it, and whether it is measured.

        Args:
            at_s: The moment for which a request was meant.
            is_open: Whether it is an arrival of a schedule. All arrivals of an open run are the run's own.
        """
        elapsed_s = at_s - self.began_s
        if is_open != self.run.is_open or not (is_open or 0 <= elapsed_s < self.run.duration_s):
            return BETWEEN_RUNS, 0, False
        last = math.ceil(self.run.duration_s) - 1  # the last arrival of a trace is the end of its run
        return self.run.name, min(max(math.floor(elapsed_s), 0), last), self.run.measured


@dataclass(slots=True)
class _OpenRun:
    """How an open run fares in this process."""

    taken: bool = False
    scheduled: int = 0
    ended: Any = field(default_factory=gevent_event.Event)


class Generator:
    """The sending side of a campaign in one process.

    Args:
        campaign: The campaign.
        base: Folder that relative paths start from.
        runner: Locust's runner.

    Attributes:
        options: Options of every request.
        sources: What is sent; there after ``prepare``.
        window: The run that was begun last; ``None`` before the first.
        next_run: The run that was announced last.
    """

    def __init__(self, campaign: Campaign, *, base: Path, runner: Runner) -> None:
        self.campaign = campaign
        self.runs = Runs(campaign, base=base)
        transport, timeout_s = campaign.transport, campaign.target.timeout_s
        # Nothing is sent again: failures are to be counted.
        self.options = Options(timeout_s=timeout_s, retry=None, shared_memory=transport.shared_memory)
        self.sources: list[Source] = []
        self.window: Window | None = None
        self.next_run: Run | None = None
        self.schedule: Schedule | None = None
        self._base = base
        self._runner = runner
        self._recording = Recording()
        self._user_numbers = itertools.count()
        self._fared: list[tuple[float, float, int]] = []
        self._open_run = _OpenRun()

    def prepare(self, say: Callable[[str], None] | None = None) -> None:
        """Wait for the server and the models, and make the requests.

        Args:
            say: Told how far it is, where many images take long.

        Raises:
            SpecError: The campaign does not fit the models.
            TritonError: The server cannot be reached or is not ready.
        """
        target = self.campaign.target
        with make_client(target.url, options=self.options) as client:
            client.wait_ready(timeout_s=target.wait_ready_s)
            for workload in self.campaign.workload:
                client.wait_ready(workload.model, timeout_s=target.wait_ready_s)
                spec = client.spec(workload.model)
                requests = requests_of(workload, spec, base=self._base, seed=self.campaign.seed, say=say)
                check = check_of(workload, requests, base=self._base)
                prepared, turn = self._prepared(client, spec, requests), self._turn(len(requests))
                self.sources.append(Source(workload, spec, requests, check, prepared, turn))

    def _turn(self, count: int) -> Iterator[int]:
        """Places of requests, in order; other workers begin elsewhere, so that all rows are sent soon."""
        first = self._worker * count // self.campaign.workers
        return itertools.cycle((first + place) % count for place in range(count))

    def _prepared(self, client: Client, spec: ModelSpec, requests: list[Request]) -> list[Prepared]:
        transport = self.campaign.transport
        if not transport.prebuilt or transport.shared_memory != "off":
            return []  # a region of shared memory is written by each request
        model = client.bind(spec)
        return [model.prepare(request.inputs) for request in requests]

    def listen(self) -> None:
        """Do what the master says from now on."""
        register: Any = self._runner.register_message
        for message, listener in (
            (PING, self._on_ping),
            (NEXT, self._on_next),
            (BEGIN, self._on_begin),
            (FLUSH, self._on_flush),
        ):
            register(message, listener)

    def install(self, events: Any) -> None:
        """Take part in Locust's events.

        Args:
            events: Those of the environment.
        """
        events.request.add_listener(self._on_request)
        events.report_to_master.add_listener(self._on_report_to_master)
        gevent.spawn(self._watch_process)

    def next_user_number(self) -> int:
        """A number for a new user, different in every process."""
        return self._worker * 1_000_000 + next(self._user_numbers)

    @property
    def _worker(self) -> int:
        """Place of this process among the workers, as Locust counts them."""
        return max(int(getattr(self._runner, "worker_index", 0)), 0)

    def take_open_window(self) -> Window | None:
        """The open run that is about to begin or runs, for the one user that asks for it first."""
        window = self.window
        if window is None or window.run != self.next_run or not window.run.is_open or self._open_run.taken:
            return None
        self._open_run.taken = True
        return window

    def open_window_ended(self, scheduled: int) -> None:
        """The user that took the open run has sent its share, and nothing is in flight any more.

        Args:
            scheduled: How many arrivals were its own.
        """
        self._open_run.scheduled = scheduled
        self._open_run.ended.set()

    # --- the master's messages --------------------------------------------------------------------------------------

    def _on_ping(self, msg: Any, **_: object) -> None:
        self._runner.send_message(PONG, {"sent_s": msg.data["sent_s"], "clock_s": time.perf_counter()})

    def _on_next(self, msg: Any, **_: object) -> None:
        run = Run.from_dict(msg.data["run"])
        self.schedule = self.runs.schedule(run) if run.is_open else None
        self._open_run = _OpenRun()
        self.next_run = run

    def _on_begin(self, msg: Any, **_: object) -> None:
        if self.next_run is None:
            return
        window = Window(self.next_run, msg.data["clock_s"], msg.data["index"], msg.data["count"])
        self.window = window
        gevent.spawn(self._play, window)

    def _on_flush(self, **_: object) -> None:
        self._runner.send_message(FLUSHED, {"recording": self._drained()})

    def _play(self, window: Window) -> None:
        """Wait for the end of a run and tell the master how it went."""
        _sleep_until(window.began_s)
        before_s = time.process_time()
        _sleep_until(window.ends_s)
        cpu_share = (time.process_time() - before_s) / (time.perf_counter() - window.began_s)
        open_run = self._open_run
        if window.run.is_open:
            open_run.ended.wait(self.campaign.target.timeout_s + _GRACE_S if open_run.taken else 0)
        told = {"run": window.run.name, "cpu_share": cpu_share, "scheduled": open_run.scheduled}
        self._runner.send_message(RAN, told | {"recording": self._drained()})

    # --- recording --------------------------------------------------------------------------------------------------

    def _on_request(
        self, response_time: float, exception: BaseException | None, context: dict[str, Any], **_: object
    ) -> None:
        if "run" not in context:
            return
        cell = self._recording.cell(context["run"], context["workload"])
        error = None if exception is None else type(exception).__name__
        latency_ns = round(response_time * 1e6)
        times: WireTimes | None = context.get("times")
        if times is None:
            cell.record(context["second"], latency_ns, context["rows"], error)
            return
        # What failed before it was sent had not been sent until it failed.
        slip_ns = latency_ns if times.sent_ns is None else times.sent_ns - times.not_before_ns
        cell.record_open(
            context["second"], latency_ns, context["rows"], error, service_ns=latency_ns - slip_ns, slip_ns=slip_ns
        )

    def record_check(self, run: str, workload: str, *, checked: int, correct: int) -> None:
        """Add compared rows."""
        cell = self._recording.cell(run, workload)
        cell.checked += checked
        cell.correct += correct

    def record_shed(self, window: Window, workload: str, due_s: float) -> None:
        """Add a request that was not sent."""
        run, second, _ = window.place(due_s, is_open=True)
        self._recording.cell(run, workload).record_shed(second)

    def _on_report_to_master(self, data: dict[str, Any], **_: object) -> None:
        data[_REPORT_KEY] = self._drained()

    def _drained(self) -> dict[str, Any]:
        fared, self._fared = self._fared, []
        return {"cells": self._recording.drain(), "process": fared}

    def _watch_process(self) -> None:
        meter = ProcessMeter(time.perf_counter())
        while True:
            gevent.sleep(self.campaign.observe.every_s)
            now_s = time.perf_counter()
            reading = meter.sample(now_s)
            self._fared.append((now_s, reading.cpu_share, reading.memory_bytes))


def reported(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a worker's report to the master holds of a campaign."""
    found: Mapping[str, Any] | None = data.get(_REPORT_KEY)
    return found


def _sleep_until(moment_s: float) -> None:
    """Sleep no less than asked: the event loop counts from its last turn, which may be long ago on a busy core."""
    while (left_s := moment_s - time.perf_counter()) > 0:
        gevent.sleep(left_s)
