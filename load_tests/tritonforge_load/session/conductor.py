"""What leads: the side of a campaign that runs once, in the local process or in Locust's master."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tritonforge_client.extras import require_extra
from tritonforge_load.arrivals.clocks import ClockReading, Clocks
from tritonforge_load.arrivals.runs import Run, Runs
from tritonforge_load.campaign import Campaign, ClosedPhase, SearchPhase
from tritonforge_load.judge.search import SearchPlan
from tritonforge_load.measure import GeneratorFacts, Histogram, Recording, SearchOutcome
from tritonforge_load.observe.models import ModelFacts
from tritonforge_load.session.messages import BEGIN, FLUSH, FLUSHED, LOCAL, NEXT, PING, PONG, RAN, READY
from tritonforge_load.session.watch import Watch

if TYPE_CHECKING:
    from locust.runners import MasterRunner, Runner, WorkerNode
else:
    from locust.runners import MasterRunner

gevent: Any = require_extra("gevent", "load")

Users = tuple[int, float]
"""How many users Locust shall run, and how many it starts a second."""

_WORKERS_TIMEOUT_S: Final = 15.0
_USERS_TIMEOUT_S: Final = 60.0
_SETTLE_S: Final = 0.5
_LOCAL_LEAD_S, _REMOTE_LEAD_S = 0.1, 0.4
_PINGS: Final = 5
_POLL_S: Final = 0.02
_SAME_CAMPAIGN: Final = "give it the same file, --url and --set"


class StoppedError(Exception):
    """The campaign cannot go on; what was measured until now stands."""


@dataclass(slots=True)
class Played:
    """A run that was begun.

    Attributes:
        run: The run.
        starts_s: When it began, by ``time.perf_counter``.
        workers: Those that took part.
        scheduled: Arrivals over all workers; ``None`` for closed runs.
        clock_error_s: How far the workers' starts may lie apart.
        cpu_shares: Share of its core that each worker took.
        lost: Workers that died before it was over.
        models: The server's side.
        ended: Whether it was played to its end.
    """

    run: Run
    starts_s: float
    workers: set[str]
    scheduled: int | None
    clock_error_s: float
    cpu_shares: dict[str, float] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    models: tuple[ModelFacts, ...] = ()
    ended: bool = False

    @property
    def facts(self) -> GeneratorFacts:
        """How the load generator fared."""
        return GeneratorFacts(
            workers=len(self.workers),
            workers_lost=len(self.lost),
            scheduled=self.scheduled,
            cpu_share=max(self.cpu_shares.values(), default=None),
            clock_error_s=self.clock_error_s,
        )


class Conductor:
    """Plays the runs of a campaign one after the other, and collects what was recorded.

    Args:
        campaign: The campaign.
        runs: Its runs.
        runner: Locust's runner.
        watch: Looks at the server meanwhile.
        tell: Called with every event (``tritonforge_load.events``).
        holds: Judges a run of a search: why it does not hold, and whether the generator was the limit.
        identity: What a worker must say of itself to take part: versions, and the hash of the campaign file.

    Attributes:
        recording: Everything recorded until now.
        played: Runs that were begun, in order.
        searches: What searches found, by index of the phase.
        problems: What spoils the measurement as a whole.
    """

    def __init__(
        self,
        campaign: Campaign,
        *,
        runs: Runs,
        runner: Runner,
        watch: Watch,
        tell: Callable[[Mapping[str, Any]], None],
        holds: Callable[[Played], tuple[tuple[str, ...], bool]],
        identity: Mapping[str, str],
    ) -> None:
        self.campaign = campaign
        self.recording = Recording()
        self.played: list[Played] = []
        self.searches: dict[int, SearchOutcome] = {}
        self.problems: list[str] = []
        self.watch = watch
        self._runs = runs
        self._runner = runner
        self._tell = tell
        self._holds = holds
        self._identity = dict(identity)
        self._clocks = Clocks()
        self._ready: dict[str, Mapping[str, str]] = {}
        self._ran: dict[str, set[str]] = {}
        self._flushed: set[str] = set()
        self._workers: set[str] = set()

    def listen(self) -> None:
        """Hear what workers say from now on; others may be further and speak already."""
        register: Any = self._runner.register_message
        register(READY, self._on_ready)
        register(PONG, self._on_pong)
        register(RAN, self._on_ran)
        register(FLUSHED, self._on_flushed)

    # --- what workers say -------------------------------------------------------------------------------------------

    def _on_ready(self, msg: Any, **_: object) -> None:
        self._ready[str(msg.node_id)] = msg.data

    def _on_pong(self, msg: Any, **_: object) -> None:
        reading = ClockReading(msg.data["sent_s"], time.perf_counter(), msg.data["clock_s"])
        self._clocks.add(str(msg.node_id), reading)

    def _on_ran(self, msg: Any, **_: object) -> None:
        worker, data = str(msg.node_id), msg.data
        self.add(worker, data["recording"])
        self._ran.setdefault(data["run"], set()).add(worker)
        for played in self.played:
            if played.run.name == data["run"]:
                played.cpu_shares[worker] = data["cpu_share"]

    def _on_flushed(self, msg: Any, **_: object) -> None:
        self._flushed.add(str(msg.node_id))
        self.add(str(msg.node_id), msg.data["recording"])

    def add(self, worker: str, drained: Mapping[str, Any]) -> None:
        """Add what a worker recorded."""
        self.recording.merge(drained["cells"])
        for clock_s, cpu_share, memory_bytes in drained["process"]:
            self.watch.add_process(self._name(worker), self._clocks.ours_s(worker, clock_s), cpu_share, memory_bytes)

    def _name(self, worker: str) -> str:
        """A short name for tables: workers are numbered."""
        return str(sorted(self._workers | {worker}).index(worker))

    # --- playing ----------------------------------------------------------------------------------------------------

    def play(self) -> Iterator[Users]:
        """Play all runs; yields how many users shall be at work, and goes on when asked again."""
        self.recording, self.played, self.searches, self.problems = Recording(), [], {}, []
        self._ran = {}
        try:
            self._gather_workers()
            was_closed = False
            for run in self._in_order():
                if run.is_open and was_closed and len(self._workers) > 1:
                    # Each worker needs one user. Locust adds users where it had stopped, and takes away the last ones:
                    # only from none on does each worker get one.
                    yield 0, self._spawn_rate
                    self._wait_for_users(0, None)
                was_closed = not run.is_open
                self._runner.send_message(NEXT, {"run": run.to_dict()})
                users = run.users if run.users is not None else len(self._live_workers())
                yield users, self._spawn_rate
                self._wait_for_users(users, run)
                gevent.sleep(_SETTLE_S)
                self._play_run(run)
        except StoppedError as stop:
            self.problem(str(stop))
        yield 0, self._spawn_rate
        self._wait_for_users(0, None)
        self.flush()

    @property
    def _spawn_rate(self) -> float:
        """All users at once: Locust blocks while it starts users, and a constant rate keeps equal steps equal."""
        closed = [phase.users for phase in self.campaign.phases if isinstance(phase, ClosedPhase)]
        searched = [
            phase.search.to
            for phase in self.campaign.phases
            if isinstance(phase, SearchPhase) and phase.search.over == "users"
        ]
        return float(max([*closed, *searched, len(self._workers), 1]))

    def _in_order(self) -> Iterator[Run]:
        for index, phase in enumerate(self.campaign.phases):
            if isinstance(phase, SearchPhase):
                yield from self._searched(index, phase)
            else:
                yield from self._runs.of_phase(index)

    def _searched(self, index: int, phase: SearchPhase) -> Iterator[Run]:
        plan = SearchPlan(phase.search)
        tried: list[float] = []
        while (load := plan.next_load()) is not None:
            run = self._runs.of_search(index, load, len(tried), tried.count(load))
            tried.append(load)
            yield run
            reasons, generator_was_limit = self._holds(self.played[-1])
            held = not reasons
            plan.record(run.name, load, held, reasons, generator_was_limit=generator_was_limit)
            self._tell({"event": "search", "run": run.name, "load": load, "held": held, "reasons": list(reasons)})
            self.searches[index] = plan.outcome()

    def _play_run(self, run: Run) -> None:
        workers = self._live_workers()
        self._read_clocks(workers)
        lead_s = _LOCAL_LEAD_S if workers == {LOCAL} else _REMOTE_LEAD_S
        starts_s = time.perf_counter() + lead_s
        scheduled = len(self._runs.schedule(run).times_s) if run.is_open else None
        played = Played(run, starts_s, workers, scheduled, self._clocks.error_s(workers))
        self.played.append(played)
        before = self.watch.statistics()
        for index, worker in enumerate(sorted(workers)):
            begin = {"clock_s": self._clocks.theirs_s(worker, starts_s), "index": index, "count": len(workers)}
            self._runner.send_message(BEGIN, begin, worker)
        self._tell_phase(run)
        self._wait_for_end(played)
        played.models = self.watch.facts_since(before)
        played.ended = True
        if played.lost:
            lost = f"{len(played.lost)} of {len(workers)} load generators died"
            self._tell({"event": "note", "text": f"{run.name}: {lost}"})
            if not self._live_workers():
                raise StoppedError(f"{run.name}: all load generators died")

    def _tell_phase(self, run: Run) -> None:
        arrival = self.campaign.phases[run.phase].arrival
        load = {"users": run.users, "rate_per_s": run.rate_per_s}
        shown = {"event": "phase", "run": run.name, "arrival": arrival, **load}
        self._tell(shown | {"duration_s": run.duration_s, "measured": run.measured})

    def _wait_for_end(self, played: Played) -> None:
        """Wait until every worker has said that the run is over there, or has died."""
        run = played.run
        last_s = played.starts_s + run.duration_s + self.campaign.target.timeout_s + _WORKERS_TIMEOUT_S
        told_s = 0
        while not played.workers <= self._ran.get(run.name, set()) | played.lost:
            gevent.sleep(_POLL_S)
            played.lost |= played.workers - self._live_workers() - self._ran.get(run.name, set())
            if played.lost == played.workers:
                return
            now_s = time.perf_counter()
            if now_s > last_s:
                played.lost |= played.workers - self._ran.get(run.name, set())
            if now_s - played.starts_s >= told_s + 1:
                told_s = math.floor(now_s - played.starts_s)
                self._tell_second(run, told_s)

    def _tell_second(self, run: Run, elapsed_s: int) -> None:
        """Tell the last second of which all is known; workers report some seconds late."""
        cells = [cell for name, _, cell in self.recording if name == run.name]
        known = [second for cell in cells for second in cell.seconds if second < elapsed_s]
        if not known:
            return
        at_s = max(known)
        seconds = [cell.seconds[at_s] for cell in cells if at_s in cell.seconds]
        latency = Histogram()
        for second in seconds:
            latency.merge(second.latency)
        p50_ns, p99_ns = latency.percentiles_ns([50, 99])
        told = {"event": "second", "run": run.name, "at_s": at_s, "rate_per_s": latency.count}
        counts = {"errors": sum(second.errors for second in seconds), "shed": sum(second.shed for second in seconds)}
        figures = (
            {"p50_ms": p50_ns / 1e6, "p99_ms": p99_ns / 1e6} if latency.count > 0 else {"p50_ms": None, "p99_ms": None}
        )
        self._tell(told | counts | figures)

    # --- workers ----------------------------------------------------------------------------------------------------

    def _live_workers(self) -> set[str]:
        if not isinstance(self._runner, MasterRunner):
            return {LOCAL}
        clients: dict[str, WorkerNode] = dict(self._runner.clients)
        return (set(clients) - self._dead_workers()) & (self._workers or set(clients))

    def _dead_workers(self) -> set[str]:
        """Workers that Locust has not heard of for seconds; not those that said that they end."""
        if not isinstance(self._runner, MasterRunner):
            return set()
        return {str(worker.id) for worker in self._runner.clients.missing}

    def _gather_workers(self) -> None:
        """Wait until all workers are prepared, and see that they are what the master is."""
        self._workers = self._live_workers()
        if not isinstance(self._runner, MasterRunner):
            return
        timeout_s = self.campaign.target.wait_ready_s * (len(self.campaign.workload) + 1) + _WORKERS_TIMEOUT_S
        with gevent.Timeout(timeout_s, False):
            while not self._workers <= self._ready.keys():
                gevent.sleep(_POLL_S)
        unready = self._workers - self._ready.keys()
        if unready:
            raise StoppedError(f"{len(unready)} of {len(self._workers)} load generators could not be prepared")
        for worker in sorted(self._workers):
            for what, ours in self._identity.items():
                theirs = self._ready[worker].get(what, "nothing")
                if theirs != ours:
                    action = _SAME_CAMPAIGN if what.startswith("campaign") else "install the same release there"
                    difference = f"{what}: expected {ours} as the master has, got {theirs}"
                    raise StoppedError(f"worker {worker}: {difference}: {action}")

    def _read_clocks(self, workers: set[str]) -> None:
        if workers == {LOCAL}:
            return
        self._clocks.forget()
        for _ in range(_PINGS):
            self._runner.send_message(PING, {"sent_s": time.perf_counter()})
            gevent.sleep(_POLL_S)
        with gevent.Timeout(_WORKERS_TIMEOUT_S, False):
            while not all(self._clocks.knows(worker) for worker in workers & self._live_workers()):
                gevent.sleep(_POLL_S)

    def _wait_for_users(self, wanted: int, run: Run | None) -> None:
        """Wait until Locust runs the wanted number of users, or long enough that the result shall show it."""
        with gevent.Timeout(_USERS_TIMEOUT_S, False):
            while self._runner.user_count != wanted:
                gevent.sleep(_POLL_S)
        if run is not None and self._runner.user_count != wanted:
            self.problem(f"{run.name}: {self._runner.user_count} of {wanted} users at work")

    def flush(self, *, timeout_s: float = _WORKERS_TIMEOUT_S) -> None:
        """Fetch what was recorded since the end of the last run.

        Args:
            timeout_s: How long workers that live are waited for.
        """
        self._flushed = set()
        self._runner.send_message(FLUSH)
        with gevent.Timeout(timeout_s, False):
            while not self._live_workers() <= self._flushed:
                gevent.sleep(_POLL_S)

    def stopped(self) -> None:
        """Note that the campaign was stopped from outside before its end."""
        dead = self._dead_workers()
        for played in self.played:
            if not played.ended:
                played.lost |= (played.workers & dead) - self._ran.get(played.run.name, set())
        all_died = bool(self._workers) and self._workers <= dead
        self.problem("all load generators died" if all_died else "the campaign was stopped before its end")

    def problem(self, text: str) -> None:
        """Note what spoils the measurement as a whole, and tell it."""
        self.problems.append(text)
        self._tell({"event": "note", "text": text})
