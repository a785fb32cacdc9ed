"""The Locust user of campaigns."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

from numpy.typing import NDArray

from tritonforge_client import WireTimes
from tritonforge_client.errors import TritonError
from tritonforge_client.extras import require_extra
from tritonforge_load.arrivals import share_of
from tritonforge_load.arrivals.pacer import Pacer
from tritonforge_load.arrivals.runs import Run
from tritonforge_load.session.generator import BETWEEN_RUNS, Generator, Window
from tritonforge_load.users import TritonUser

if TYPE_CHECKING:
    import locust
else:
    locust = require_extra("locust", "load")

gevent: Any = require_extra("gevent", "load")

_Outputs: TypeAlias = Callable[[], dict[str, NDArray[Any]]]

_IDLE_S: Final = 0.02
# From one task to the next Locust takes as long as a small request, and goes around the event loop.
_TASK_S: Final = 0.02


class CampaignUser(TritonUser):
    """Sends the campaign's requests.

    In closed runs every user sends one request after the other. In open runs one user of each process sends the
    process's share of the arrivals, each in a greenlet of its own, and the others idle.
    """

    abstract = False
    generator: ClassVar[Generator]

    def on_start(self) -> None:
        """Make the client, and a source of randomness that no other user has."""
        super().on_start()
        sources = self.generator.sources
        self._random = random.Random(f"{self.generator.campaign.seed}/{self.generator.next_user_number()}")  # noqa: S311
        self._models = [self.client.bind(source.spec) for source in sources]
        self._places = range(len(sources))
        self._cumulative_weights = list(itertools.accumulate(source.workload.weight for source in sources))

    @locust.task
    def play(self) -> None:
        """Send requests of a closed run for a moment, or this process's share of an open one."""
        run = self.generator.next_run
        if run is not None and not run.is_open:
            self._send_in_turn(run)
            return
        window = self.generator.take_open_window()
        if window is None:
            gevent.sleep(_IDLE_S)
        else:
            self._send_schedule(window)

    def _send_in_turn(self, run: Run) -> None:
        """Send one request after the other. After a failure Locust goes on, for nothing may have been waited for."""
        now_s = time.perf_counter()
        ends_s = now_s + _TASK_S
        while now_s < ends_s and self.generator.next_run is run:
            place = self._random.choices(self._places, cum_weights=self._cumulative_weights)[0]
            if not self._send(place, now_s):
                return
            now_s = time.perf_counter()

    def _send_schedule(self, window: Window) -> None:
        generator = self.generator
        schedule = generator.schedule
        if schedule is None:
            return
        times_s = share_of(schedule.times_s, window.index, window.count)
        places = share_of(schedule.workloads, window.index, window.count)

        def send(index: int, times: WireTimes) -> None:
            self._send(int(places[index]), window.began_s + times_s.item(index), times)

        pacer = Pacer(
            times_s,
            window.began_s,
            send,
            max_in_flight=generator.campaign.transport.max_in_flight,
            grace_s=generator.campaign.target.timeout_s,
            shed=lambda index, due_s: generator.record_shed(window, self._name(int(places[index])), due_s),
        )
        try:
            pacer.run()
        finally:
            generator.open_window_ended(pacer.counts.scheduled)

    def _name(self, place: int) -> str:
        return self.generator.sources[place].workload.name

    def _send(self, place: int, due_s: float, times: WireTimes | None = None) -> bool:
        """Send one request of a workload that was meant for a moment, and compare its answer if it is sampled.

        Args:
            place: Of the workload.
            due_s: The moment, by ``time.perf_counter()``.
            times: Those of an arrival of a schedule.

        Returns:
            Whether it was answered.
        """
        source = self.generator.sources[place]
        name = source.workload.name
        number = next(source.turn)
        request = source.requests[number]
        window = self.generator.window
        is_open = times is not None
        run, second, measured = (BETWEEN_RUNS, 0, False) if window is None else window.place(due_s, is_open=is_open)
        context: dict[str, Any] = {"run": run, "workload": name, "second": second, "rows": request.rows}
        if times is not None:
            context["times"] = times
        answer = self._answer(place, number, f"{name} [{run}]", context, times)
        check = source.check
        if check is not None and answer is not None and measured and self._random.random() < check.sample:
            try:
                correct = check.correct_rows(request, answer(), batched=source.spec.max_batch_size > 0)
            except TritonError:
                correct = 0  # an answer that cannot be read is a wrong one
            self.generator.record_check(run, name, checked=request.rows, correct=correct)
        return answer is not None

    def _answer(
        self, place: int, number: int, name: str, context: dict[str, Any], times: WireTimes | None
    ) -> _Outputs | None:
        """Send one request; returns how its outputs are read, which takes time that most answers are not worth."""
        source = self.generator.sources[place]
        if source.prepared:
            raw = self.send(source.prepared[number], name=name, context=context, times=times)
            return None if raw is None else lambda: raw.decode().value
        model, inputs = self._models[place], source.requests[number].inputs
        outputs = self.measured(name, lambda: model.infer(inputs), context, times=times)
        return None if outputs is None else lambda: outputs
