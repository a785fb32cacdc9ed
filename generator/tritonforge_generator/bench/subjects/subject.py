"""What the worker asks of every runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]


class Subject(Protocol):
    """A model loaded into a runtime.

    Attributes:
        on_gpu: Whether the model runs on another device than where the arrays are, so that there is a time without
            copies.
    """

    on_gpu: bool

    def fitted(self, inputs: Arrays) -> Arrays:
        """The inputs in the dtypes that the runtime takes, as its clients would send them."""
        ...

    def infer(self, inputs: Arrays) -> Mapping[str, npt.NDArray[Any]]:
        """Answer arrays of the host with arrays of the host; all outputs by the graph's names."""
        ...

    def compute_times_ms(self, inputs: Arrays, runs: int) -> list[float]:
        """Milliseconds of each run on inputs that lie on the device already, to outputs that stay there."""
        ...

    def close(self) -> None:
        """Give everything back."""
