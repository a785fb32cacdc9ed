"""Locust's option ``--campaign``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tritonforge_client.errors import TritonError
from tritonforge_client.extras import require_extra
from tritonforge_generator.errors import SpecError, TritonforgeError
from tritonforge_generator.report.pages import write_whole
from tritonforge_load.session.session import Session
from tritonforge_load.users import close_clients

if TYPE_CHECKING:
    import locust
    from locust.env import Environment
    from locust.runners import Runner, WorkerRunner
else:
    locust = require_extra("locust", "load")
    from locust.runners import WorkerRunner

gevent: Any = require_extra("gevent", "load")

_PARENT_CHECK_S: Final = 0.5


def register() -> None:
    """Give the Locust process that imports the calling locustfile the option ``--campaign``."""
    events: Any = locust.events
    events.init_command_line_parser.add_listener(_add_arguments)
    events.init.add_listener(_start_session)


def _add_arguments(parser: Any, **_: object) -> None:
    parser.add_argument("--campaign", metavar="FILE", default="", include_in_web_ui=False, help="Campaign file to run")
    parser.add_argument(
        "--campaign-settings", metavar="JSON", default="{}", include_in_web_ui=False,
        help='Values that replace the file\'s, nested like it: {"workers": 2}',
    )  # fmt: skip
    # Between run_campaign and its child; no concern of a user.
    parser.add_argument("--campaign-result", default="", include_in_web_ui=False, help=argparse.SUPPRESS)
    parser.add_argument("--campaign-parent", type=int, default=0, include_in_web_ui=False, help=argparse.SUPPRESS)


def _start_session(environment: Environment, runner: Runner, **_: object) -> None:
    options: Any = environment.parsed_options
    if options is None or options.campaign == "":
        return
    is_worker = isinstance(runner, WorkerRunner)
    try:
        settings = _settings(options.campaign_settings)
        session = Session(
            Path(options.campaign), environment, runner, settings=settings, result_path=options.campaign_result
        )
        session.prepare()
    except (TritonforgeError, TritonError) as error:
        exit_code = error.exit_code if isinstance(error, TritonforgeError) else 1
        # A worker of this machine fails for the same reason as its master, which says so.
        if not is_worker or options.campaign_parent == 0:
            _tell_failure(str(error), exit_code, options.campaign_result)
        close_clients()
        sys.exit(exit_code)
    session.install()
    parent = options.campaign_parent
    if is_worker:
        parent = os.getppid() if options.processes else 0
    if parent != 0:
        runner.greenlet.spawn(_quit_after, parent, runner)


def _tell_failure(text: str, exit_code: int, result_path: str) -> None:
    """Say why nothing can be played, once: to the parent process where there is one, which tells it."""
    if result_path != "":
        with contextlib.suppress(OSError):  # of a full disk; then it is told here
            write_whole(json.dumps({"failure": text, "exit_code": exit_code}), Path(result_path))
            return
    sys.stdout.write(f"Error: {text}\n")


def _settings(text: str) -> dict[str, Any]:
    try:
        settings: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise SpecError("--campaign-settings", expected="a JSON object", got=repr(text)) from error
    return settings


def _quit_after(parent: int, runner: Runner) -> None:
    """End this process when the one that started it has gone, however it went."""
    while os.getppid() == parent:
        gevent.sleep(_PARENT_CHECK_S)
    runner.quit()
