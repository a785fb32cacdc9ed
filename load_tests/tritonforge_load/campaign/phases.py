"""When requests are sent: the phases of a campaign.

A phase without ``arrival`` is closed: so many users, each of which sends its next request when the last one is
answered. All other arrivals are open: requests are sent at the times that the phase says, whether or not earlier ones
have been answered. A phase with ``search`` looks for the highest load that the server holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from tritonforge_client.extras import require_extra
from tritonforge_generator.declared import DeclaredModel, PlacedError
from tritonforge_load.campaign.assertion import SENTENCE_SCHEMA, assertion_from_text
from tritonforge_load.campaign.quantities import PositiveRate, PositiveSeconds, Rate, Seconds, Share
from tritonforge_load.campaign.workload import Count, Name

if TYPE_CHECKING:
    from pydantic import Discriminator, Field, Tag, field_validator, model_validator
else:
    _pydantic = require_extra("pydantic", "load")
    Discriminator, Field, Tag = _pydantic.Discriminator, _pydantic.Field, _pydantic.Tag
    field_validator, model_validator = _pydantic.field_validator, _pydantic.model_validator


class _Phase(DeclaredModel):
    """What all phases have.

    Attributes:
        name: Its name in gates and tables.
        measure: Whether it counts; a warm-up does not.
        repeat: How often it is played; intervals of confidence need several.
    """

    name: Name
    measure: bool = True
    repeat: Count = 1


class ClosedPhase(_Phase):
    """So many users, each of which sends its next request when the last one is answered.

    Attributes:
        arrival: ``closed``; may be left out.
        users: Users at work at the same time, over all workers.
        duration_s: How long it is; its users work for half a second before that, to settle.
    """

    arrival: Literal["closed"] = "closed"
    users: Count
    duration_s: PositiveSeconds = Field(alias="for")


class RatePhase(_Phase):
    """Requests at a constant rate.

    Attributes:
        arrival: ``constant`` for equal gaps, ``poisson`` for independent arrivals.
        rate_per_s: Requests per second, over all workers.
        duration_s: How long it is.
    """

    arrival: Literal["constant", "poisson"]
    rate_per_s: PositiveRate = Field(alias="rate")
    duration_s: PositiveSeconds = Field(alias="for")


class GammaPhase(_Phase):
    """Requests in bursts: gaps between them are gamma-distributed.

    Attributes:
        arrival: ``gamma``.
        rate_per_s: Mean requests per second, over all workers.
        shape: 1 is ``poisson``; the smaller, the more the requests come in bursts.
        duration_s: How long it is.
    """

    arrival: Literal["gamma"]
    rate_per_s: PositiveRate = Field(alias="rate")
    shape: float = Field(gt=0)
    duration_s: PositiveSeconds = Field(alias="for")


class CurvePhase(_Phase):
    """Independent arrivals at a rate that changes along straight lines.

    Attributes:
        arrival: ``curve``.
        points: Times from the start of the phase with the rate there; the first is at 0s, the last ends the phase.
    """

    arrival: Literal["curve"]
    points: tuple[tuple[Seconds, Rate], ...] = Field(min_length=2)

    @field_validator("points")
    @classmethod
    def _in_order(cls, points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        times_s = [time_s for time_s, _ in points]
        if times_s[0] != 0:
            raise PlacedError(at=(0, 0), expected="0s, the start of the phase", got=f"{times_s[0]:g}s")
        for index in range(1, len(times_s)):
            if times_s[index] <= times_s[index - 1]:
                raise PlacedError(
                    at=(index, 0), expected=f"a time after {times_s[index - 1]:g}s", got=f"{times_s[index]:g}s"
                )
        if max(rate_per_s for _, rate_per_s in points) == 0:
            raise PlacedError("all rates are 0: nothing would be sent", action="Raise one")
        return points

    @property
    def duration_s(self) -> float:
        """How long it is."""
        return self.points[-1][0]


class TracePhase(_Phase):
    """Requests at recorded times.

    Attributes:
        arrival: ``trace``.
        file: CSV file, relative to the campaign file: seconds in the first column, and the workload's name in the
            second if there is one. Without names, workloads are chosen by weight.
        speed: How many times as fast as recorded it is played.
    """

    arrival: Literal["trace"]
    file: str = Field(min_length=1)
    speed: float = Field(default=1.0, gt=0)


class Search(DeclaredModel):
    """Looking for the highest load at which assertions hold.

    The load is doubled from ``from`` until an assertion fails or ``to`` is reached, then the stretch between the last
    that held and the first that failed is halved until it is narrow enough, as MLPerf LoadGen finds peak performance.

    Attributes:
        over: ``rate`` (requests per second) or ``users`` (closed).
        arrival: How requests arrive at a rate: ``poisson`` or ``constant``.
        from_: Load to begin with.
        to: Highest load that is tried.
        precision: The stretch is narrow enough when it is at most this share of its lower end.
        step_for_s: How long each load is kept.
        confirm: How often the load that was found must hold again; if it does not, the search goes on below it.
        until: Assertions, of the form that gates have; a load holds when all do and the generator kept up.
    """

    over: Literal["rate", "users"] = "rate"
    arrival: Literal["poisson", "constant"] = "poisson"
    from_: PositiveRate | Count = Field(alias="from")
    to: PositiveRate | Count
    precision: Share = 0.05
    step_for_s: PositiveSeconds = Field(alias="step_for")
    confirm: int = Field(default=1, ge=0)
    until: tuple[Annotated[str, Field(json_schema_extra={**SENTENCE_SCHEMA})], ...] = Field(min_length=1)

    @field_validator("until")
    @classmethod
    def _are_assertions(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for index, text in enumerate(texts):
            try:
                assertion = assertion_from_text(text)
            except ValueError as error:
                raise PlacedError(str(error), at=(index,)) from error
            if assertion.relative_to_baseline or assertion.metric in {"max_rate", "max_users"}:
                raise PlacedError(at=(index,), expected="a metric of one load with its own limit", got=repr(text))
        return texts

    @model_validator(mode="after")
    def _ends_fit(self) -> Search:
        wanted, written = (float, "a rate like 200/s") if self.over == "rate" else (int, "a number of users")
        for key, value in (("from", self.from_), ("to", self.to)):
            if not isinstance(value, wanted):
                raise PlacedError(at=(key,), expected=f"{written} (over: {self.over})", got=f"{value:g}")
        if self.to <= self.from_:
            raise PlacedError(at=("to",), expected=f"more than from ({self.from_:g})", got=f"{self.to:g}")
        if self.over == "users" and "arrival" in self.model_fields_set:
            raise PlacedError("users are closed: arrival belongs to over: rate", at=("arrival",), action="Remove it")
        if self.precision == 0:
            raise PlacedError(at=("precision",), expected="more than 0%", got="0%")
        return self


class SearchPhase(_Phase):
    """A search for the highest load that the server holds.

    Attributes:
        search: What is looked for.
    """

    search: Search

    @property
    def arrival(self) -> str:
        """How requests arrive."""
        return self.search.arrival if self.search.over == "rate" else "closed"

    @model_validator(mode="after")
    def _counts(self) -> SearchPhase:
        if not self.measure or self.repeat != 1:
            raise ValueError("a search is measured, and repeats by itself: remove measure and repeat")
        return self


def _tag(value: Any) -> str:
    """Which kind a phase is; the name of a tag is no key of any phase, as places of errors leave it out."""
    said = value if isinstance(value, dict) else vars(value) if isinstance(value, _Phase) else {}
    if "search" in said:
        return "phase:search"
    arrival = said.get("arrival", "closed")
    return {"constant": "phase:rate", "poisson": "phase:rate"}.get(arrival, f"phase:{arrival}")


OpenPhase: TypeAlias = RatePhase | GammaPhase | CurvePhase | TracePhase
PlayedPhase: TypeAlias = ClosedPhase | OpenPhase
Phase: TypeAlias = PlayedPhase | SearchPhase

AnyPhase = Annotated[
    Annotated[ClosedPhase, Tag("phase:closed")]
    | Annotated[RatePhase, Tag("phase:rate")]
    | Annotated[GammaPhase, Tag("phase:gamma")]
    | Annotated[CurvePhase, Tag("phase:curve")]
    | Annotated[TracePhase, Tag("phase:trace")]
    | Annotated[SearchPhase, Tag("phase:search")],
    Discriminator(
        _tag,
        custom_error_type="arrival",
        custom_error_message="expected arrival: closed, constant, poisson, gamma, curve or trace, or search",
    ),
]
"""A phase of any kind, as a field."""
