"""Models without a server: what Triton would answer, in its own words where it refuses."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from tritonforge_client.core.call import Call
from tritonforge_client.core.check import check_way, checked_outputs, checked_tensors
from tritonforge_client.core.request import InferReply, InferRequest, StreamPart
from tritonforge_client.core.status import error_from_status
from tritonforge_client.errors import Unimplemented
from tritonforge_client.spec import ModelSpec, TensorSpec
from tritonforge_client.testing.answers import (
    Answer,
    answers_of,
    arrays_from_tensors,
    check_answer,
    reply_from_answer,
    rows_of,
    version_of,
)
from tritonforge_client.testing.dialect import Question

_METADATA: Final = {
    "name": "fake",
    "version": "0",
    "extensions": ["classification", "sequence", "model_repository", "model_configuration", "statistics"],
}


class FakeModel:
    """One model.

    Args:
        spec: What it takes and gives.
        answer: What it answers; ``None`` for zeros.
    """

    def __init__(self, spec: ModelSpec, answer: Answer | None) -> None:
        check_answer(spec, answer)
        self.spec = spec
        self.version = version_of(spec)
        self.is_loaded = True
        self.statistics = Statistics()
        self._answer = answer

    def infer(self, request: InferRequest, call: Call, *, is_streamed: bool) -> Iterator[InferReply]:
        """Check a request as the server would and yield its replies."""
        with self.statistics.counted() as count:
            inputs = arrays_from_tensors(request.inputs)
            if self.spec.decoupled and not is_streamed:
                text = "ModelInfer RPC doesn't support models with decoupled transaction policy"
                raise error_from_status("UNIMPLEMENTED", text, call)
            is_step = "sequence_id" in request.parameters
            check_way(self.spec, "stream" if is_streamed else "sequence" if is_step else "single", call)
            checked_tensors(self.spec, inputs, call)
            checked_outputs(self.spec, [one.name for one in request.outputs], call)
            rows = rows_of(self.spec, inputs)
            for answer in answers_of(self.spec, self._answer, inputs, call):
                yield reply_from_answer(self.spec, answer, request, rows, call)
            count(rows)

    def config(self) -> dict[str, Any]:
        """Its config, as JSON with proto field names."""
        spec = self.spec
        config: dict[str, Any] = {
            "name": spec.name,
            "max_batch_size": spec.max_batch_size,
            "input": [{**_tensor_config(tensor), "optional": tensor.optional} for tensor in spec.inputs],
            "output": [_tensor_config(tensor) for tensor in spec.outputs],
            "model_transaction_policy": {"decoupled": spec.decoupled},
        }
        if spec.sequence:
            config["sequence_batching"] = {}
        if spec.queue_timeout_us is not None:
            policy = {"default_timeout_microseconds": spec.queue_timeout_us, "allow_timeout_override": True}
            config["dynamic_batching"] = {"default_queue_policy": policy}
        return config

    def index_entry(self) -> dict[str, str]:
        """Its entry in the repository index."""
        state, reason = ("READY", "") if self.is_loaded else ("UNAVAILABLE", "unloaded")
        return {"name": self.spec.name, "version": self.version, "state": state, "reason": reason}


def _tensor_config(tensor: TensorSpec) -> dict[str, Any]:
    return {"name": tensor.name, "data_type": tensor.type.data_type, "dims": list(tensor.dims)}


class Statistics:
    """What was asked of a model since it was loaded. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._success = Counter(count=0, ns=0)
        self._fail = Counter(count=0, ns=0)
        self._batches: dict[int, Counter[str]] = {}
        self._last_ms = 0

    @contextmanager
    def counted(self) -> Iterator[Callable[[int], None]]:
        """Count a request: as a success of so many rows when the yielded function is called, else as a failure."""
        began_ns = time.perf_counter_ns()
        rows: list[int] = []
        try:
            yield rows.append
        finally:
            took = Counter(count=1, ns=time.perf_counter_ns() - began_ns)
            with self._lock:
                self._last_ms = int(time.time() * 1000)
                if len(rows) == 0:
                    self._fail += took
                else:
                    self._success += took
                    self._batches[rows[0]] = self._batches.get(rows[0], Counter()) + took

    def as_json(self) -> dict[str, Any]:
        """The fields of ``ModelStatistics`` that a fake knows."""
        with self._lock:
            return {
                "last_inference": self._last_ms,
                "inference_count": sum(rows * took["count"] for rows, took in self._batches.items()),
                "execution_count": self._success["count"],
                "inference_stats": {
                    "success": dict(self._success),
                    "fail": dict(self._fail),
                    "compute_infer": dict(self._success),
                },
                "batch_stats": [
                    {"batch_size": rows, "compute_infer": dict(took)} for rows, took in sorted(self._batches.items())
                ],
            }


class FakeServer:
    """Models by name, and what can be asked of them."""

    def __init__(self) -> None:
        self._models: dict[str, FakeModel] = {}

    def add(self, spec: ModelSpec, answer: Answer | None) -> None:
        """Serve a model, in place of one of the same name."""
        self._models[spec.name] = FakeModel(spec, answer)

    def note_failure(self, model: str) -> None:
        """Count a request that did not reach its model."""
        if model in self._models:
            with self._models[model].statistics.counted():
                pass

    def infer(self, request: InferRequest, call: Call) -> InferReply:
        """Answer a request once."""
        (reply,) = self._model(request.model, request.version, call).infer(request, call, is_streamed=False)
        return reply

    def infer_stream(self, request: InferRequest, call: Call) -> Iterator[StreamPart]:
        """Answer a request as often as its model does; a decoupled model's end is marked by an empty reply."""
        model = self._model(request.model, request.version, call)
        replies = model.infer(request, call, is_streamed=True)
        if not model.spec.decoupled:
            (reply,) = replies
            yield StreamPart(reply, is_final=True)
            return
        for reply in replies:
            yield StreamPart(reply, is_final=False)
        end = InferReply(model=request.model, version=model.version, request_id=request.request_id, outputs={})
        yield StreamPart(end, is_final=True)

    def answer(self, question: Question, call: Call) -> Any:
        """Answer what is asked beside inference.

        Raises:
            TritonError: As a server would; ``Unimplemented`` for what a fake does not have.
        """
        method = getattr(self, f"_{question.operation}", None)
        if method is None:
            raise Unimplemented(f"a fake server has no {question.operation}", **call.error_context())
        return method(call, **question.arguments)

    def _server_ready(self, _: Call) -> bool:
        return True

    def _model_ready(self, _: Call, model: str, version: str) -> bool:
        found = self._models.get(model)
        return found is not None and found.is_loaded and version in {"", found.version}

    def _server_metadata(self, _: Call) -> Mapping[str, Any]:
        return _METADATA

    def _model_config(self, call: Call, model: str, version: str) -> Mapping[str, Any]:
        return self._model(model, version, call).config()

    def _model_statistics(self, call: Call, model: str) -> Sequence[Mapping[str, Any]]:
        asked = [self._model(model, "", call)] if model else [one for one in self._models.values() if one.is_loaded]
        return [{"name": one.spec.name, "version": one.version, **one.statistics.as_json()} for one in asked]

    def _repository_index(self, _: Call, *, ready: bool) -> Sequence[Mapping[str, Any]]:
        return [one.index_entry() for one in self._models.values() if one.is_loaded or not ready]

    def _load_model(self, call: Call, model: str, config: str, files: Mapping[str, bytes]) -> None:  # noqa: ARG002
        """Load a model with its spec of before, whatever the config and the files say."""
        found = self._models.get(model)
        if found is None:
            text = f"failed to load '{model}', failed to poll from model repository"
            raise error_from_status("INTERNAL", text, call)
        found.is_loaded = True
        found.statistics = Statistics()

    def _unload_model(self, _: Call, model: str, *, dependents: bool) -> None:  # noqa: ARG002
        # Triton does not mind a model that it does not have.
        if model in self._models:
            self._models[model].is_loaded = False

    def _model(self, name: str, version: str, call: Call) -> FakeModel:
        found = self._models.get(name)
        if found is None:
            reason = f"Request for unknown model: '{name}' is not found"
        elif not found.is_loaded:
            reason = f"Request for unknown model: '{name}' has no available versions"
        elif version not in {"", found.version}:
            reason = f"Request for unknown model: '{name}' version {version} is not found"
        else:
            return found
        raise error_from_status("NOT_FOUND", reason, call)
