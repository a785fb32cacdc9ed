"""One row of ``load_rates.py`` in a Locust process of its own, on one core: prints a line of JSON and ends."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a script, this folder is no package yet

import locust  # before all others, as it patches the process
from benchmarks.load_rates_clients import ROWS
from locust.env import Environment

from tritonforge_load.users import TritonUser, prepare_process

gevent: Any = import_module("gevent")

USERS: Final = 8
WARM_UP_S: Final = 0.7
CALLS_A_TURN: Final = 50


def main() -> None:
    """Play."""
    task: dict[str, Any] = json.loads(sys.argv[1])
    os.sched_setaffinity(0, {task["core"]})
    prepare_process()
    if "grpc" in task["row"]:  # grpcio would stop all greenlets; and each of its calls in flight takes a thread
        import_module("grpc.experimental.gevent").init_gevent()
        gevent.get_hub().threadpool.maxsize = 4 * USERS
    environment = Environment(user_classes=[user_class(task["row"])], host=task["url"])
    environment.create_local_runner().start(USERS, spawn_rate=USERS)
    gevent.sleep(WARM_UP_S)
    print(json.dumps(measured(environment, task["seconds"])), flush=True)
    os._exit(0)  # a channel of tritonclient that is open keeps a process from ending


def measured(environment: Environment, seconds: float) -> Mapping[str, float]:
    """Requests and processor time of a while."""
    total: Any = environment.stats.total
    requests_before, start_s, cpu_start_s = total.num_requests, time.perf_counter(), time.process_time()
    gevent.sleep(seconds)
    cpu_s, wall_s = time.process_time() - cpu_start_s, time.perf_counter() - start_s
    requests = total.num_requests - requests_before
    if requests == 0 or total.num_failures > 0:
        raise SystemExit(f"{requests} requests, {total.num_failures} failures: {environment.stats.errors}")
    return {"rate_per_s": requests / wall_s, "cpu_us": cpu_s * 1e6 / requests, "core_share": cpu_s / wall_s}


def user_class(name: str) -> type[TritonUser]:
    """Users that send by one row."""
    row = ROWS[name]

    class Sender(TritonUser):
        def on_start(self) -> None:
            if row.protocol:
                super().on_start()
            self.opened = row.open(self)
            self.call = self.opened.__enter__()

        @locust.task
        def send_for_ever(self) -> None:
            # In one task, so that no row pays for Locust's choice of the next.
            while True:
                for _ in range(CALLS_A_TURN):
                    self.call()
                gevent.sleep(0)  # the row that sends nothing has to let others go on

    return Sender


if __name__ == "__main__":
    main()
