"""What a campaign says of servers of known behaviour is true.

The servers are told what to do; what they then did, they measured themselves, from the moment at which the kernel had
their request. A busy machine may stop any process for milliseconds: that makes a report larger than the truth and never
smaller. So nothing may ever be smaller, and what is larger is judged in the best of some runs.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest
from support.freezing_proxy import FreezingProxy
from support.quick_machine import awake, shared_cores
from support.responder import Responder, connected, timed_request
from support.truth import Load, Stall, bare, closed, known, stalled_ms, true_ms

from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_load.measure import WorkloadResult
from tritonforge_load.measure.histogram import RELATIVE_ERROR

pytestmark = pytest.mark.triton

PERCENTS: Final = (50.0, 90.0, 95.0, 99.0, 99.9)
BIMODAL_MS: Final = (*[2.0] * 39, 50.0)
"""One request in forty is slow: up to p95 a report says 2 ms, from p99 on 50 ms."""


CATCH_UP_S: Final = 2.0
"""What a busy machine may take until the requests of a freeze are answered."""

TRIES: Final = 5
SHARE: Final = 0.03
MACHINE_MS: Final = {50.0: 0.1, 90.0: 0.3, 95.0: 1.0, 99.0: 3.0, 99.9: 10.0}
"""What a machine that others use too may add, by percent: it stops each process for milliseconds now and then."""


def url_of(server: EmbeddedTriton, protocol: str) -> str:
    return server.grpc_url if protocol == "grpc" else server.http_url


class TestAServerThatStandsStill:
    """200 requests a second for 20 s and 2 s of standing still: a tenth of the requests waits, up to 2 s.

    One in a hundred waits for more than 2 s - 1 % of 20 s = 1.8 s. In the short form it is 1 s - 1 % of 8 s = 0.92 s.
    """

    SHORT = Stall(Load(rate_per_s=100, duration_s=8), frozen_s=1)
    FULL = Stall(Load(rate_per_s=200, duration_s=20), frozen_s=2)

    def check(self, stall: Stall, server: EmbeddedTriton, protocol: str, workers: int) -> WorkloadResult:
        total, freeze = stall.ours(url_of(server, protocol), "identity", workers=workers)
        assert total.sent == total.answered == stall.load.rate_per_s * stall.load.duration_s
        assert total.shed == 0
        assert freeze.duration_s >= stall.frozen_s
        for percent in PERCENTS:
            least_ms = stalled_ms(stall.load, freeze.duration_s, percent)
            assert total.percentile_ms(percent) >= least_ms * (1 - RELATIVE_ERROR)
        assert total.max_ms <= (freeze.duration_s + CATCH_UP_S) * 1e3
        assert total.percentile_ms(50) < 100
        return total

    @pytest.mark.parametrize(("protocol", "workers"), [("http", 1), pytest.param("grpc", 2, marks=pytest.mark.slow)])
    def test_shows_at_p99(self, load_server: EmbeddedTriton, protocol: str, workers: int) -> None:
        total = self.check(self.SHORT, load_server, protocol, workers)
        assert total.percentile_ms(99) >= 900

    @pytest.mark.slow
    @pytest.mark.parametrize("workers", [1, 2])
    @pytest.mark.parametrize("protocol", ["http", "grpc"])
    def test_shows_in_full_and_hardly_in_plain_locust(
        self, load_server: EmbeddedTriton, protocol: str, workers: int
    ) -> None:
        total = self.check(self.FULL, load_server, protocol, workers)
        assert total.percentile_ms(99) >= 1780
        plain = self.FULL.plain(url_of(load_server, protocol), "identity")
        assert int(plain["Failure Count"]) == 0
        # Each of its 20 users waits once, where 400 requests were due.
        assert float(plain["95%"]) < total.percentile_ms(95) / 2


@pytest.mark.slow
class TestAServerOfKnownLatency:
    def check(self, load: Load, latencies_ms: Sequence[float], workers: int) -> dict[float, tuple[float, float]]:
        """By percent: what is true, and how much more is reported, in milliseconds."""
        with awake(), shared_cores() as core:
            total, answered = known(load, latencies_ms, workers=workers, core=core)
        assert total.sent == total.answered == len(answered)
        assert min(one.took_s for one in answered) * 1e3 >= min(latencies_ms) - 1e-6
        found = {}
        for percent in PERCENTS:
            truth_ms, reported_ms = true_ms(answered, percent), total.percentile_ms(percent)
            assert reported_ms >= truth_ms * (1 - RELATIVE_ERROR)
            found[percent] = (truth_ms, reported_ms - truth_ms)
        return found

    @pytest.mark.parametrize("workers", [1, 2])
    @pytest.mark.parametrize("latencies_ms", [(5.0,), BIMODAL_MS], ids=["5 ms", "2 and 50 ms"])
    def test_is_reported_as_it_is(self, latencies_ms: Sequence[float], workers: int) -> None:
        load = Load(rate_per_s=100, duration_s=6, arrival="poisson")
        tries = []
        for _ in range(TRIES):
            tries.append(self.check(load, latencies_ms, workers))
            if all(more <= SHARE * truth + MACHINE_MS[percent] for percent, (truth, more) in tries[-1].items()):
                return
        pytest.fail(f"percent: (true, more), in ms: {tries}")


@pytest.mark.slow
class TestAClosedPhase:
    def test_users_do_little_but_wait_for_answers(self) -> None:
        """Rate and latency keep to the number of users (Little's law); the rest is the generator's own time."""
        shares = []
        for _ in range(TRIES):
            total = closed(8, 1.0, duration_s=2)
            shares.append(total.rate_per_s * total.mean_ms / 1e3 / 8)
            assert shares[-1] < 1.01
            if shares[-1] > 0.955:  # 0.94 with Locust's own way from task to task
                return
        pytest.fail(f"the share of time that users waited for answers: {shares}")


class TestTheServersThemselves:
    def test_a_responder_keeps_its_times_and_says_what_they_were(self) -> None:
        seen_s, answered = bare(40, (5, 20))
        assert [one.received_s for one in answered] == sorted(one.received_s for one in answered)
        took_s = [one.took_s for one in answered]
        assert min(took_s[::2]) >= 0.005
        assert min(took_s[1::2]) >= 0.02
        # A machine may stop the server at any time, but does not always.
        assert sorted(took_s[::2])[5] < 0.0052
        assert sorted(took_s[1::2])[5] < 0.0202
        # Nor does it always stop the server between an answer and its look at the clock.
        assert sum(seen > took for seen, took in zip(seen_s, took_s, strict=True)) > 30

    def test_a_responder_answers_each_request_when_it_is_due(self) -> None:
        with Responder((500, 10)) as server, ThreadPoolExecutor() as pool:
            with connected(server.url) as first, connected(server.url) as second:
                slow = pool.submit(timed_request, first)
                time.sleep(0.1)
                assert timed_request(second) > 0.01
                assert slow.result() > 0.5
            earlier, later = server.answered()
            assert server.answered() == []
        assert earlier.received_s > later.received_s
        assert earlier.took_s >= 0.01
        assert later.took_s >= 0.5

    def test_a_freezing_proxy_lets_nothing_pass_for_a_while(self) -> None:
        with Responder((1,)) as server, FreezingProxy(server.url) as proxy:
            proxy.freeze(after_s=0.2, for_s=0.5)
            with connected(proxy.url) as client:
                seen: list[tuple[float, float]] = []
                end_s = time.perf_counter() + 1.2
                while (now_s := time.perf_counter()) < end_s:
                    seen.append((now_s, timed_request(client)))
                freeze = proxy.frozen()
            started_s, took_s = max(seen, key=lambda one: one[1])
            assert freeze.duration_s >= 0.5
            assert freeze.began_s - seen[0][0] >= 0.2
            assert started_s <= freeze.began_s + 0.05
            assert started_s + took_s >= freeze.ended_s
            assert len(seen) > 50


class TestAQuickMachine:
    def test_its_cpus_are_kept_from_sleeping_for_a_while(self) -> None:
        before_us = self.longest_wake_up_us()
        with awake() as is_awake:
            if not is_awake:
                pytest.skip("/dev/cpu_dma_latency cannot be written here")
            assert self.longest_wake_up_us() == 0
        assert self.longest_wake_up_us() == before_us

    def longest_wake_up_us(self) -> int | None:
        device = Path("/dev/cpu_dma_latency")
        if not os.access(device, os.R_OK):
            return None
        return int(struct.unpack("=i", device.read_bytes())[0])

    def test_one_of_them_is_the_servers_own(self) -> None:
        cores = os.sched_getaffinity(0)
        with shared_cores() as core:
            with Responder((1,), core=core) as server, Responder((1,)) as other:
                assert server.cores | other.cores == cores
                assert len(cores) == 1 or server.cores.isdisjoint(other.cores)
            assert os.sched_getaffinity(0) == other.cores
        assert os.sched_getaffinity(0) == cores
