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
    gates:
      - {where: single, assert: "p99 < 25ms"}
    outputs: {dir: out, formats: [json, csv]}
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tritonforge_client.extras import require_extra
from tritonforge_generator.declared import DeclaredModel, PlacedError, read_declared
from tritonforge_load.gates import Assertion, assertion_from_text
from tritonforge_load.quantities import Seconds, Share

if TYPE_CHECKING:
    from pydantic import AfterValidator, Field, field_validator, model_validator
else:
    _pydantic = require_extra("pydantic", "load")
    AfterValidator, Field = _pydantic.AfterValidator, _pydantic.Field
    field_validator, model_validator = _pydantic.field_validator, _pydantic.model_validator

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\s()*]+$")]
Count = Annotated[int, Field(ge=1)]


def _positive(duration_s: float) -> float:
    if duration_s <= 0:
        raise ValueError("expected a duration above 0")
    return duration_s


PositiveSeconds = Annotated[Seconds, AfterValidator(_positive)]


class Target(DeclaredModel):
    """The server.

    Attributes:
        url: ``grpc://host:port`` or ``http://host:port``; the scheme chooses the protocol.
        wait_ready_s: How long to wait for the server and the models before load starts.
        timeout_s: Deadline of one request.
    """

    url: str = Field(pattern=r"^(grpc|http)://[^/\s]+$")
    wait_ready_s: Seconds = Field(default=10.0, alias="wait_ready")
    timeout_s: PositiveSeconds = Field(default=30.0, alias="timeout")


class ArraySource(DeclaredModel):
    """An array of an ``.npz`` file.

    Attributes:
        file: Path of the file, relative to the campaign file.
        package: Instead of ``file``, a file inside an installed package, ``package:path/in/it.npz``.
        key: Name of the array in the file; the tensor's name when left out.
    """

    file: str | None = None
    package: str | None = Field(default=None, pattern=r"^[\w.]+:[^:]+$")
    key: str | None = None

    @model_validator(mode="after")
    def _one_place(self) -> ArraySource:
        if (self.file is None) == (self.package is None):
            raise ValueError("expected one of file and package")
        return self


class InputSource(DeclaredModel):
    """Where the values of one input come from: random, or rows of an array.

    Attributes:
        random: ``normal`` (mean 0, deviation 1) or ``uniform`` (from ``low`` to ``high``); integers are rounded down.
        low: Smallest value of ``uniform``.
        high: Upper bound of ``uniform``, left out of the range.
        shape: Size of dimensions that the model leaves open (-1), for all dimensions without the batch.
        pool: How many different random tensors are made before load starts.
        file: As in ``ArraySource``.
        package: As in ``ArraySource``.
        key: As in ``ArraySource``.
    """

    random: Literal["normal", "uniform"] | None = None
    low: float = 0.0
    high: float = 1.0
    shape: tuple[Count, ...] | None = None
    pool: Count = 32
    file: str | None = None
    package: str | None = Field(default=None, pattern=r"^[\w.]+:[^:]+$")
    key: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> InputSource:
        given = [name for name in ("random", "file", "package") if getattr(self, name) is not None]
        if len(given) != 1:
            raise PlacedError(
                "an input has one source", expected="random, file or package", got=" and ".join(given) or "none"
            )
        if self.random is not None and self.key is not None:
            raise PlacedError("key names an array of a file; random has none", at=("key",))
        if self.random is None:
            only_random = self.model_fields_set & {"low", "high", "shape", "pool"}
            for name in sorted(only_random):
                raise PlacedError("only random values have it", at=(name,), action="Remove it")
        elif self.low >= self.high:
            raise PlacedError(at=("high",), expected=f"above low ({self.low:g})", got=f"{self.high:g}")
        return self

    @property
    def array(self) -> ArraySource | None:
        """The array that rows are taken from; ``None`` for random values."""
        if self.random is not None:
            return None
        return ArraySource(file=self.file, package=self.package, key=self.key)


class Check(DeclaredModel):
    """Comparing a share of the answers while load runs, row by row.

    Attributes:
        sample: Share of requests whose answer is compared.
        output: The output that is compared.
        labels: Right classes, one integer a row of the inputs: a row is right when its largest value is at that place.
        golden: Right outputs, one a row of the inputs: a row is right when all values are within the tolerances.
        rtol: Relative tolerance of ``golden``.
        atol: Absolute tolerance of ``golden``.
    """

    sample: Share = 0.01
    output: str
    labels: ArraySource | None = None
    golden: ArraySource | None = None
    rtol: float = Field(default=1e-3, ge=0)
    atol: float = Field(default=1e-5, ge=0)

    @model_validator(mode="after")
    def _one_reference(self) -> Check:
        if (self.labels is None) == (self.golden is None):
            raise ValueError("expected one of labels and golden")
        return self


class Workload(DeclaredModel):
    """Requests of one kind.

    Attributes:
        name: Its name in gates and tables.
        model: The model that is called.
        weight: How often it is chosen, relative to the others.
        batch: Rows a request; of several sizes, each is used in turn. Models without a batch dimension have 1.
        inputs: Values by input; what is left out is random (``normal`` for floating point, else ``uniform``), and
            optional inputs are left out of the request.
        check: Comparing answers; needs inputs from an array.
    """

    name: Name
    model: str = Field(min_length=1)
    weight: float = Field(default=1.0, gt=0)
    batch: Count | tuple[Count, ...] = 1
    inputs: dict[str, InputSource] = Field(default_factory=dict)
    check: Check | None = None

    @property
    def batches(self) -> tuple[int, ...]:
        """Rows a request, each in turn."""
        return (self.batch,) if isinstance(self.batch, int) else self.batch

    @model_validator(mode="after")
    def _check_has_rows(self) -> Workload:
        if self.batches == ():
            raise PlacedError(at=("batch",), expected="at least one size", got="an empty list")
        if self.check is not None and all(source.random is not None for source in self.inputs.values()):
            raise PlacedError(
                "answers can only be compared for given inputs", at=("check",), action="Give an input a file or package"
            )
        return self


class Phase(DeclaredModel):
    """A stretch of time with one kind of load.

    Attributes:
        name: Its name in gates and tables.
        arrival: ``closed``: each user sends its next request when the last one is answered.
        users: Users at work at the same time.
        duration_s: How long it is; its users work for half a second before that, to settle.
        measure: Whether it counts; a warm-up does not.
    """

    name: Name
    arrival: Literal["closed"] = "closed"
    users: Count
    duration_s: PositiveSeconds = Field(alias="for")
    measure: bool = True


class Gate(DeclaredModel):
    """What phases must show.

    Attributes:
        where: A phase, several, or ``*`` for all measured ones.
        assertion: The sentence; see ``tritonforge_load.gates``.
    """

    where: str | tuple[str, ...] = "*"
    assertion: str = Field(alias="assert")

    @field_validator("assertion")
    @classmethod
    def _is_sentence(cls, text: str) -> str:
        assertion_from_text(text)
        return text

    @property
    def parsed(self) -> Assertion:
        """The parsed sentence."""
        return assertion_from_text(self.assertion)


class Outputs(DeclaredModel):
    """Files that are written at the end.

    Attributes:
        dir: Folder, relative to the campaign file; made when it is missing.
        formats: ``json`` (everything) and ``csv`` (one line a phase and workload).
    """

    dir: str
    formats: tuple[Literal["json", "csv"], ...] = ("json", "csv")


class Campaign(DeclaredModel):
    """A campaign file.

    Attributes:
        campaign: Its name; also the name of the files that it writes.
        version: Version of this format.
        seed: Random values and choices follow from it.
        target: The server.
        workload: What is sent.
        phases: When, in this order.
        gates: What must come out.
        outputs: Files that are written at the end.
        workers: Processes that generate the load; one core each.
    """

    campaign: str = Field(min_length=1, max_length=64, pattern=r"^[\w.-]+$")
    version: Literal[1]
    seed: int = Field(default=0, ge=0)
    target: Target
    workload: tuple[Workload, ...] = Field(min_length=1)
    phases: tuple[Phase, ...] = Field(min_length=1)
    gates: tuple[Gate, ...] = ()
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
        for index, gate in enumerate(self.gates):
            for name in [gate.where] if isinstance(gate.where, str) else gate.where:
                if name not in {"*", *measured}:
                    expected = f"* or a measured phase ({', '.join(measured)})"
                    raise PlacedError(at=("gates", index, "where"), expected=expected, got=repr(name))
            self._check_gate_workload(gate, index)
        return self

    def _check_gate_workload(self, gate: Gate, index: int) -> None:
        assertion = gate.parsed
        chosen = [entry for entry in self.workload if assertion.workload in {None, entry.name}]
        place = ("gates", index, "assert")
        if not chosen:
            names = ", ".join(entry.name for entry in self.workload)
            raise PlacedError(at=place, expected=f"a workload ({names})", got=repr(assertion.workload))
        if assertion.metric == "correct" and all(entry.check is None for entry in chosen):
            raise PlacedError("no answer is checked", at=place, action="Give the workload a check")

    def phases_of(self, gate: Gate) -> tuple[Phase, ...]:
        """The measured phases that a gate judges."""
        names = {gate.where} if isinstance(gate.where, str) else set(gate.where)
        return tuple(phase for phase in self.phases if phase.measure and ("*" in names or phase.name in names))


def read_campaign(path: Path, *, url: str | None = None) -> Campaign:
    """Read a campaign file.

    Args:
        path: The file.
        url: Replaces ``target.url``.

    Raises:
        SpecError: The file does not say a campaign; the message has the place of every error.
    """
    overrides = None if url is None else {"target": {"url": url}}
    return read_declared(path, Campaign, overrides=overrides, overrides_origin="--url")
