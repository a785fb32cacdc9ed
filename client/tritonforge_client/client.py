"""The client: one server, its models, and nothing sent that the server would refuse."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from tritonforge_client.core.call import Call
from tritonforge_client.core.check import (
    array_from_value,
    check_reply,
    checked_outputs,
    checked_tensors,
    tensors_from_inputs,
)
from tritonforge_client.core.config import drifts_between, model_spec_from_config
from tritonforge_client.core.request import InferReply, InferRequest, Inputs, Parameter
from tritonforge_client.core.statistics import ModelStatistics, model_statistics_from_json
from tritonforge_client.core.tensor import writable_copy
from tritonforge_client.errors import (
    DeadlineExceeded,
    InvalidInput,
    NotReady,
    ServerError,
    SpecDrift,
    TritonError,
    Unavailable,
)
from tritonforge_client.options import Options, check_timeout_s
from tritonforge_client.spec import ModelSpec
from tritonforge_client.transport.base import Transport
from tritonforge_client.transport.target import transport_from_target

_T_co = TypeVar("_T_co", covariant=True)

# Between two questions of wait_ready: soon at first, then seldom enough not to disturb the server.
_FIRST_PAUSE_S: Final = 0.02
_LAST_PAUSE_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply(Generic[_T_co]):
    """An answer and where it came from.

    Attributes:
        value: The outputs.
        model_version: Version that answered.
        request_id: Id of the request; empty if it had none.
        endpoint: ``host:port`` that answered.
        elapsed_s: Seconds from the call to the decoded reply.
    """

    value: _T_co
    model_version: str
    request_id: str
    endpoint: str
    elapsed_s: float


class Client:
    """A connection to one Triton server. It may be shared between threads, but not with a forked process.

    ::

        with Client("grpc://localhost:8001") as client:
            digits = client.bind(client.spec("digits"))
            probabilities = digits.infer({"images": images})["probabilities"]

    Args:
        target: ``grpc://host:port`` or ``http://host:port``.
        options: Options of every call that brings none of its own.
        transport: Another way to the server; then ``target`` is only its name.

    Raises:
        InvalidInput: The target has another form.
    """

    def __init__(self, target: str, *, options: Options | None = None, transport: Transport | None = None) -> None:
        self._closed = True  # until there is something to close
        self._options = options if options is not None else Options()
        self._target = target
        self._transport = transport if transport is not None else transport_from_target(target)
        self._pid = os.getpid()
        self._closed = False

    def infer(
        self,
        model: str,
        inputs: Inputs,
        *,
        outputs: Sequence[str] = (),
        options: Options | None = None,
        request_id: str | None = None,
    ) -> Reply[dict[str, NDArray[Any]]]:
        """Run a model without knowing its spec: arrays are sent by their own dtypes, the server checks the rest.

        Args:
            model: Model name; the server's version policy chooses the version.
            inputs: Arrays by tensor name, in full shape, batch dimension included.
            outputs: Names of the outputs to return; none means all.
            options: Options of this call instead of the client's.
            request_id: Id that the server logs and echoes.

        Returns:
            Arrays by tensor name: read-only views of the reply, unless ``options.writable``.

        Raises:
            TritonError: As the tree in ``tritonforge_client.errors`` says.
        """
        options, call = self._call(options, model=model, request_id=request_id)
        request = InferRequest(
            model=model,
            inputs=tensors_from_inputs(inputs, call),
            outputs=tuple(outputs),
            request_id=request_id or "",
        )
        return self._reply(self._transport.infer(request, call), options, call)

    def bind(self, spec: ModelSpec, *, options: Options | None = None) -> Model:
        """Return a model whose requests are checked before they are sent. Nothing is sent now.

        Args:
            spec: What the model takes and gives.
            options: Options of its calls instead of the client's.

        Raises:
            InvalidInput: The model is decoupled or scheduled by sequence: a request is not one answer by itself.
        """
        for is_set, what in ((spec.decoupled, "decoupled"), (spec.sequence, "scheduled by sequence_batching")):
            if is_set:
                expected = "a model that answers each request once and by itself"
                text = f"bind() needs {expected}, got one that is {what}; call it with tritonclient"
                raise InvalidInput(text, field="spec", expected=expected, got=what, model=spec.name)
        return Model(self, spec, options if options is not None else self._options)

    def spec(self, model: str, *, version: str | None = None, options: Options | None = None) -> ModelSpec:
        """Read what a model takes and gives from the server.

        Args:
            model: Model name.
            version: Version to ask for and to call; ``None`` leaves the choice to the server.
            options: Options of this call instead of the client's.

        Raises:
            TritonError: As the tree in ``tritonforge_client.errors`` says.
        """
        _, call = self._call(options, model=model)
        config = self._transport.model_config(model, version or "", call)
        try:
            return model_spec_from_config(config, version=version)
        except ValueError as error:
            raise ServerError(f"the server's config has no spec: {error}", **call.error_context()) from error

    def check(self, spec: ModelSpec, *, options: Options | None = None) -> None:
        """Compare a spec with the model that the server has.

        Args:
            spec: What the model is believed to take and give.
            options: Options of this call instead of the client's.

        Raises:
            SpecDrift: They differ where a client can notice it.
            TritonError: As the tree in ``tritonforge_client.errors`` says.
        """
        live = self.spec(spec.name, version=spec.version, options=options)
        drifts = drifts_between(spec, live)
        if len(drifts) > 0:
            text = f"the server's model has changed: {'; '.join(drifts)}. Read the spec or generate the module again"
            raise SpecDrift(text, drifts=drifts, model=spec.name, endpoint=self._transport.endpoint)

    def ready(self, model: str | None = None, *, timeout_s: float = 5.0) -> bool:
        """Return whether the server, or one of its models, answers requests now.

        Args:
            model: Model name; ``None`` asks about the server.
            timeout_s: Seconds to wait for the answer; none in time is a no.
        """
        try:
            return self._ask_ready(model, timeout_s)
        except (Unavailable, DeadlineExceeded):
            return False

    def wait_ready(self, model: str | None = None, *, timeout_s: float) -> None:
        """Wait until the server, or one of its models, is ready.

        Args:
            model: Model name; ``None`` waits for the server.
            timeout_s: Seconds to wait in all.

        Raises:
            NotReady: It was not ready in time; the last failure is the cause.
        """
        check_timeout_s(timeout_s)
        _, call = self._call(dataclasses.replace(self._options, timeout_s=timeout_s), model=model)
        pause_s = _FIRST_PAUSE_S
        failure: TritonError | None = None
        while (left_s := timeout_s - call.elapsed_s) > 0:
            try:
                if self._ask_ready(model, left_s):
                    return
                failure = None
            except (Unavailable, DeadlineExceeded) as error:
                failure = error
            time.sleep(max(0.0, min(pause_s, timeout_s - call.elapsed_s)))
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)
        last = failure.text if failure is not None else "it answers that it is not"
        what = "the model" if model is not None else "the server"
        raise NotReady(f"{what} is not ready within {timeout_s:g} s: {last}", **call.error_context()) from failure

    def statistics(self, model: str | None = None, *, options: Options | None = None) -> list[ModelStatistics]:
        """Read the server's statistics, one entry a model version.

        Args:
            model: Model name; ``None`` reads all models.
            options: Options of this call instead of the client's.

        Raises:
            TritonError: As the tree in ``tritonforge_client.errors`` says.
        """
        _, call = self._call(options, model=model)
        return [model_statistics_from_json(entry) for entry in self._transport.model_statistics(model or "", call)]

    def load_model(self, model: str, *, options: Options | None = None) -> None:
        """Load a model, or load it again (model control mode ``explicit``). Returns when it is ready.

        Raises:
            TritonError: As the tree in ``tritonforge_client.errors`` says.
        """
        _, call = self._call(options, model=model)
        self._transport.load_model(model, call)

    def unload_model(self, model: str, *, options: Options | None = None) -> None:
        """Unload a model (model control mode ``explicit``). Requests in flight are still answered.

        Raises:
            TritonError: As the tree in ``tritonforge_client.errors`` says.
        """
        _, call = self._call(options, model=model)
        self._transport.unload_model(model, call)

    def close(self) -> None:
        """Close all connections. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        # The parent's connections are not a child's to close.
        if os.getpid() == self._pid:
            self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._target!r}{', closed' if self._closed else ''})"

    def _infer_bound(
        self,
        spec: ModelSpec,
        inputs: Inputs,
        outputs: Sequence[str],
        options: Options,
        request_id: str | None,
    ) -> Reply[dict[str, NDArray[Any]]]:
        options, call = self._call(options, model=spec.name, request_id=request_id)
        parameters: dict[str, Parameter] = {}
        tensors = checked_tensors(spec, inputs, call)
        if spec.queue_timeout_us is not None:
            # The queue drops the request when nobody waits for its answer any more.
            parameters["timeout"] = max(1, int(call.remaining_s() * 1_000_000))
        request = InferRequest(
            model=spec.name,
            version=spec.version or "",
            inputs=tensors,
            outputs=checked_outputs(spec, outputs, call),
            request_id=request_id or "",
            parameters=parameters,
        )
        reply = self._transport.infer(request, call)
        check_reply(spec, reply, outputs, call)
        return self._reply(reply, options, call)

    def _reply(self, reply: InferReply, options: Options, call: Call) -> Reply[dict[str, NDArray[Any]]]:
        outputs = reply.outputs
        if options.writable:
            outputs = {name: writable_copy(array) for name, array in outputs.items()}
        return Reply(
            value=outputs,
            model_version=reply.version,
            request_id=reply.request_id,
            endpoint=call.endpoint,
            elapsed_s=call.elapsed_s,
        )

    def _ask_ready(self, model: str | None, timeout_s: float) -> bool:
        _, call = self._call(dataclasses.replace(self._options, timeout_s=timeout_s), model=model)
        return self._transport.server_ready(call) if model is None else self._transport.model_ready(model, "", call)

    def _call(
        self, options: Options | None, *, model: str | None = None, request_id: str | None = None
    ) -> tuple[Options, Call]:
        if self._closed:
            raise RuntimeError(f"{self!r} is closed; make a new Client")
        if os.getpid() != self._pid:
            raise RuntimeError(
                f"{self!r} was made in process {self._pid} and cannot be used in its fork {os.getpid()}; "
                "make a new Client after forking"
            )
        options = options if options is not None else self._options
        call = Call(
            endpoint=self._transport.endpoint,
            timeout_s=options.timeout_s,
            model=model,
            request_id=request_id,
            headers=options.headers,
        )
        return options, call


class Model:
    """One model of one server; made by ``Client.bind``.

    Args:
        client: The client that carries its requests.
        spec: What the model takes and gives.
        options: Options of every call that brings none of its own.
    """

    def __init__(self, client: Client, spec: ModelSpec, options: Options) -> None:
        self._client = client
        self._options = options
        self.spec = spec

    def infer(
        self,
        inputs: Inputs,
        *,
        outputs: Sequence[str] = (),
        options: Options | None = None,
        request_id: str | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Run the model after checking the inputs against its spec.

        Args:
            inputs: Arrays by tensor name, in full shape, batch dimension included.
            outputs: Names of the outputs to return; none means all.
            options: Options of this call instead of the model's.
            request_id: Id that the server logs and echoes.

        Returns:
            Arrays by tensor name, of the types and shapes of the spec: read-only views of the reply, unless
            ``options.writable``.

        Raises:
            InvalidInput: The inputs do not fit the spec; nothing was sent.
            SpecDrift: The outputs do not fit the spec.
            TritonError: As the tree in ``tritonforge_client.errors`` says.
        """
        return self.infer_with_reply(inputs, outputs=outputs, options=options, request_id=request_id).value

    def infer_with_reply(
        self,
        inputs: Inputs,
        *,
        outputs: Sequence[str] = (),
        options: Options | None = None,
        request_id: str | None = None,
    ) -> Reply[dict[str, NDArray[Any]]]:
        """Like ``infer``, with the version, id and time of the answer."""
        options = options if options is not None else self._options
        return self._client._infer_bound(self.spec, inputs, outputs, options, request_id)

    def infer_one(
        self,
        inputs: Inputs,
        *,
        outputs: Sequence[str] = (),
        options: Options | None = None,
        request_id: str | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Run the model on one row: the batch dimension is added to the inputs and taken off the outputs.

        Args:
            inputs: Arrays by tensor name, without the batch dimension.
            outputs: Names of the outputs to return; none means all.
            options: Options of this call instead of the model's.
            request_id: Id that the server logs and echoes.

        Returns:
            Arrays by tensor name, without the batch dimension.

        Raises:
            InvalidInput: The model has no batch dimension, or as for ``infer``.
            TritonError: As for ``infer``.
        """
        options, call = self._client._call(
            options if options is not None else self._options, model=self.spec.name, request_id=request_id
        )
        if self.spec.max_batch_size == 0:
            expected, got = "max_batch_size above 0", "max_batch_size 0"
            text = f"infer_one() needs a model with {expected}, got {got}; use infer()"
            raise InvalidInput(text, field="max_batch_size", expected=expected, got=got, **call.error_context())
        batch = {
            name: array_from_value(name, value, call)[np.newaxis, ...]
            for name, value in inputs.items()
            if value is not None
        }
        rows = self.infer(batch, outputs=outputs, options=options, request_id=request_id)
        # The ellipsis keeps an array where indexing alone would give an element.
        return {name: array[0, ...] for name, array in rows.items()}
