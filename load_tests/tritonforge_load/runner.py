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
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tritonforge_client.extras import MissingExtraError
from tritonforge_generator.errors import SpecError
from tritonforge_load.campaign import Campaign, read_campaign
from tritonforge_load.errors import LoadError
from tritonforge_load.results import CampaignResult

LOCUSTFILE: Final = Path(__file__).with_name("locustfile.py")

_TAIL_LINES: Final = 40
_START_AND_END_S: Final = 60.0
_BETWEEN_PHASES_S: Final = 5.0
_STOP_S: Final = 10.0


def run_campaign(
    path: Path, *, url: str | None = None, out: Path | None = None, on_line: Callable[[str], None] | None = None
) -> CampaignResult:
    """Run a campaign file against its server and judge its gates.

    Args:
        path: The campaign file.
        url: Replaces ``target.url``.
        out: Folder of the output files; replaces ``outputs.dir``. Without either no file is written.
        on_line: Called with each line that the run prints: phases as they begin, and warnings.

    Returns:
        The result; its ``exit_code`` is 0 when all gates passed and 1 when one did not.

    Raises:
        SpecError: The file is wrong, or does not fit the models; nothing was sent.
        LoadError: The server was not ready, or the run did not come to its end.
        MissingExtraError: Locust is not installed.
        KeyboardInterrupt: Ctrl-C; the run was stopped.
    """
    campaign = read_campaign(path, url=url)
    if importlib.util.find_spec("locust") is None:
        raise MissingExtraError("locust", "load")
    folder = _output_folder(campaign, path, out)
    with tempfile.TemporaryDirectory(prefix="tritonforge-load-") as scratch:
        result_path = Path(scratch) / "result.json"
        _run_locust(_command(campaign, path, result_path), campaign, on_line or (lambda _: None), result_path)
        result = _read_result(result_path)
    if folder is not None:
        _write_outputs(result, folder, ("json", "csv") if campaign.outputs is None else campaign.outputs.formats)
    return result


def _output_folder(campaign: Campaign, path: Path, out: Path | None) -> Path | None:
    """Make the folder before load starts, so that a campaign is not run for nothing."""
    folder = out
    if folder is None and campaign.outputs is not None:
        folder = path.parent / campaign.outputs.dir
    if folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        what = f"{folder}: outputs cannot be written: {error.strerror}"
        raise LoadError(what, action="Choose another folder with outputs.dir or --out") from error


def _command(campaign: Campaign, path: Path, result_path: Path) -> list[str]:
    command = [
        *(sys.executable, "-m", "locust", "-f", str(LOCUSTFILE)),
        *("--headless", "--only-summary", "--loglevel", "WARNING", "--host", campaign.target.url),
        *("--campaign", str(path), "--campaign-result", str(result_path), "--campaign-parent", str(os.getpid())),
    ]
    if campaign.workers > 1:
        port = str(_free_port())
        command += ["--processes", str(campaign.workers), "--master-bind-host", "127.0.0.1"]
        command += ["--master-bind-port", port, "--master-port", port]
    return command


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _longest_run_s(campaign: Campaign) -> float:
    """Time after which a run cannot be right any more."""
    phases_s = sum(phase.duration_s + _BETWEEN_PHASES_S for phase in campaign.phases)
    ready_s = campaign.target.wait_ready_s * (len(campaign.workload) + 1)
    return phases_s + ready_s + campaign.target.timeout_s + _START_AND_END_S


def _run_locust(command: list[str], campaign: Campaign, on_line: Callable[[str], None], result_path: Path) -> None:
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    # A session of its own: Ctrl-C reaches this process only, which then stops all of the group in order.
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, encoding="utf-8", errors="replace", start_new_session=True,
    )  # fmt: skip
    reader = threading.Thread(target=_forward_lines, args=(process, tail, on_line), daemon=True)
    reader.start()
    longest_s = _longest_run_s(campaign)
    try:
        process.wait(timeout=longest_s)
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"the run did not end within {longest_s:.0f} s", action=_shown(tail)) from error
    finally:
        _stop(process)
        reader.join(timeout=_STOP_S)
    if not result_path.exists():
        what = f"the load generator ended early with exit code {process.returncode}"
        raise LoadError(what, action=_shown(tail))


def _forward_lines(process: subprocess.Popen[str], tail: deque[str], on_line: Callable[[str], None]) -> None:
    if process.stdout is None:
        return
    with process.stdout:
        for line in process.stdout:
            tail.append(line.rstrip("\n"))
            on_line(tail[-1])


def _shown(tail: deque[str]) -> str:
    return "Its last lines were:\n" + "\n".join(f"  {line}" for line in tail) if tail else "It printed nothing"


def _stop(process: subprocess.Popen[str]) -> None:
    """End the process and all that it started, in order if it can be."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read_result(path: Path) -> CampaignResult:
    told = json.loads(path.read_text(encoding="utf-8"))
    if "failure" in told:
        raise (SpecError if told["exit_code"] == SpecError.exit_code else LoadError)(told["failure"])
    return CampaignResult.from_dict(told["result"])


def _write_outputs(result: CampaignResult, folder: Path, formats: tuple[str, ...]) -> None:
    try:
        if "json" in formats:
            (folder / f"{result.campaign}.json").write_text(result.to_json() + "\n", encoding="utf-8")
        if "csv" in formats:
            result.write_csv(folder / f"{result.campaign}.csv")
    except OSError as error:
        raise LoadError(
            f"{folder}: outputs cannot be written: {error.strerror}", action="Make room and run again"
        ) from error
