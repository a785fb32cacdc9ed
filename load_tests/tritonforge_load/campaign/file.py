"""The campaign file: what to send, where, in which phases, and what must come out.

::

    campaign: digits
    version: 1
    seed: 7
    target: {url: "grpc://127.0.0.1:8001", wait_ready: 30s, timeout: 10s}
    workload:
      - {name: digits, model: digits, inputs: {images: {random: normal, pool: 32}}}
    phases:
      - {name: warm, users: 2, for: 2s, measure: false}
      - {name: single, users: 1, for: 5s}
      - {name: steady, arrival: poisson, rate: 200/s, for: 30s, repeat: 3}
      - {name: peak, search: {from: 100/s, to: 2000/s, step_for: 10s, until: ["p99 < 25ms", "errors < 0.1%"]}}
    gates:
      - {where: steady, assert: "p99 < 25ms", confidence: 0.99}
      - {where: peak, assert: "max_rate >= 400/s"}
    outputs: {dir: out, formats: [json, csv, junit, html]}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tritonforge_client.extras import require_extra
from tritonforge_generator.declared import DeclaredModel, PlacedError, read_declared
from tritonforge_load.campaign.assertion import (
    OBSERVED_METRICS,
    SEARCH_METRICS,
    SENTENCE_SCHEMA,
    Assertion,
    assertion_from_text,
)
from tritonforge_load.campaign.phases import AnyPhase, Phase, SearchPhase
from tritonforge_load.campaign.quantities import AtLeastShare, BelowSeconds, BelowShare, PositiveSeconds, Seconds
from tritonforge_load.campaign.workload import Count, Workload

if TYPE_CHECKING:
    from pydantic import Field, field_validator, model_validator
else:
    _pydantic = require_extra("pydantic", "load")
    Field = _pydantic.Field
    field_validator, model_validator = _pydantic.field_validator, _pydantic.model_validator


class Target(DeclaredModel):
    """The server.

    Attributes:
        url: ``grpc://host:port`` or ``http://host:port``; the scheme chooses the protocol.
        wait_ready_s: How long to wait for the server and the models before load starts.
        timeout_s: Deadline of one request.
        metrics: Its metrics page, ``http://host:port/metrics``; port 8002 of the same host when left out.
    """

    url: str = Field(pattern=r"^(grpc|http)://[^/\s]+$")
    wait_ready_s: Seconds = Field(default=10.0, alias="wait_ready")
    timeout_s: PositiveSeconds = Field(default=30.0, alias="timeout")
    metrics: str | None = Field(default=None, pattern=r"^http://[^/\s]+(/\S*)?$")


class Transport(DeclaredModel):
    """How requests get to the server.

    Attributes:
        shared_memory: ``off`` sends tensors with the request; ``auto``, ``system`` and ``cuda`` as the client's
            option of that name.
        max_in_flight: Requests of an open phase that one worker has unanswered at most; what is due beyond that is
            shed: counted, never sent.
        prebuilt: Whether requests are encoded once, before load starts, and only answers that are checked are decoded.
    """

    shared_memory: Literal["off", "auto", "system", "cuda"] = "off"
    max_in_flight: Count = 2000
    prebuilt: bool = True


class Observe(DeclaredModel):
    """What is watched besides the requests.

    Attributes:
        every_s: Time between two looks.
        server: Whether Triton's statistics are read: queue, compute, batches.
        metrics: Whether its metrics page is read: CPU, memory, GPUs.
        gpu: ``auto`` reads clocks through NVML where the server is on this host; ``none`` does not.
    """

    every_s: PositiveSeconds = Field(default=1.0, alias="every")
    server: bool = True
    metrics: bool = True
    gpu: Literal["auto", "none"] = "auto"


class Validity(DeclaredModel):
    """When the generator, not the server, was the limit: a run out of these bounds is invalid.

    Attributes:
        achieved: Share of the scheduled requests of an open phase that was sent, at least; shed ones count as sent.
        slip_p99_s: Lateness of sending, 99th percentile of an open phase, below.
        generator_cpu: Share of its core that the busiest generator process took on average, below.
    """

    achieved: AtLeastShare = 0.99
    slip_p99_s: BelowSeconds = Field(default=0.002, alias="slip_p99")
    generator_cpu: BelowShare = 0.85


class Gate(DeclaredModel):
    """What phases must show.

    Attributes:
        where: A phase, several, or ``*`` for all measured ones.
        assertion: The sentence; see ``tritonforge_load.campaign.assertion``.
        confidence: A percentile or share is only judged when so many requests were sent that the verdict is right with
            this probability; otherwise it is inconclusive.
        condition: ``significant``, for a gate against a baseline: a difference within the noise of the two passes.
    """

    where: str | tuple[str, ...] = "*"
    assertion: str = Field(alias="assert", json_schema_extra={**SENTENCE_SCHEMA})
    confidence: float = Field(default=0.95, ge=0.5, lt=1)
    condition: Literal["significant"] | None = Field(default=None, alias="if")

    @field_validator("assertion")
    @classmethod
    def _is_sentence(cls, text: str) -> str:
        assertion_from_text(text)
        return text

    @model_validator(mode="after")
    def _significance_has_a_baseline(self) -> Gate:
        if self.condition is None:
            return self
        if not self.parsed.relative_to_baseline:
            raise PlacedError("only differences from a baseline can be significant", at=("if",), action="Remove it")
        if self.parsed.metric in OBSERVED_METRICS | SEARCH_METRICS:
            raise PlacedError(f"the noise of {self.parsed.metric} is not known", at=("if",), action="Remove it")
        return self

    @property
    def parsed(self) -> Assertion:
        """The parsed sentence."""
        return assertion_from_text(self.assertion)


class Outputs(DeclaredModel):
    """Files that are written at the end.

    Attributes:
        dir: Folder, relative to the campaign file; made when it is missing.
        formats: ``json`` (everything), ``csv`` (one line a phase and workload), ``junit`` (one test a gate) and
            ``html`` (a page with plots).
    """

    dir: str
    formats: tuple[Literal["json", "csv", "junit", "html"], ...] = ("json", "csv", "junit", "html")


class Campaign(DeclaredModel):
    """A campaign file.

    Attributes:
        campaign: Its name; also the name of the files that it writes.
        version: Version of this format.
        seed: Random values, arrivals and choices follow from it.
        target: The server.
        workload: What is sent.
        transport: How requests get to the server.
        phases: When, in this order.
        observe: What is watched besides the requests.
        validity: When the generator was the limit.
        gates: What must come out.
        baseline: JSON output of an earlier run, relative to the campaign file, that gates compare with.
        outputs: Files that are written at the end.
        workers: Processes that generate the load; one core each.
    """

    campaign: str = Field(min_length=1, max_length=64, pattern=r"^[\w.-]+$")
    version: Literal[1]
    seed: int = Field(default=0, ge=0)
    target: Target
    workload: tuple[Workload, ...] = Field(min_length=1)
    transport: Transport = Transport()
    phases: tuple[AnyPhase, ...] = Field(min_length=1)
    observe: Observe = Observe()
    validity: Validity = Validity()
    gates: tuple[Gate, ...] = ()
    baseline: str | None = None
    outputs: Outputs | None = None
    workers: Count = 1

    @model_validator(mode="after")
    def _names_fit(self) -> Campaign:
        for kind, entries in (("workload", self.workload), ("phases", self.phases)):
            names = [entry.name for entry in entries]
            for index, name in enumerate(names):
                if name in names[:index]:
                    raise PlacedError(
                        "the name is taken", at=(kind, index, "name"), got=repr(name), action="Rename one"
                    )
        measured = [phase.name for phase in self.phases if phase.measure]
        if not measured:
            raise PlacedError("no phase is measured", at=("phases",), action="Leave measure: false out of one")
        for index, phase in enumerate(self.phases):
            for place, text in enumerate(phase.search.until if isinstance(phase, SearchPhase) else ()):
                self._check_workload(assertion_from_text(text), ("phases", index, "search", "until", place))
        for index, gate in enumerate(self.gates):
            for name in [gate.where] if isinstance(gate.where, str) else gate.where:
                if name not in {"*", *measured}:
                    expected = f"* or a measured phase ({', '.join(measured)})"
                    raise PlacedError(at=("gates", index, "where"), expected=expected, got=repr(name))
            self._check_gate(gate, ("gates", index, "assert"))
        return self

    def _check_gate(self, gate: Gate, place: tuple[str | int, ...]) -> None:
        assertion = gate.parsed
        self._check_workload(assertion, place)
        over = assertion.metric.removeprefix("max_") if assertion.metric in SEARCH_METRICS else None
        if over is not None:
            for phase in self.phases_of(gate):
                if not isinstance(phase, SearchPhase) or phase.search.over != over:
                    reason, action = f"{assertion.metric} is what a search over {over} finds", "Name a phase with one"
                    raise PlacedError(reason, at=place, action=action)
        if assertion.relative_to_baseline and self.baseline is None:
            raise PlacedError("there is no baseline", at=place, action="Name an earlier run's JSON with baseline:")

    def _check_workload(self, assertion: Assertion, place: tuple[str | int, ...]) -> None:
        chosen = [entry for entry in self.workload if assertion.workload in {None, entry.name}]
        if not chosen:
            names = ", ".join(entry.name for entry in self.workload)
            raise PlacedError(at=place, expected=f"a workload ({names})", got=repr(assertion.workload))
        if assertion.metric == "correct" and all(entry.check is None for entry in chosen):
            raise PlacedError("no answer is checked", at=place, action="Give the workload a check")

    def phases_of(self, gate: Gate) -> tuple[Phase, ...]:
        """The measured phases that a gate judges."""
        names = {gate.where} if isinstance(gate.where, str) else set(gate.where)
        return tuple(phase for phase in self.phases if phase.measure and ("*" in names or phase.name in names))


def read_campaign(path: Path, *, settings: Mapping[str, Any] | None = None) -> Campaign:
    """Read a campaign file.

    Args:
        path: The file.
        settings: Values that replace the file's, nested like the file, for example ``{"target": {"url": ...}}``.

    Raises:
        SpecError: The file does not say a campaign; the message has the place of every error.
    """
    return read_declared(path, Campaign, overrides=settings, overrides_origin="command line")
