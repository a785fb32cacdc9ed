"""A campaign as a Locust load shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tritonforge_client.extras import require_extra

if TYPE_CHECKING:
    import locust
else:
    locust = require_extra("locust", "load")


class CampaignShape(locust.LoadTestShape):
    """Plays a campaign.

    Locust asks a shape what to do next. Each run is one answer: its users are started or stopped, and before the next
    answer the shape plays the run to its end. So every run is exactly as long as declared, none is skipped while users
    are started, and a run is only measured with all of its users at work. After the last run all users are stopped,
    which lets their last requests end.

    Args:
        play: Yields how many users shall be at work, and how many are started a second.
        finish: Called when all is over.
    """

    abstract = True

    def __init__(self, play: Callable[[], Iterator[tuple[int, float]]], finish: Callable[[], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Locust's is not annotated
        self._play = play
        self._finish = finish
        self._steps = play()

    def restart(self) -> None:
        """Start from the first run again at the next tick."""
        self._steps = self._play()

    def tick(self) -> tuple[int, float] | None:
        """Locust's question: how many users now, started at which rate per second; ``None`` at the end."""
        step = next(self._steps, None)
        if step is None:
            self._finish()
        return step
