"""The command lines of the Locust processes that a campaign runs in. Nothing is started here.

A campaign runs in one process; in a master and its workers on one machine, which Locust forks; or in a master and
workers that were started elsewhere:

====================  ===========================================
``run_command``       the process whose result is read, with or without workers of its own or elsewhere
``worker_command``    a worker on any machine, for a master elsewhere
====================  ===========================================
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

LOCUSTFILE: Final = Path(__file__).with_name("locustfile.py")
MASTER_PORT: Final = 5557
"""Port that a Locust master listens on when it is told nothing else."""


@dataclass(frozen=True, slots=True)
class Master:
    """Where a master waits for its workers.

    Attributes:
        workers: How many it waits for.
        host: Address that it listens on; ``*`` for all of the machine.
        port: Port that it listens on.
        wait_s: How long it waits for them.
        forks: Whether Locust forks the workers on this machine; otherwise they are started elsewhere.
    """

    workers: int
    host: str = "*"
    port: int = MASTER_PORT
    wait_s: float = 300.0
    forks: bool = False


def run_command(
    campaign: Path,
    *,
    host: str,
    settings: Mapping[str, Any],
    master: Master | None,
    result: Path,
    parent: int,
) -> list[str]:
    """Build the command of the process that plays a campaign and writes its result.

    Args:
        campaign: The campaign file.
        host: URL of the server, which Locust shows.
        settings: Values that replace the file's, as in ``read_campaign``.
        master: Where workers connect to; ``None`` sends from the process itself.
        result: Where the result is written for the parent process.
        parent: Id of the parent process, without which the process ends.
    """
    command = [
        *_locust(campaign, settings),
        *("--headless", "--only-summary", "--loglevel", "WARNING", "--host", host),
        *("--campaign-result", str(result), "--campaign-parent", str(parent)),
    ]
    if master is None:
        return command
    port = str(master.port)
    command += ["--master-bind-host", master.host, "--master-bind-port", port]
    if master.forks:
        return [*command, "--processes", str(master.workers), "--master-port", port]
    wait_s = str(max(1, round(master.wait_s)))
    return [*command, "--master", "--expect-workers", str(master.workers), "--expect-workers-max-wait", wait_s]


def worker_command(
    campaign: Path,
    *,
    settings: Mapping[str, Any],
    master_host: str,
    master_port: int = MASTER_PORT,
    processes: int = 1,
) -> list[str]:
    """Build the command of a worker for a master elsewhere.

    Args:
        campaign: The same campaign file as the master's.
        settings: The same settings as the master's.
        master_host: Name or address of the master's machine.
        master_port: Port that it listens on.
        processes: How many workers; a core each.
    """
    command = [
        *_locust(campaign, settings),
        *("--worker", "--loglevel", "WARNING", "--master-host", master_host, "--master-port", str(master_port)),
    ]
    return command if processes == 1 else [*command, "--processes", str(processes)]


def _locust(campaign: Path, settings: Mapping[str, Any]) -> list[str]:
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--campaign", str(campaign)]
    return [*command, "--campaign-settings", json.dumps(settings)] if settings else command
