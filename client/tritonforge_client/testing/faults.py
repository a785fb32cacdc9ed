"""What goes wrong on purpose: late answers and errors."""

from __future__ import annotations

import copy
import math
import threading
from dataclasses import dataclass
from typing import Final

from tritonforge_client.core.call import Call
from tritonforge_client.errors import (
    BreakerOpen,
    Cancelled,
    Code,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidInput,
    ModelNotFound,
    NotReady,
    QueueFull,
    QueueTimeout,
    ServerError,
    ShuttingDown,
    SpecDrift,
    TooManyInFlight,
    TritonError,
    Unavailable,
    Unimplemented,
)
from tritonforge_client.testing.dialect import OPERATIONS, Operation

_BY_CODE: Final[dict[Code, type[TritonError]]] = {
    kind.code: kind
    for kind in (
        InvalidInput,
        ModelNotFound,
        DeadlineExceeded,
        Unavailable,
        QueueFull,
        QueueTimeout,
        NotReady,
        ShuttingDown,
        ConnectionFailed,
        BreakerOpen,
        TooManyInFlight,
        Cancelled,
        ServerError,
        Unimplemented,
        SpecDrift,
    )
}


@dataclass(slots=True, kw_only=True)
class Fault:
    """What happens to requests instead of, or before, an answer.

    Attributes:
        error: Code of the error, or the error itself; ``None`` when the answer only comes late.
        after_s: Seconds until it happens.
        times: Requests that it still happens to; ``None`` for all that come.
        model: Happens to requests of this model only; ``None`` for any.
        operation: Happens to this operation only; ``None`` for any.

    Raises:
        InvalidInput: A value is out of range.
    """

    error: Code | Exception | None
    after_s: float
    times: int | None
    model: str | None
    operation: Operation | None

    def __post_init__(self) -> None:
        if isinstance(self.error, str) and self.error not in _BY_CODE:
            raise _fault_error("error", f"an exception or a code of {', '.join(_BY_CODE)}", self.error)
        # NaN and infinity fail the comparison.
        if not 0 <= self.after_s < math.inf:
            raise _fault_error("seconds", "a finite number of at least 0", self.after_s)
        if self.times is not None and self.times < 1:
            raise _fault_error("times", "at least 1, or None for every request", self.times)
        if self.operation is not None and self.operation not in OPERATIONS:
            raise _fault_error("operation", f"one of {', '.join(OPERATIONS)}", self.operation)

    def fits(self, operation: Operation, model: str | None) -> bool:
        """Whether it happens to such a request."""
        return self.model in {None, model} and self.operation in {None, operation}

    def error_of(self, call: Call) -> Exception | None:
        """Return the error to raise, if there is one, with the facts of the call."""
        if isinstance(self.error, str):
            return _BY_CODE[self.error](f"the fake was told to fail with {self.error}", **call.error_context())
        return _with_facts(self.error, call) if isinstance(self.error, TritonError) else self.error


class Faults:
    """Faults to come. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Let a fault happen after those of before."""
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._faults.clear()

    def take(self, operation: Operation, model: str | None) -> Fault | None:
        """Return the fault that happens to a request: the first counted one, else the first of those that last."""
        with self._lock:
            fitting = [fault for fault in self._faults if fault.fits(operation, model)]
            counted = [fault for fault in fitting if fault.times is not None]
            fault = next(iter(counted or fitting), None)
            if fault is not None and fault.times is not None:
                fault.times -= 1
                if fault.times == 0:
                    self._faults.remove(fault)
            return fault


def _with_facts(error: TritonError, call: Call) -> TritonError:
    """A copy, so that no request sees another's facts; what the test has set stays."""
    made = copy.copy(error)
    made.__cause__ = error.__cause__
    for name, value in call.error_context().items():
        if getattr(made, name) is None:
            setattr(made, name, value)
    made.attempts = call.attempt
    return made


def _fault_error(field: str, expected: str, got: object) -> InvalidInput:
    return InvalidInput(f"{field}: expected {expected}, got {got!r}", field=field, expected=expected, got=repr(got))
