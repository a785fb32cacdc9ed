"""A campaign inside a Locust process: its options, users, phases, recording and verdict.

Locust's processes are one *local* one, or a *master* and its *workers*. Every one of them reads the campaign file.

- A worker tells the master when it is prepared (``READY``); the first phase waits for all.
- Users run on local and worker processes. There a phase begins when the message ``PHASE`` arrives and ends after its
  duration by the process's own clock, so clocks need not agree. A request belongs to the phase in which it was sent.
- Recordings travel to the master with Locust's own reports (so that little is lost when a worker dies) and, after the
  last phase, on request (``FLUSH`` is answered by ``RECORDING``), so that nothing is lost otherwise.
- The local process or master judges the gates and sets the exit code.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import math
import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from tritonforge_client import Options
from tritonforge_client.errors import TritonError
from tritonforge_client.extras import require_extra
from tritonforge_client.spec import ModelSpec
from tritonforge_generator.errors import TritonforgeError
from tritonforge_load.campaign import Campaign, Workload, read_campaign
from tritonforge_load.payloads import AnswerCheck, Request, requests_of
from tritonforge_load.recording import Recording
from tritonforge_load.results import CampaignResult, PhaseResult, WorkloadResult
from tritonforge_load.shape import PhaseShape
from tritonforge_load.table import text_from_result
from tritonforge_load.users import TritonUser, close_clients, make_client

if TYPE_CHECKING:
    import locust
    from locust.env import Environment
    from locust.runners import MasterRunner, Runner, WorkerRunner
else:
    locust = require_extra("locust", "load")
    from locust.runners import MasterRunner, WorkerRunner

gevent: Any = require_extra("gevent", "load")

PHASE: Final = "tritonforge-phase"
FLUSH: Final = "tritonforge-flush"
RECORDING: Final = "tritonforge-recording"
READY: Final = "tritonforge-ready"

_REPORT_KEY: Final = "tritonforge"
_BETWEEN_PHASES: Final = "between phases"  # no phase can have this name: it has a blank
_WORKERS_TIMEOUT_S: Final = 15.0
_PARENT_CHECK_S: Final = 0.5
_POLL_S: Final = 0.02


def register() -> None:
    """Give the Locust process that imports the calling locustfile the option ``--campaign``."""
    events: Any = locust.events
    events.init_command_line_parser.add_listener(_add_arguments)
    events.init.add_listener(_start_session)


def _add_arguments(parser: Any, **_: object) -> None:
    parser.add_argument("--campaign", metavar="FILE", default="", include_in_web_ui=False, help="Campaign file to run")
    # Between run_campaign and its child; no concern of a user.
    parser.add_argument("--campaign-result", default="", include_in_web_ui=False, help=argparse.SUPPRESS)
    parser.add_argument("--campaign-parent", type=int, default=0, include_in_web_ui=False, help=argparse.SUPPRESS)


def _start_session(environment: Environment, runner: Runner, **_: object) -> None:
    options: Any = environment.parsed_options
    if options is None or options.campaign == "":
        return
    is_worker = isinstance(runner, WorkerRunner)
    try:
        session = Session(Path(options.campaign), environment, runner, result_path=options.campaign_result)
        session.prepare()
    except (TritonforgeError, TritonError) as error:
        exit_code = error.exit_code if isinstance(error, TritonforgeError) else 1
        if not is_worker:
            _say(f"Error: {error}")
            if options.campaign_result != "":
                failure = json.dumps({"failure": str(error), "exit_code": exit_code})
                Path(options.campaign_result).write_text(failure, encoding="utf-8")
        close_clients()
        sys.exit(exit_code)
    session.install()
    parent = options.campaign_parent
    if is_worker:
        parent = os.getppid() if options.processes else 0
    if parent != 0:
        runner.greenlet.spawn(_quit_after, parent, runner)


def _quit_after(parent: int, runner: Runner) -> None:
    """End this process when the one that started it has gone, however it went."""
    while os.getppid() == parent:
        gevent.sleep(_PARENT_CHECK_S)
    runner.quit()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@dataclass(slots=True)
class _Source:
    """What the users of one process need to send one workload."""

    workload: Workload
    spec: ModelSpec
    requests: list[Request]
    check: AnswerCheck | None


@dataclass(slots=True)
class _Window:
    """The phase that runs now, by this process's clock."""

    phase: str
    began_s: float
    ends_s: float
    measured: bool


class Session:
    """One campaign in one Locust process.

    Args:
        path: The campaign file.
        environment: Locust's environment.
        runner: Locust's runner.
        result_path: Where the result is written for the parent process; empty for none.

    Raises:
        SpecError: The file is wrong.
    """

    def __init__(self, path: Path, environment: Environment, runner: Runner, *, result_path: str) -> None:
        self.campaign: Campaign = read_campaign(path, url=environment.host)
        self._base = path.resolve().parent
        self._environment = environment
        self._runner = runner
        self._result_path = result_path
        self._user_numbers = itertools.count()
        self._live = Recording()
        self._total = Recording()
        self._answered_flush: set[str] = set()
        self._ready_workers: set[str] = set()
        self._workers: set[str] = set()
        self._problems: list[str] = []
        self._finished = False
        self.window: _Window | None = None
        self.options = Options(timeout_s=self.campaign.target.timeout_s, retry=None)  # failures are to be counted
        self.sources: list[_Source] = []
        # Before anything that waits: other processes may be further and send already.
        if not isinstance(runner, MasterRunner):
            runner.register_message(PHASE, self._on_phase)
            runner.register_message(FLUSH, self._on_flush)
        if not isinstance(runner, WorkerRunner):
            runner.register_message(READY, self._on_ready)
            runner.register_message(RECORDING, self._on_recording)

    def prepare(self) -> None:
        """Wait for the server and the models, and make the requests.

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
                requests = requests_of(workload, spec, base=self._base, seed=self.campaign.seed)
                check = None
                if workload.check is not None:
                    rows = requests[-1].first_row + requests[-1].rows
                    place = f"workload {workload.name!r}"
                    check = AnswerCheck(workload.check, base=self._base, rows=rows, place=place)
                self.sources.append(_Source(workload, spec, requests, check))

    def install(self) -> None:
        """Give Locust the campaign's users, shape and listeners."""
        environment = self._environment
        events: Any = environment.events
        CampaignUser.session = self
        CampaignUser.options = self.options
        environment.host = self.campaign.target.url
        environment.user_classes = [CampaignUser]
        # A user that is stopped may end its request: a killed one would be counted by the server only.
        environment.stop_timeout = self.campaign.target.timeout_s
        if isinstance(self._runner, MasterRunner):
            events.worker_report.add_listener(self._on_worker_report)
        else:
            events.request.add_listener(self._on_request)
        if isinstance(self._runner, WorkerRunner):
            events.report_to_master.add_listener(self._on_report_to_master)
            self._runner.send_message(READY)
            return
        shape = PhaseShape(self.campaign.phases, prepare=self._prepare_run, begin=self._begin, finish=self._finish)
        shape.runner = self._runner
        environment.shape_class = shape
        events.test_stop.add_listener(lambda **_: shape.restart())
        events.quitting.add_listener(self._on_quitting)
        if self._result_path != "":
            # The parent shows the campaign's own table.
            logging.getLogger("locust.stats_logger").setLevel(logging.WARNING)

    # --- on local and worker processes ----------------------------------------------------------------------------

    def _on_phase(self, msg: Any, **_: object) -> None:
        phase = self.campaign.phases[msg.data["index"]]
        now_s = time.perf_counter()
        self.window = _Window(phase.name, now_s, now_s + phase.duration_s, phase.measure)

    def _on_request(
        self, response_time: float, exception: BaseException | None, context: dict[str, Any], **_: object
    ) -> None:
        if "phase" in context:
            cell = self._live.cell(context["phase"], context["workload"])
            error = None if exception is None else type(exception).__name__
            cell.record(context["second"], round(response_time * 1e6), context["rows"], error)

    def record_check(self, phase: str, workload: str, *, checked: int, correct: int) -> None:
        """Add compared rows."""
        cell = self._live.cell(phase, workload)
        cell.checked += checked
        cell.correct += correct

    def next_user_number(self) -> int:
        """A number for a new user, different on every process."""
        worker = getattr(self._runner, "worker_index", 0)
        return int(worker) * 1_000_000 + next(self._user_numbers)

    def _on_flush(self, **_: object) -> None:
        self._runner.send_message(RECORDING, {"recording": self._live.drain()})

    def _on_report_to_master(self, data: dict[str, Any], **_: object) -> None:
        data[_REPORT_KEY] = self._live.drain()

    # --- on the local process or master -----------------------------------------------------------------------------

    def _on_worker_report(self, data: dict[str, Any], **_: object) -> None:
        self._total.merge(data.get(_REPORT_KEY, []))

    def _on_recording(self, msg: Any, **_: object) -> None:
        self._answered_flush.add(str(msg.node_id))
        self._total.merge(msg.data["recording"])

    def _on_ready(self, msg: Any, **_: object) -> None:
        self._ready_workers.add(str(msg.node_id))

    def _prepare_run(self) -> None:
        self._total, self._finished, self._problems = Recording(), False, []
        if not isinstance(self._runner, MasterRunner):
            return
        self._workers = set(self._runner.clients)
        with gevent.Timeout(self.campaign.target.wait_ready_s + _WORKERS_TIMEOUT_S, False):
            while not self._workers <= self._ready_workers:
                gevent.sleep(_POLL_S)
        missing, started = len(self._workers - self._ready_workers), len(self._workers)
        if missing > 0:
            self._problems.append(f"{missing} of {started} load generators could not be prepared")

    def _missing_workers(self) -> set[str]:
        """Workers that Locust has not heard of for seconds."""
        return (
            {worker.id for worker in self._runner.clients.missing} if isinstance(self._runner, MasterRunner) else set()
        )

    def _begin(self, index: int) -> None:
        phase = self.campaign.phases[index]
        users = f"{phase.users} user{'s' if phase.users > 1 else ''}"
        note = "" if phase.measure else ", not measured"
        _say(f"phase {phase.name}: {phase.arrival}, {users}, {phase.duration_s:g} s{note}")
        if self._runner.user_count != phase.users:
            self._problems.append(f"phase {phase.name}: {self._runner.user_count} of {phase.users} users at work")
        self._runner.send_message(PHASE, {"index": index})

    def _finish(self) -> None:
        self._answered_flush = set()
        self._runner.send_message(FLUSH)
        if isinstance(self._runner, MasterRunner):
            with gevent.Timeout(_WORKERS_TIMEOUT_S, False):
                while not self._workers <= self._answered_flush | self._missing_workers():
                    gevent.sleep(_POLL_S)
            lost, started = len(self._workers - self._answered_flush), len(self._workers)
            if lost > 0:
                self._problems.append(f"{lost} of {started} load generators died; the last they measured is lost")
        self._finished = True
        result = self.result()
        self._environment.process_exit_code = result.exit_code
        if self._result_path == "":
            _say(text_from_result(result))
        else:
            Path(self._result_path).write_text(json.dumps({"result": result.to_dict()}), encoding="utf-8")

    def _on_quitting(self, **_: object) -> None:
        if not self._finished and self._environment.process_exit_code is None:
            self._environment.process_exit_code = 1

    def result(self) -> CampaignResult:
        """What was measured until now, judged."""
        phases = []
        problems = list(self._problems)
        for phase in self.campaign.phases:
            if not phase.measure:
                continue
            rows = tuple(
                WorkloadResult(entry.name, phase.duration_s, self._total.cell(phase.name, entry.name))
                for entry in self.campaign.workload
            )
            phases.append(PhaseResult(phase.name, phase.arrival, phase.users, phase.duration_s, rows))
            if phases[-1].total.answered == 0:
                problems.append(f"phase {phase.name}: no request was answered")
        by_name = {phase.name: phase for phase in phases}
        unmeasured = sum(cell.sent for phase, _, cell in self._total if phase not in by_name)
        judged = [(gate, phase) for gate in self.campaign.gates for phase in self.campaign.phases_of(gate)]
        return CampaignResult(
            campaign=self.campaign.campaign,
            target=self.campaign.target.url,
            phases=tuple(phases),
            gates=tuple(gate.parsed.judge(by_name[phase.name]) for gate, phase in judged),
            problems=tuple(problems),
            unmeasured=unmeasured,
            versions={"locust": locust.__version__, "numpy": np.__version__, "python": sys.version.split()[0]},
        )


class CampaignUser(TritonUser):
    """Sends the campaign's requests one after the other."""

    abstract = False
    session: ClassVar[Session]

    def on_start(self) -> None:
        """Make the client, and a source of randomness that no other user has."""
        super().on_start()
        sources = self.session.sources
        self._random = random.Random(f"{self.session.campaign.seed}/{self.session.next_user_number()}")  # noqa: S311
        self._sources = [(source, self.client.bind(source.spec)) for source in sources]
        self._cumulative_weights = list(itertools.accumulate(source.workload.weight for source in sources))

    @locust.task
    def send(self) -> None:
        """Send one request of the mix."""
        source, model = self._random.choices(self._sources, cum_weights=self._cumulative_weights)[0]
        request = self._random.choice(source.requests)
        name = source.workload.name
        window, now_s = self.session.window, time.perf_counter()
        phase, second, measured = _BETWEEN_PHASES, 0, False
        if window is not None and now_s < window.ends_s:
            phase, second, measured = window.phase, math.floor(now_s - window.began_s), window.measured
        context = {"phase": phase, "workload": name, "second": second, "rows": request.rows}
        outputs = self.measured(f"{name} [{phase}]", lambda: model.infer(request.inputs), context)
        check = source.check
        if check is not None and outputs is not None and measured and self._random.random() < check.sample:
            correct = check.correct_rows(request, outputs, batched=source.spec.max_batch_size > 0)
            self.session.record_check(phase, name, checked=request.rows, correct=correct)
