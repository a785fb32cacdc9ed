"""Runs a campaign in a Locust process of its own.

This module does not import Locust, which monkey-patches the process that imports it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tritonforge_client.extras import MissingExtraError
from tritonforge_generator.errors import SpecError
from tritonforge_load.arrivals.runs import Runs
from tritonforge_load.campaign import Campaign, SearchPhase, read_campaign
from tritonforge_load.command import Master, run_command
from tritonforge_load.errors import LoadError
from tritonforge_load.events import event_from_line, text_from_event
from tritonforge_load.judge.search import longest_steps
from tritonforge_load.measure import CampaignResult, result_from_dict
from tritonforge_load.plan import plan_from_campaign
from tritonforge_load.report.outputs import check_folder, check_outputs, write_outputs

_TAIL_LINES: Final = 40
_START_AND_END_S: Final = 180.0  # ten thousand images take a core 40 s to read
_BETWEEN_RUNS_S: Final = 5.0
_STOP_S: Final = 10.0
_ALL_FORMATS: Final = ("json", "csv", "junit", "html")

Listener = Callable[[Mapping[str, Any]], None]


class UnwrittenError(LoadError):
    """The campaign was run, and not all of its outputs could be written.

    Args:
        error: Which and why.
        result: What was measured.
    """

    def __init__(self, error: LoadError, result: CampaignResult) -> None:
        super().__init__(str(error))
        self.result = result


def run_campaign(
    path: Path,
    *,
    url: str | None = None,
    settings: Mapping[str, Any] | None = None,
    out: Path | None = None,
    master: Master | None = None,
    on_event: Listener | None = None,
) -> CampaignResult:
    """Run a campaign file against its server and judge its gates.

    Args:
        path: The campaign file.
        url: Replaces ``target.url``.
        settings: Values that replace the file's, nested like it.
        out: Folder of the output files; replaces ``outputs.dir``. Without either no file is written.
        master: Where workers that were started elsewhere connect to; without it the campaign's ``workers`` are
            processes of this machine.
        on_event: Called with everything that the run tells (``tritonforge_load.events``): phases as they begin, their
            seconds, and notes. Lines of Locust come as notes.

    Returns:
        The result; its ``exit_code`` is 0 when all gates passed.

    Raises:
        SpecError: The file is wrong, or does not fit the models; nothing was sent.
        UnwrittenError: It was run, and outputs could not be written; it holds the result.
        LoadError: The server was not ready, the run did not come to its end, or the outputs' folder is not writable.
        MissingExtraError: Locust is not installed.
        KeyboardInterrupt: Ctrl-C; the run was stopped, and outputs hold what was measured until then.
    """
    settings = _with_url(settings or {}, url)
    campaign = read_campaign(path, settings=settings)
    if importlib.util.find_spec("locust") is None:
        raise MissingExtraError("locust", "load")
    folder = _output_folder(campaign, path, out)
    formats = _ALL_FORMATS if campaign.outputs is None else campaign.outputs.formats
    if folder is not None:
        check_outputs(formats)
    if master is None and campaign.workers > 1:
        master = Master(campaign.workers, host="127.0.0.1", port=_free_port(), forks=True)
    with tempfile.TemporaryDirectory(prefix="tritonforge-load-") as scratch:
        told = Path(scratch) / "result.json"
        command = run_command(
            path, host=campaign.target.url, settings=settings, master=master, result=told, parent=os.getpid()
        )
        waits_s = master.wait_s if master is not None and not master.forks else 0.0
        tell = on_event or (lambda _: None)
        _tell_undecidable(campaign, path.resolve().parent, tell)
        child = _Child(command, tell)
        try:
            child.wait(_longest_s(campaign, path.resolve().parent) + waits_s)
        except KeyboardInterrupt:
            if told.exists():
                _written(_read_result(told), folder, formats)
            raise
        if not told.exists():
            what = f"the load generator ended without a result, with exit code {child.exit_code}"
            raise LoadError(what, action=child.last_lines)
        return _written(_read_result(told), folder, formats)


def _tell_undecidable(campaign: Campaign, base: Path, tell: Listener) -> None:
    """Tell of gates that cannot be decided however the server behaves, before time is spent on them."""
    for gate in plan_from_campaign(campaign, base).undecidable:
        tell({"event": "note", "text": f"{gate.phase}: gate '{gate.assertion}' cannot be decided: {gate.reason}"})


def _written(result: CampaignResult, folder: Path | None, formats: Sequence[str]) -> CampaignResult:
    """Write the outputs, where there is a folder for them."""
    if folder is not None:
        try:
            write_outputs(result, folder, formats)
        except LoadError as error:
            raise UnwrittenError(error, result) from error
    return result


def _with_url(settings: Mapping[str, Any], url: str | None) -> Mapping[str, Any]:
    if url is None:
        return settings
    return {**settings, "target": {**settings.get("target", {}), "url": url}}


def _output_folder(campaign: Campaign, path: Path, out: Path | None) -> Path | None:
    """Make the folder before load starts, so that a campaign is not run for nothing."""
    folder = out
    if folder is None and campaign.outputs is not None:
        folder = path.parent / campaign.outputs.dir
    if folder is None:
        return None
    check_folder(folder, action="Choose another folder with outputs.dir or --out")
    return folder


def _longest_s(campaign: Campaign, base: Path) -> float:
    """Time after which a campaign cannot be right any more."""
    runs = Runs(campaign, base=base)
    between_s = _BETWEEN_RUNS_S + campaign.target.timeout_s
    total_s = campaign.target.wait_ready_s * (len(campaign.workload) + 1) + _START_AND_END_S
    for index, phase in enumerate(campaign.phases):
        if isinstance(phase, SearchPhase):
            total_s += longest_steps(phase.search) * (phase.search.step_for_s + between_s)
        else:
            total_s += sum(run.duration_s + between_s for run in runs.of_phase(index))
    return total_s


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class _Child:
    """The Locust process and all that it starts.

    Attributes:
        command: Its command line.
        on_event: Called with what it tells.
    """

    command: list[str]
    on_event: Listener
    _tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))

    def __post_init__(self) -> None:
        # A session of its own: Ctrl-C reaches this process only, which then stops all of the group in order.
        self._process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, encoding="utf-8", errors="replace", start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._forward_lines, daemon=True)
        self._reader.start()

    @property
    def exit_code(self) -> int | None:
        """What it ended with."""
        return self._process.returncode

    @property
    def last_lines(self) -> str:
        """What it printed last, for error messages."""
        if not self._tail:
            return "It printed nothing"
        return "Its last lines were:\n" + "\n".join(f"  {line}" for line in self._tail)

    def wait(self, timeout_s: float) -> None:
        """Wait until it has ended; however this ends, nothing of it stays.

        Raises:
            LoadError: It took longer.
        """
        try:
            self._process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise LoadError(f"the run did not end within {timeout_s:.0f} s", action=self.last_lines) from error
        finally:
            self._stop()
            self._reader.join(timeout=_STOP_S)

    def _forward_lines(self) -> None:
        if self._process.stdout is None:
            return
        with self._process.stdout:
            for line in self._process.stdout:
                text = line.rstrip("\n")
                event = event_from_line(text)
                shown = text if event is None else text_from_event(event)
                if shown is not None:
                    self._tail.append(shown)
                self.on_event({"event": "note", "text": text} if event is None else event)

    def _stop(self) -> None:
        """End the process and all that it started, in order if it can be."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_STOP_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _read_result(path: Path) -> CampaignResult:
    told = json.loads(path.read_text(encoding="utf-8"))
    if "failure" in told:
        raise (SpecError if told["exit_code"] == SpecError.exit_code else LoadError)(told["failure"])
    return result_from_dict(told["result"])
