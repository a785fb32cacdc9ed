"""A campaign inside a Locust process: a local one, or a master and its workers.

Every one of them reads the campaign file. Local and worker processes send (``generator``); the local process or the
master leads (``conductor``), judges, and sets the exit code.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tritonforge_client.extras import require_extra
from tritonforge_generator.report.pages import write_whole
from tritonforge_load.campaign import Campaign, SearchPhase, read_campaign
from tritonforge_load.errors import LoadError
from tritonforge_load.events import line_from_event, text_from_event
from tritonforge_load.judge.gates import step_failures
from tritonforge_load.measure import CampaignResult, dict_from_result, read_result
from tritonforge_load.report.table import text_from_result
from tritonforge_load.session.conductor import Conductor, Played, Users
from tritonforge_load.session.generator import Generator, reported
from tritonforge_load.session.messages import READY
from tritonforge_load.session.outcome import campaign_result, run_result, versions
from tritonforge_load.session.shape import CampaignShape
from tritonforge_load.session.user import CampaignUser
from tritonforge_load.session.watch import Watch

if TYPE_CHECKING:
    from locust.env import Environment
    from locust.runners import MasterRunner, Runner, WorkerRunner
else:
    require_extra("locust", "load")
    from locust.runners import MasterRunner, WorkerRunner


_LAST_WORDS_S: Final = 2.0

_SENT: Final = {"seed", "target", "workload", "transport", "phases"}
"""What a master and its workers must agree on; settings may have changed what the file says."""


class Session:
    """One campaign in one Locust process.

    Args:
        path: The campaign file.
        environment: Locust's environment.
        runner: Locust's runner.
        settings: Values that replace the file's; Locust's ``--host`` replaces the target's URL too.
        result_path: Where the result is written for the parent process, which then also gets events; empty for none.

    Raises:
        SpecError: The file is wrong.
    """

    def __init__(
        self, path: Path, environment: Environment, runner: Runner, *, settings: Mapping[str, Any], result_path: str
    ) -> None:
        if environment.host is not None:
            settings = {**settings, "target": {**settings.get("target", {}), "url": environment.host}}
        self.campaign: Campaign = read_campaign(path, settings=settings)
        self._base = path.resolve().parent
        self._environment = environment
        self._runner = runner
        self._result_path = result_path
        baseline = self.campaign.baseline
        self._baseline = None if baseline is None else read_result(self._base / baseline)
        self._conductor: Conductor | None = None
        self._watch: Watch | None = None
        self._is_judged = False
        self._starts_s, self._started_at = 0.0, ""
        self.generator = Generator(self.campaign, base=self._base, runner=runner)
        # Before anything that waits: other processes may be further and speak already.
        if not isinstance(runner, MasterRunner):
            self.generator.listen()
        if not isinstance(runner, WorkerRunner):
            self._watch = Watch(self.campaign)
            self._conductor = Conductor(
                self.campaign,
                runs=self.generator.runs,
                runner=runner,
                watch=self._watch,
                tell=self._tell,
                holds=self._holds,
                identity=self._identity(),
            )
            self._conductor.listen()

    def prepare(self) -> None:
        """Wait for the server and the models, and make the requests.

        Raises:
            SpecError: The campaign does not fit the models.
            TritonError: The server cannot be reached or is not ready.
        """
        is_worker = isinstance(self._runner, WorkerRunner)  # all do the same; one tells
        self.generator.prepare(None if is_worker else lambda text: self._tell({"event": "note", "text": text}))
        if isinstance(self._runner, MasterRunner):
            self.generator.sources.clear()  # it has seen that they can be made, and sends none

    def install(self) -> None:
        """Give Locust the campaign's users, shape and listeners."""
        environment = self._environment
        events: Any = environment.events
        CampaignUser.generator = self.generator
        CampaignUser.options = self.generator.options
        environment.host = self.campaign.target.url
        environment.user_classes = [CampaignUser]
        # A user that is stopped may end its request: a killed one would be counted by the server only.
        environment.stop_timeout = self.campaign.target.timeout_s
        if not isinstance(self._runner, MasterRunner):
            self.generator.install(events)
        if isinstance(self._runner, WorkerRunner):
            self._runner.send_message(READY, self._identity())
            return
        events.worker_report.add_listener(self._on_worker_report)
        shape = CampaignShape(self._play, self._finish)
        shape.runner = self._runner
        environment.shape_class = shape
        events.test_stop.add_listener(lambda **_: shape.restart())
        events.quitting.add_listener(self._on_quitting)
        if self._result_path != "":
            # The parent shows the campaign's own table.
            logging.getLogger("locust.stats_logger").setLevel(logging.WARNING)

    def _identity(self) -> dict[str, str]:
        ours = versions()
        digest = hashlib.sha256(self.campaign.model_dump_json(include=_SENT).encode()).hexdigest()
        return {"tritonforge": ours["tritonforge"], "locust": ours["locust"], "campaign (SHA-256)": digest}

    # --- on the local process or master -----------------------------------------------------------------------------

    def _play(self) -> Iterator[Users]:
        conductor, watch = self._leading()
        self._starts_s, self._started_at = time.perf_counter(), datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._is_judged = False
        watch.start(self._starts_s)
        yield from conductor.play()
        watch.stop()

    def _leading(self) -> tuple[Conductor, Watch]:
        if self._conductor is None or self._watch is None:
            raise TypeError("a worker does not lead")
        return self._conductor, self._watch

    def _tell(self, event: Mapping[str, Any]) -> None:
        text = line_from_event(event) if self._result_path != "" else text_from_event(event)
        if text is not None:
            _say(text)

    def _on_worker_report(self, client_id: str, data: dict[str, Any], **_: object) -> None:
        drained = reported(data)
        if drained is not None:
            self._leading()[0].add(client_id, drained)

    def _holds(self, played: Played) -> tuple[tuple[str, ...], bool]:
        """Why a run of a search does not hold, and whether the generator was the limit."""
        conductor, watch = self._leading()
        phase = self.campaign.phases[played.run.phase]
        if not isinstance(phase, SearchPhase):
            raise TypeError("this phase is no search")
        measured = run_result(self.campaign, played, conductor.recording, starts_s=played.starts_s - self._starts_s)
        broken = step_failures(phase.search, measured, self.campaign, watch.timeline())
        return (*measured.invalid, *broken), bool(measured.invalid)

    def _finish(self) -> None:
        """Judge what was measured, and hand it on."""
        if self._is_judged:
            return
        self._is_judged = True
        conductor, watch = self._leading()
        result = campaign_result(
            self.campaign,
            conductor.played,
            conductor.recording,
            searches=conductor.searches,
            problems=conductor.problems,
            timeline=watch.timeline(),
            baseline=self._baseline,
            starts_s=self._starts_s,
            started_at=self._started_at,
        )
        self._environment.process_exit_code = result.exit_code
        if self._result_path == "":
            _say(text_from_result(result))
        else:
            self._hand_over(result)

    def _hand_over(self, result: CampaignResult) -> None:
        """Write the result for the parent process; where that is not possible, show at least what was measured."""
        path = Path(self._result_path)
        try:
            write_whole(json.dumps({"result": dict_from_result(result)}), path)
        except OSError as error:
            self._environment.process_exit_code = LoadError.exit_code
            _say(text_from_result(result))
            action = "free some space there, or name another folder for temporary files with TMPDIR"
            text = f"the result cannot be handed on through {path.parent}: {error.strerror}; {action}"
            self._tell({"event": "note", "text": text})

    def _on_quitting(self, **_: object) -> None:
        """Tell what was measured of a campaign that was stopped early."""
        conductor, watch = self._leading()
        if self._is_judged or not conductor.played:
            if not self._is_judged and self._environment.process_exit_code is None:
                self._environment.process_exit_code = 1
            return
        watch.stop()
        conductor.flush(timeout_s=_LAST_WORDS_S)
        conductor.stopped()
        self._finish()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
