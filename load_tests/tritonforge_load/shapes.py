"""Load shapes as data, for any locustfile. Importing this module imports Locust, which monkey-patches the process.

As a class of one's own, which Locust then always uses instead of ``--users`` and ``--run-time``::

    class Lunch(UsersShape):
        rows = spike(users=4, peak=40, before_s=30, peak_s=10, after_s=60)

or by name with the option ``--shape``, which leaves the choice to whoever starts Locust::

    offer_shapes(steps=steps(10, 20, 40, duration_s=30), day=curve([(0, 5), (60, 50), (120, 5)], every_s=5))
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Final

from tritonforge_client.extras import require_extra
from tritonforge_generator.errors import SpecError
from tritonforge_load.stages import Row, Rows, curve, spike, stages_from_rows, steps

if TYPE_CHECKING:
    import locust
    from locust.runners import WorkerRunner
else:
    locust = require_extra("locust", "load")
    from locust.runners import WorkerRunner

gevent: Any = require_extra("gevent", "load")

__all__ = ["Row", "Rows", "UsersShape", "curve", "offer_shapes", "spike", "steps"]

_TICK_S: Final = 1.0  # Locust asks a shape about once a second


class UsersShape(locust.LoadTestShape):
    """Plays rows one after the other, each for its time.

    A shape that goes by the time since the start skips rows when Locust takes longer to start users than it should.
    Here every row is played: one that Locust leaves late moves the others.

    Attributes:
        rows: The rows; a subclass gives them.
    """

    abstract = True
    rows: ClassVar[Rows] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.rows:
            stages_from_rows(cls.rows)  # so that an error comes from the line of the class

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Locust's is not annotated
        self._stages = stages_from_rows(self.rows)
        self._ticks = self._play()

    def reset_time(self) -> None:
        """Start again at the first row; Locust calls this whenever a test starts."""
        super().reset_time()  # type: ignore[no-untyped-call]
        self._ticks = self._play()

    def tick(self) -> tuple[int, float] | None:
        """Locust's question: how many users now, started at which rate per second; ``None`` at the end."""
        return next(self._ticks, None)

    def _play(self) -> Iterator[tuple[int, float]]:
        for stage in self._stages:
            ends_s = time.perf_counter() + stage.duration_s
            yield stage.users, stage.spawn_rate
            while (left_s := ends_s - time.perf_counter()) > _TICK_S:
                yield stage.users, stage.spawn_rate
            # Before the next question the row would be over.
            gevent.sleep(max(0.0, left_s))


def offer_shapes(**shapes: Rows) -> None:
    """Give the Locust process that imports the calling locustfile the option ``--shape``.

    Without the option, ``--users`` and ``--run-time`` say what happens, as they do in a locustfile without shapes.

    Args:
        shapes: Rows by the name that the option takes.

    Raises:
        SpecError: Rows are not well-formed, as ``UsersShape`` wants them.
    """
    classes = {name: type(name, (UsersShape,), {"rows": rows}) for name, rows in shapes.items()}

    def add_option(parser: Any, **_: object) -> None:
        said = f"Users over time, instead of --users and --run-time: {', '.join(classes)}"
        parser.add_argument("--shape", choices=("", *classes), default="", include_in_web_ui=False, help=said)

    def choose(environment: Any, runner: Any, **_: object) -> None:
        name = getattr(environment.parsed_options, "shape", "")
        if name == "" or isinstance(runner, WorkerRunner):
            return
        if environment.shape_class is not None:
            raise SpecError(f"--shape {name}: the users over time are given already", action="Leave out --shape")
        environment.shape_class = classes[name]()
        environment.shape_class.runner = runner

    events: Any = locust.events
    events.init_command_line_parser.add_listener(add_option)
    events.init.add_listener(choose)
