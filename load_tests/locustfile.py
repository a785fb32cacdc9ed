"""Load on the digits model, for `locust -f load_tests/locustfile.py`; a start for a locustfile of your own.

    locust -f load_tests/locustfile.py --host grpc://127.0.0.1:8001 --headless -u 4 -t 30s
    locust -f load_tests/locustfile.py --host http://127.0.0.1:8000 --processes 2
    locust -f load_tests/locustfile.py --headless --campaign load_tests/campaigns/digits.yaml

The host's scheme chooses the protocol. With --campaign the file says what is sent when; its gates set the exit code.
"""

from __future__ import annotations

import importlib.resources
import random

import numpy as np
from locust import tag, task

from tritonforge_load.session import register
from tritonforge_load.users import TritonUser

register()  # the option --campaign

with importlib.resources.as_file(
    importlib.resources.files("tritonforge_generator").joinpath("demo/data/digits_test.npz")
) as path:
    IMAGES = np.load(path)["images"]  # float32, (360, 1, 8, 8)


class DigitsUser(TritonUser):
    host = "grpc://127.0.0.1:8001"

    @tag("single")
    @task(4)
    def classify(self) -> None:
        self._classify(rows=1)

    @tag("batch")
    @task(1)
    def classify_batch(self) -> None:
        self._classify(rows=8)

    def _classify(self, *, rows: int) -> None:
        first = random.randrange(len(IMAGES) - rows)  # noqa: S311
        self.infer("digits", {"images": IMAGES[first : first + rows]}, name=f"digits, {rows} a request")
