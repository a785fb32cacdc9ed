"""Shapes played by the real Locust, which writes down how many users it was asked for and when."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from support.locust_runs import fetched, run_locust, started_locust, wait_until, worker_ports

LOCUSTFILE = """\
import json, os, time
import gevent
from locust import User, constant, events, task
from locust.runners import WorkerRunner
from tritonforge_load.shapes import UsersShape, curve, offer_shapes, spike, steps


class Idle(User):
    wait_time = constant(0.05)

    @task
    def nothing(self):
        pass


@events.init.add_listener
def watch(environment, runner, **_):
    if isinstance(runner, WorkerRunner):
        return
    seen = []

    def look():
        while True:
            users = runner.target_user_count if runner.state in ("spawning", "running") else None
            if users != (seen[-1][1] if seen else None):
                seen.append((time.time(), users))
            gevent.sleep(0.01)

    def write(**_):
        with open(os.environ["SEEN"], "w") as file:
            json.dump([*seen, (time.time(), None)], file)

    gevent.spawn(look)
    environment.events.quitting.add_listener(write)


"""


def arguments_of(tmp_path: Path, text: str) -> list[str]:
    (tmp_path / "shaped.py").write_text(LOCUSTFILE + text)
    return ["-f", str(tmp_path / "shaped.py")]


def seen_in(tmp_path: Path) -> dict[str, str]:
    return {"SEEN": str(tmp_path / "seen.json")}


def played(tmp_path: Path, text: str, *arguments: str, exit_code: int = 0) -> str:
    command = [*arguments_of(tmp_path, text), "--headless", *arguments]
    done = run_locust(*command, cwd=tmp_path, environment=seen_in(tmp_path))
    assert done.returncode == exit_code, done.stdout + done.stderr
    return done.stdout + done.stderr


def stretches(tmp_path: Path) -> list[tuple[int, float]]:
    """How many users Locust was asked for, and for how long."""
    seen = json.loads((tmp_path / "seen.json").read_text())
    return [(users, end_s - begin_s) for (begin_s, users), (end_s, _) in itertools.pairwise(seen) if users is not None]


def users_of(tmp_path: Path) -> list[int]:
    return [users for users, _ in stretches(tmp_path)]


def test_every_row_is_played_for_its_time(tmp_path: Path) -> None:
    played(tmp_path, "class Mine(UsersShape):\n    rows = [(2, 1.5), (5, 1), (1, 2.25)]\n")
    assert users_of(tmp_path) == [2, 5, 1]
    for (_, took_s), wanted_s in zip(stretches(tmp_path), (1.5, 1, 2.25), strict=True):
        assert wanted_s - 0.2 < took_s < wanted_s + 0.4


@pytest.mark.slow
def test_rows_of_a_second_are_played_with_workers_too(tmp_path: Path, unused_tcp_port: int) -> None:
    played(
        tmp_path, "class Mine(UsersShape):\n    rows = steps(2, 4, 6, 8, duration_s=1)\n",
        "--processes", "2", *worker_ports(unused_tcp_port),
    )  # fmt: skip
    assert users_of(tmp_path) == [2, 4, 6, 8]


SLOW_START = """\
class Mine(UsersShape):
    rows = steps(1, 2, 3, 4, duration_s=1)


@events.init.add_listener
def start_slowly(runner, **_):
    start = runner.start

    def slow_start(user_count, **kwargs):
        start(user_count, **kwargs)
        if user_count == 2:
            time.sleep(2.2)  # as long as rows 2 and 3 are

    runner.start = slow_start
"""


@pytest.mark.slow
def test_no_row_is_skipped_while_locust_starts_users(tmp_path: Path) -> None:
    played(tmp_path, SLOW_START)
    assert users_of(tmp_path) == [1, 2, 3, 4]
    assert [took_s > 0.8 for _, took_s in stretches(tmp_path)] == [True] * 4


@pytest.mark.slow
def test_a_slow_spawn_rate_that_fits_is_kept(tmp_path: Path) -> None:
    output = played(tmp_path, "class Mine(UsersShape):\n    rows = [(3, 2.5, 1), (1, 1)]\n")
    assert "Ramping to 3 users at a rate of 1.00 per second" in output
    assert users_of(tmp_path) == [3, 1]


class TestOfferedShapes:
    TEXT = "offer_shapes(up=steps(2, 3, duration_s=1), lunch=spike(users=1, peak=4, before_s=1, peak_s=1, after_s=1))\n"

    def test_the_option_chooses_one(self, tmp_path: Path) -> None:
        played(tmp_path, self.TEXT, "--shape", "lunch")
        assert users_of(tmp_path) == [1, 4, 1]

    def test_without_it_the_usual_options_count(self, tmp_path: Path) -> None:
        played(tmp_path, self.TEXT, "-u", "3", "-r", "3", "-t", "1s")
        assert users_of(tmp_path) == [3]

    def test_an_unknown_name_is_refused_with_the_known_ones(self, tmp_path: Path) -> None:
        output = played(tmp_path, self.TEXT, "--shape", "down", exit_code=2)
        assert "invalid choice: 'down'" in output
        assert "lunch" in output

    @pytest.mark.slow
    def test_a_file_with_a_shape_of_its_own_keeps_it(self, tmp_path: Path) -> None:
        text = f"{self.TEXT}\n\nclass Mine(UsersShape):\n    rows = [(1, 1)]\n"
        output = played(tmp_path, text, "--shape", "up", exit_code=1)
        assert "--shape up: the users over time are given already. Leave out --shape" in output


def test_wrong_rows_stop_locust_at_the_class(tmp_path: Path) -> None:
    output = played(tmp_path, "class Mine(UsersShape):\n    rows = [(100, 5, 1)]\n", exit_code=1)
    assert "class Mine(UsersShape)" in output
    assert "expected a change that fits into the 5 s of the row" in output


@pytest.mark.slow
def test_the_web_page_starts_a_shape_from_its_first_row_again(tmp_path: Path, unused_tcp_port: int) -> None:
    command = arguments_of(tmp_path, "class Mine(UsersShape):\n    rows = [(3, 1), (5, 20)]\n")
    command += ["--web-host", "127.0.0.1", "--web-port", str(unused_tcp_port)]
    page = f"http://127.0.0.1:{unused_tcp_port}"
    with started_locust(*command, cwd=tmp_path, environment=seen_in(tmp_path)) as process:
        assert wait_until(lambda: fetched(f"{page}/stats/requests")["state"] == "ready")
        for _ in range(2):
            assert fetched(f"{page}/swarm", {"host": ""})["success"]
            assert wait_until(lambda: fetched(f"{page}/stats/requests")["user_count"] == 5)
            assert fetched(f"{page}/stop", {})["success"]
            assert wait_until(lambda: fetched(f"{page}/stats/requests")["state"] == "stopped")
        process.terminate()
        output = process.communicate(timeout=20)
    assert process.returncode == 0, output
    assert users_of(tmp_path) == [3, 5, 3, 5]
