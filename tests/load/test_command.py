from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tritonforge_load.command import LOCUSTFILE, MASTER_PORT, Master, run_command, worker_command

RESULT = Path("/scratch/result.json")


def of_run(master: Master | None, settings: dict[str, object] | None = None) -> list[str]:
    return run_command(
        Path("campaign.yaml"), host="grpc://h:1", settings=settings or {}, master=master, result=RESULT, parent=7
    )


def value_of(command: list[str], flag: str) -> str:
    return command[command.index(flag) + 1]


def test_one_process_is_no_master() -> None:
    command = of_run(None)
    assert command[:4] == [sys.executable, "-m", "locust", "-f"]
    assert LOCUSTFILE.is_file()
    assert value_of(command, "--campaign") == "campaign.yaml"
    assert value_of(command, "--campaign-parent") == "7"
    assert not {"--master", "--worker", "--processes", "--campaign-settings"} & set(command)


def test_workers_of_this_machine_are_forked_on_a_port_of_their_own() -> None:
    command = of_run(Master(3, host="127.0.0.1", port=4000, forks=True))
    assert value_of(command, "--processes") == "3"
    assert value_of(command, "--master-bind-port") == value_of(command, "--master-port") == "4000"
    assert "--master" not in command  # Locust refuses it beside --processes


def test_workers_elsewhere_are_waited_for() -> None:
    command = of_run(Master(4, wait_s=12.4))
    assert "--master" in command
    assert value_of(command, "--expect-workers") == "4"
    assert value_of(command, "--expect-workers-max-wait") == "12"
    assert (value_of(command, "--master-bind-host"), value_of(command, "--master-bind-port")) == ("*", str(MASTER_PORT))


def test_settings_reach_master_and_workers_alike() -> None:
    settings = {"phases": {"steady": {"for": "5s"}}, "target": {"url": "grpc://h:1"}}
    ours = of_run(Master(2), settings)
    theirs = worker_command(Path("campaign.yaml"), settings=settings, master_host="m")
    told = {value_of(command, "--campaign-settings") for command in (ours, theirs)}
    assert [json.loads(text) for text in told] == [settings]


@pytest.mark.parametrize("processes", [1, 3])
def test_a_worker_knows_its_master(processes: int) -> None:
    command = worker_command(Path("c.yaml"), settings={}, master_host="m", master_port=9, processes=processes)
    assert "--worker" in command
    assert (value_of(command, "--master-host"), value_of(command, "--master-port")) == ("m", "9")
    assert ("--processes" in command) == (processes > 1)


@pytest.mark.parametrize(
    "command",
    [
        of_run(None, {"workers": 2}),
        of_run(Master(2, forks=True)),
        of_run(Master(2)),
        worker_command(Path("c.yaml"), settings={}, master_host="m", processes=2),
    ],
    ids=["local", "forks", "master", "worker"],
)
def test_locust_knows_every_option(command: list[str]) -> None:
    """Locust parses the line; asked for its users it ends before anything runs."""
    done = subprocess.run([*command, "--list"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "CampaignUser" in done.stdout + done.stderr
