"""What a client does, step by step, without doing it: the steps ask for what they need (see ``effects``)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from numpy.typing import NDArray

from tritonforge_client.core.batches import pieces_of
from tritonforge_client.core.call import Call
from tritonforge_client.core.caller import Ask, Caller
from tritonforge_client.core.check import (
    check_reply,
    check_way,
    checked_outputs,
    checked_tensors,
    rows_added,
    tensors_from_inputs,
)
from tritonforge_client.core.config import drifts_between, model_spec_from_config
from tritonforge_client.core.effects import Close, Pause, Steps, Turn
from tritonforge_client.core.exchange import Dialect, Exchange, Undecoded
from tritonforge_client.core.placement import Placement, check_placed
from tritonforge_client.core.request import (
    InferReply,
    InferRequest,
    Inputs,
    InputTensor,
    Parameter,
    ReplyFormatError,
    RequestedOutput,
    StreamPart,
)
from tritonforge_client.core.shared import SharedMemory, check_reach, is_lost_region, on_host
from tritonforge_client.core.stream import Stream, with_final_marker
from tritonforge_client.core.tensor import writable_copies
from tritonforge_client.errors import (
    DeadlineExceeded,
    Drift,
    InvalidInput,
    NotReady,
    ServerError,
    SpecDrift,
    TritonError,
    Unavailable,
)
from tritonforge_client.options import Options, check_timeout_s
from tritonforge_client.prepared import Prepared, RawReply
from tritonforge_client.reply import Reply
from tritonforge_client.spec import ModelSpec

if TYPE_CHECKING:
    from tritonforge_client.core.administration import Administration
    from tritonforge_client.core.classification import Classification
    from tritonforge_client.core.sequence import SequenceStep

Tensors: TypeAlias = "tuple[InputTensor, ...]"
Outputs: TypeAlias = "tuple[RequestedOutput, ...]"
Build = Callable[[Tensors, Outputs, Call], InferRequest]

# Copying so much takes about a millisecond.
_LARGE_BYTES: Final = 1 << 20
# Between two questions of wait_ready: soon at first, then seldom enough not to disturb the server.
_FIRST_PAUSE_S: Final = 0.02
_LAST_PAUSE_S: Final = 0.5


class Session:
    """The steps of every call of one client, and what its calls share.

    Args:
        caller: Makes the calls.
    """

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self._memory = SharedMemory()

    # ---- inference ----

    def infer(
        self, model: str, inputs: Inputs, outputs: Sequence[str], options: Options | None, request_id: str | None
    ) -> Steps[Reply[dict[str, NDArray[Any]]]]:
        """Run a model without knowing its spec."""
        options, call = self.caller.begin(options, model=model, request_id=request_id)
        tensors = tensors_from_inputs(inputs, call)
        wanted = tuple(RequestedOutput(name) for name in outputs)

        def build(tensors: Tensors, outputs: Outputs, _: Call) -> InferRequest:
            return InferRequest(
                model=model,
                inputs=tensors,
                outputs=outputs,
                request_id=request_id or "",
                parameters=_parameters(options),
            )

        reply, attempt = yield from self._infer(build, tensors, wanted, options, call)
        return _reply(reply, options, attempt, attempt.elapsed_s)

    def infer_checked(
        self,
        spec: ModelSpec,
        inputs: Inputs,
        outputs: Sequence[str],
        options: Options | None,
        request_id: str | None,
        *,
        sequence: SequenceStep | None = None,
    ) -> Steps[Reply[dict[str, NDArray[Any]]]]:
        """Run a model after checking the inputs, and check the outputs; a step of a sequence is never sent twice."""
        options, call = self.caller.begin(options, model=spec.name, request_id=request_id)
        check_way(spec, "sequence" if sequence is not None else "single", call)
        tensors = checked_tensors(spec, inputs, call)
        wanted = tuple([RequestedOutput(name) for name in checked_outputs(spec, outputs, call)])

        def build(tensors: Tensors, outputs: Outputs, attempt: Call) -> InferRequest:
            return request_from_tensors(spec, tensors, outputs, options, attempt, sequence=sequence)

        repeatable = sequence is None
        reply, attempt = yield from self._infer(build, tensors, wanted, options, call, spec=spec, repeatable=repeatable)
        check_reply(spec, reply, outputs, attempt)
        return _reply(reply, options, attempt, attempt.elapsed_s)

    def prepare(
        self, spec: ModelSpec, inputs: Inputs, outputs: Sequence[str], options: Options | None, request_id: str | None
    ) -> Prepared:
        """Check and encode a request that is sent later."""
        options, call = self.caller.begin(options, model=spec.name, request_id=request_id, sends=False)
        check_way(spec, "single", call)
        if options.shared_memory != "off":
            expected, got = "'off', since a prepared request carries its tensors", repr(options.shared_memory)
            text = f"shared_memory: expected {expected}, got {got}. Give prepare() options of its own"
            raise InvalidInput(text, field="shared_memory", expected=expected, got=got, **call.error_context())
        tensors = checked_tensors(spec, inputs, call)
        check_reach(tensors, call)
        outputs = checked_outputs(spec, outputs, call)
        wanted = tuple(RequestedOutput(name) for name in outputs)
        request = request_from_tensors(spec, tensors, wanted, options, call)

        def read(undecoded: Undecoded, attempt: Call, elapsed_s: float) -> Reply[dict[str, NDArray[Any]]]:
            reply = _complete(undecoded.parse(undecoded.message, attempt), None, attempt)
            check_reply(spec, reply, outputs, attempt)
            return _reply(reply, options, attempt, elapsed_s)

        dialect = self.caller.dialect
        exchange = dialect.infer_undecoded(request, options.compression)
        return Prepared(
            exchange, read, protocol=dialect.protocol, model=spec.name, options=options, request_id=request_id
        )

    def send(self, prepared: Prepared) -> Steps[RawReply]:
        """Send a prepared request."""
        options, call = self.caller.begin(prepared.options, model=prepared.model, request_id=prepared.request_id)
        protocol = self.caller.dialect.protocol
        if prepared.protocol != protocol:
            expected, got = f"a request that was prepared for {protocol}", f"one for {prepared.protocol}"
            text = f"prepared: expected {expected}, got {got}. Let a client of each protocol prepare its own"
            raise InvalidInput(text, field="prepared", expected=expected, got=got, **call.error_context())
        if prepared.size_bytes >= _LARGE_BYTES:
            yield Turn()
        undecoded, attempt = yield from self.caller.ask(prepared.ask, options, call)
        return RawReply(prepared, undecoded, attempt)

    def infer_one(
        self, spec: ModelSpec, inputs: Inputs, outputs: Sequence[str], options: Options | None, request_id: str | None
    ) -> Steps[dict[str, NDArray[Any]]]:
        """Run a model on one row."""
        _, call = self.caller.begin(options, model=spec.name, request_id=request_id, sends=False)
        reply = yield from self.infer_checked(spec, rows_added(inputs, spec, call), outputs, options, request_id)
        # The ellipsis keeps an array where indexing alone would give an element.
        return {name: array[0, ...] for name, array in reply.value.items()}

    def pieces(self, spec: ModelSpec, inputs: Inputs, options: Options | None) -> list[dict[str, NDArray[Any]]]:
        """Split one item of a ``map`` into batches that the model takes."""
        _, call = self.caller.begin(options, model=spec.name, sends=False)
        return list(pieces_of(spec, inputs, call))

    def classify(
        self,
        spec: ModelSpec,
        inputs: Inputs,
        output: str,
        count: int,
        *,
        options: Options | None,
        request_id: str | None,
    ) -> Steps[list[list[Classification]]]:
        """Run a model and read the classes with the largest values of one output."""
        from tritonforge_client.core.classification import check_count, classifications_from_reply  # seldom wanted

        options, call = self.caller.begin(options, model=spec.name, request_id=request_id)
        check_way(spec, "single", call)
        tensors = checked_tensors(spec, inputs, call)
        checked_outputs(spec, [output], call)
        check_count(count, call)
        wanted = (RequestedOutput(output, class_count=count),)

        def build(tensors: Tensors, outputs: Outputs, attempt: Call) -> InferRequest:
            return request_from_tensors(spec, tensors, outputs, options, attempt)

        reply, attempt = yield from self._infer(build, tensors, wanted, options, call)
        return classifications_from_reply(reply, output, attempt)

    def stream(
        self, spec: ModelSpec, inputs: Inputs, outputs: Sequence[str], options: Options | None, request_id: str | None
    ) -> Stream:
        """Prepare the stream of a decoupled model's answers to one request; it is never sent twice."""
        options, call = self.caller.begin(options, model=spec.name, request_id=request_id)
        check_way(spec, "stream", call)
        tensors = checked_tensors(spec, inputs, call)
        check_reach(tensors, call)
        wanted = tuple(RequestedOutput(name) for name in checked_outputs(spec, outputs, call))

        def ask(dialect: Dialect, attempt: Call) -> Exchange[StreamPart]:
            request = request_from_tensors(spec, tensors, wanted, options, attempt)
            return dialect.infer_stream(with_final_marker(request))

        return Stream(
            spec=spec,
            ask=ask,
            prepared=lambda: self.caller.prepared(call),
            opened=lambda: self.caller.streaming(call, options),
            outputs=tuple(outputs),
            options=options,
        )

    # ---- about models and the server ----

    def spec(self, model: str, version: str | None, options: Options | None) -> Steps[ModelSpec]:
        """Read what a model takes and gives."""
        options, call = self.caller.begin(options, model=model)
        config, attempt = yield from self.caller.ask(lambda d, _: d.model_config(model, version or ""), options, call)
        try:
            return model_spec_from_config(config, version=version)
        except ValueError as error:
            raise ServerError(f"the server's config has no spec: {error}", **attempt.error_context()) from error

    def drifts(self, spec: ModelSpec, options: Options | None) -> Steps[tuple[Drift, ...]]:
        """Compare a spec with the model that the server has."""
        return drifts_between(spec, (yield from self.spec(spec.name, spec.version, options)))

    def check(self, spec: ModelSpec, options: Options | None) -> Steps[None]:
        """Refuse a spec that differs from the model that the server has."""
        drifts = yield from self.drifts(spec, options)
        if len(drifts) > 0:
            sentences = "; ".join(map(str, drifts))
            text = f"the server's model has changed: {sentences}. Read the spec or generate the module again"
            raise SpecDrift(text, drifts=drifts, model=spec.name, endpoint=self.caller.names)

    def ready(self, model: str | None, timeout_s: float) -> Steps[bool]:
        """Ask whether the server or a model is ready; no answer is a no."""
        try:
            return (yield from self._ready(model, timeout_s))
        except (Unavailable, DeadlineExceeded):
            return False

    def wait_ready(self, model: str | None, timeout_s: float) -> Steps[None]:
        """Wait until the server or a model is ready."""
        check_timeout_s(timeout_s)
        _, call = self.caller.begin(dataclasses.replace(self.caller.options, timeout_s=timeout_s), model=model)
        pause_s = _FIRST_PAUSE_S
        failure: TritonError | None = None
        while (left_s := timeout_s - call.elapsed_s) > 0:
            try:
                if (yield from self._ready(model, left_s)):
                    return
                failure = None
            except (Unavailable, DeadlineExceeded) as error:
                failure = error
            yield Pause(max(0.0, min(pause_s, timeout_s - call.elapsed_s)))
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)
        last = failure.text if failure is not None else "it answers that it is not"
        what = "the model" if model is not None else "the server"
        raise NotReady(f"{what} is not ready within {timeout_s:g} s: {last}", **call.error_context()) from failure

    @cached_property
    def administration(self) -> Administration:
        """The steps of what concerns the server and not a model's answers."""
        from tritonforge_client.core.administration import Administration  # most programs only infer

        return Administration(self.caller)

    def closing(self) -> Steps[None]:
        """Close all connections, after the servers were told what they are to forget."""
        for transport in list(self.caller.passing):
            yield Close(transport)
        yield from self._memory.closing(self.caller.transports)
        for transport in self.caller.transports:
            yield Close(transport)

    # ---- how ----

    def _infer(
        self,
        build: Build,
        tensors: Tensors,
        outputs: Outputs,
        options: Options,
        call: Call,
        *,
        spec: ModelSpec | None = None,
        repeatable: bool = True,
    ) -> Steps[tuple[InferReply, Call]]:
        """Run a request, its tensors in shared memory where that is wanted and pays."""
        if options.shared_memory in {"off", "system"}:
            check_reach(tensors, call)
        if sum(len(tensor.data) for tensor in tensors) >= _LARGE_BYTES:
            yield Turn()
        placement = None
        if options.shared_memory != "off":
            placement = self._memory.placement(tensors, outputs, spec, options.shared_memory, call)
        if placement is None:
            sent = on_host(tensors, call)
            ask: Ask[InferReply] = lambda d, attempt: d.infer(build(sent, outputs, attempt))  # noqa: E731
            reply, attempt = yield from self.caller.ask(ask, options, call, repeatable=repeatable)
            return _complete(reply, None, attempt), attempt
        try:
            reply, attempt = yield from self._infer_placed(
                placement, build, (tensors, outputs), options, call, repeatable=repeatable
            )
            reply = _complete(reply, placement, attempt)
        except BaseException as error:
            placement.end(_answered_attempt(error))
            raise
        placement.end(attempt.attempt)
        return reply, attempt

    def _infer_placed(
        self,
        placement: Placement,
        build: Build,
        plain: tuple[Tensors, Outputs],
        options: Options,
        call: Call,
        *,
        repeatable: bool,
    ) -> Steps[tuple[InferReply, Call]]:
        """Run a request whose tensors lie in shared memory; once more if the server has lost it in a restart."""
        chosen = plain

        def known(index: int, transport: Any, attempt: Call) -> Steps[None]:
            nonlocal chosen
            use = options.shared_memory
            if (yield from self._memory.known_at(index, transport, placement, use, attempt)):
                chosen = (placement.tensors, placement.outputs)
                placement.sent(attempt.attempt)
            else:
                chosen = (on_host(plain[0], attempt), plain[1])

        ask: Ask[InferReply] = lambda d, attempt: d.infer(build(*chosen, attempt))  # noqa: E731
        try:
            return (yield from self.caller.ask(ask, options, call, repeatable=repeatable, before=known))
        except TritonError as error:
            if not is_lost_region(error):
                raise
        self._memory.forget(placement)
        return (yield from self.caller.ask(ask, options, call, repeatable=repeatable, before=known))

    def _ready(self, model: str | None, timeout_s: float) -> Steps[bool]:
        _, call = self.caller.begin(dataclasses.replace(self.caller.options, timeout_s=timeout_s), model=model)
        ask: Ask[bool] = lambda d, _: d.server_ready() if model is None else d.model_ready(model, "")  # noqa: E731
        return (yield from self.caller.ask_once(ask, call))


def request_from_tensors(
    spec: ModelSpec,
    tensors: tuple[InputTensor, ...],
    outputs: tuple[RequestedOutput, ...],
    options: Options,
    attempt: Call,
    *,
    sequence: SequenceStep | None = None,
) -> InferRequest:
    """The request of one attempt: its queue timeout is what is left of the call's time."""
    parameters = _parameters(options)
    if spec.queue_timeout_us is not None:
        # The queue drops the request when nobody waits for its answer any more.
        parameters["timeout"] = max(1, int(attempt.remaining_s() * 1_000_000))
    if sequence is not None:
        parameters |= sequence.parameters
    return InferRequest(
        model=spec.name,
        version=spec.version or "",
        inputs=tensors,
        outputs=outputs,
        request_id=attempt.request_id or "",
        parameters=parameters,
    )


def _answered_attempt(error: BaseException) -> int | None:
    """The attempt that a server answered with an error; ``None`` if none did."""
    return error.attempts if isinstance(error, TritonError) and error.server_message is not None else None


def _complete(reply: InferReply, placement: Placement | None, attempt: Call) -> InferReply:
    """The reply with all its outputs, also those in shared memory."""
    try:
        if placement is None:
            check_placed(reply)
            return reply
        return dataclasses.replace(reply, outputs=placement.outputs_of(reply))
    except ReplyFormatError as error:
        text = f"expected a reply with all outputs, got one that lacks some: {error}"
        raise ServerError(text, **attempt.error_context()) from error


def _parameters(options: Options) -> dict[str, Parameter]:
    parameters: dict[str, Parameter] = dict(options.parameters)
    if options.priority > 0:
        parameters["priority"] = options.priority
    return parameters


def _reply(reply: InferReply, options: Options, attempt: Call, elapsed_s: float) -> Reply[dict[str, NDArray[Any]]]:
    return Reply(
        value=writable_copies(reply.outputs) if options.writable else reply.outputs,
        model_version=reply.version,
        request_id=reply.request_id,
        endpoint=attempt.endpoint,
        attempts=attempt.attempt,
        elapsed_s=elapsed_s,
        parameters=reply.parameters,
    )
