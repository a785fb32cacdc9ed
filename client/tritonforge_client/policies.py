"""What a client does about overload and failure: when it sends again, and where."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from tritonforge_client.errors import Code, InvalidInput

Balance: TypeAlias = Literal["pick_first", "round_robin", "least_in_flight"]
"""How calls are spread over endpoints: to the first one that works, to each in turn, or to the one with the fewest
calls in flight."""

_MAX_S: Final = 1_000_000.0
# Every code but these may be retried.
_WHY_NEVER: Final[Mapping[Code, str]] = {
    "invalid_input": "the same request is refused again",
    "not_found": "asking again does not bring the model",
    "deadline": "the time of the call is over",
    "queue_timeout": "the time that the request may wait is over",
    "too_many_in_flight": "this client is at its own limit, which more calls do not lift",
    "cancelled": "nobody waits for the answer any more",
    "internal": "the model may have run, and what made it fail comes again",
    "unimplemented": "the server does not offer it the next time either",
    "spec_drift": "the model stays another one until its spec is read again",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a request is sent again.

    The pause before retry n (from 0) is random between 0 and ``min(maximum_s, initial_s * multiplier**n)``, so that
    clients that failed together do not come back together. No pause goes past the deadline of the call.

    Attributes:
        attempts: Attempts of one call at most, the first included.
        initial_s: Longest pause before the first retry, in seconds.
        maximum_s: Longest pause before any retry, in seconds.
        multiplier: How much longer the longest pause grows with each retry.
        budget: Retries of all calls of a client for each success, from 0 to 1, beside ten in reserve: 0.1 keeps the
            load that an outage adds to a tenth.
        codes: What is retried, by the ``code`` of the error.

    Raises:
        InvalidInput: A value is out of range, or a code cannot be retried.
    """

    attempts: int = 3
    initial_s: float = 0.05
    maximum_s: float = 1.0
    multiplier: float = 2.0
    budget: float = 0.1
    codes: frozenset[Code] = frozenset({"queue_full", "not_ready", "shutting_down", "connection", "unavailable"})

    def __post_init__(self) -> None:
        _check_count(self, "attempts")
        _check_seconds(self, "initial_s")
        _check_seconds(self, "maximum_s")
        if self.maximum_s < self.initial_s:
            raise _error(self, "maximum_s", f"at least initial_s, which is {self.initial_s!r}")
        _check_number(self, "multiplier", "a finite number of at least 1", lambda value: 1 <= value < math.inf)
        _check_number(self, "budget", "a share from 0 to 1", lambda value: 0 <= value <= 1)
        # A copy, so that a later change of the caller's set changes no policy.
        object.__setattr__(self, "codes", _checked_codes(self, self.codes))


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a model on an endpoint that keeps failing is left alone.

    Attributes:
        ratio: Share of failures, above 0 and at most 1, from which on nothing more is sent.
        window_s: Seconds that a result counts.
        min_calls: Results in the window below which the ratio says nothing.
        open_s: Seconds without attempts before it is probed.
        probes: Attempts that are then let through; when as many succeed, all are let through again.

    Raises:
        InvalidInput: A value is out of range.
    """

    ratio: float = 0.5
    window_s: float = 10.0
    min_calls: int = 20
    open_s: float = 5.0
    probes: int = 1

    def __post_init__(self) -> None:
        _check_number(self, "ratio", "a share above 0 and at most 1", lambda value: 0 < value <= 1)
        _check_seconds(self, "window_s")
        _check_count(self, "min_calls")
        _check_seconds(self, "open_s")
        _check_count(self, "probes")


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgePolicy:
    """When a request that is not answered yet is sent to another endpoint too; the first answer counts.

    Attributes:
        delay_s: Seconds without an answer before that, or ``"p95"`` for the time within which 95 % of the model's
            latest calls were answered.
        extra: Requests of one call that are sent too, at most.
        budget: Requests that are sent too for each answered call, from 0 to 1.

    Raises:
        InvalidInput: A value is out of range.
    """

    delay_s: float | Literal["p95"] = "p95"
    extra: int = 1
    budget: float = 0.05

    def __post_init__(self) -> None:
        if self.delay_s != "p95":
            _check_seconds(self, "delay_s", or_else=" or 'p95'")
        _check_count(self, "extra")
        _check_number(self, "budget", "a share from 0 to 1", lambda value: 0 <= value <= 1)


def _check_count(policy: object, name: str) -> None:
    value = getattr(policy, name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _error(policy, name, "a whole number of at least 1")


def _check_seconds(policy: object, name: str, *, or_else: str = "") -> None:
    expected = f"seconds above 0 and at most {_MAX_S:.0f}{or_else}"
    _check_number(policy, name, expected, lambda value: 0 < value <= _MAX_S)


def _check_number(policy: object, name: str, expected: str, fits: Callable[[float], bool]) -> None:
    value = getattr(policy, name)
    # NaN fits nothing.
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not fits(value):
        raise _error(policy, name, expected)


def _checked_codes(policy: object, codes: object) -> frozenset[Code]:
    if not isinstance(codes, (set, frozenset)):
        raise _error(policy, "codes", "a set of codes")
    possible = [code for code in get_args(Code) if code not in _WHY_NEVER]
    expected = f"codes of {', '.join(possible)}"
    for code in sorted(codes, key=repr):
        if code in _WHY_NEVER:
            raise _error(policy, "codes", expected, f"{code!r}, which is never retried: {_WHY_NEVER[code]}")
        if code not in possible:
            raise _error(policy, "codes", expected, repr(code))
    return frozenset(codes)


def _error(policy: object, name: str, expected: str, got: str | None = None) -> InvalidInput:
    got = got if got is not None else repr(getattr(policy, name))
    text = f"{type(policy).__name__}.{name}: expected {expected}, got {got}"
    return InvalidInput(text, field=name, expected=expected, got=got)
