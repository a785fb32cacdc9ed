"""Load on the digits model, for `locust -f load_tests/locustfile.py`; a start for a locustfile of your own.

    locust -f load_tests/locustfile.py --host grpc://127.0.0.1:8001 --headless -u 4 -t 30s
    locust -f load_tests/locustfile.py --host http://127.0.0.1:8000 --processes 2
    locust -f load_tests/locustfile.py --headless --tags single -u 4 -t 30s --csv out --html out.html
    locust -f load_tests/locustfile.py --headless --shape spike
    locust -f load_tests/locustfile.py --headless --campaign load_tests/campaigns/digits.yaml

The host's scheme chooses the protocol. With --campaign the file says what is sent when; its gates set the exit code.
"""

from __future__ import annotations

import importlib.resources
import random

import numpy as np
from locust import between, tag, task

from tritonforge_load.session import register
from tritonforge_load.shapes import offer_shapes, spike, steps
from tritonforge_load.users import TritonUser

register()  # the option --campaign

offer_shapes(  # the option --shape
    steps=steps(2, 4, 8, duration_s=20),
    spike=spike(users=2, peak=16, before_s=20, peak_s=5, after_s=20),
)

with importlib.resources.as_file(
    importlib.resources.files("tritonforge_generator").joinpath("demo/data/digits_test.npz")
) as path:
    IMAGES = np.load(path)["images"]  # float32, (360, 1, 8, 8)


class BusyUser(TritonUser):
    """Sends the next request as soon as the last one is answered; of four requests, one is a batch."""

    host = "grpc://127.0.0.1:8001"
    weight = 3

    @tag("single")
    @task(3)
    def classify(self) -> None:
        self._classify(rows=1)

    @tag("batch")
    @task(1)
    def classify_batch(self) -> None:
        self._classify(rows=8)

    def _classify(self, *, rows: int) -> None:
        first = random.randrange(len(IMAGES) - rows)  # noqa: S311
        self.infer("digits", {"images": IMAGES[first : first + rows]}, name=f"digits, {rows} a request")


class ThinkingUser(TritonUser):
    """Looks at every answer for a while, as people do. Its requests are prepared, which costs the least to send."""

    host = "grpc://127.0.0.1:8001"
    weight = 1
    wait_time = between(0.05, 0.2)

    def on_start(self) -> None:
        super().on_start()
        digits = self.model("digits")
        self.prepared = [digits.prepare({"images": IMAGES[row : row + 1]}) for row in range(16)]

    @tag("single")
    @task
    def classify(self) -> None:
        self.send(random.choice(self.prepared), name="digits, prepared")  # noqa: S311
