"""A model's spec from its config, as the server or a repository states it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tritonforge_client.datatypes import BY_DATA_TYPE
from tritonforge_client.errors import Drift
from tritonforge_client.spec import ModelSpec, TensorSpec

if TYPE_CHECKING:
    from google.protobuf.message import Message


def model_spec_from_config(config: Mapping[str, Any] | Message, *, version: str | None = None) -> ModelSpec:
    """Return what a model takes and gives.

    ``dims`` are taken as they stand: ``reshape`` changes what the backend sees, not what a client sends.

    Args:
        config: A ``ModelConfig`` message, or its JSON form with proto field names (what
            ``/v2/models/<name>/config`` answers).
        version: Version to call; ``None`` leaves the choice to the server.

    Returns:
        The spec, with its digest.

    Raises:
        ValueError: The config does not state its inputs and outputs; the server would complete it when it loads the
            model, so the live model has to be asked.
    """
    fields = config if isinstance(config, Mapping) else _fields_from_message(config)
    name = str(fields.get("name", ""))
    if not fields.get("input") or not fields.get("output"):
        missing = " and ".join(kind for kind in ("input", "output") if not fields.get(kind))
        raise ValueError(
            f"model {name or '(unnamed)'}: expected a config that states its inputs and outputs, got one without"
            f" {missing}. State them, or read the spec from a server that has loaded the model"
        )
    spec = ModelSpec(
        name=name,
        inputs=tuple(_tensor_spec(name, entry) for entry in fields["input"]),
        outputs=tuple(_tensor_spec(name, entry) for entry in fields["output"]),
        max_batch_size=int(fields.get("max_batch_size", 0)),
        version=version,
        decoupled=bool(fields.get("model_transaction_policy", {}).get("decoupled", False)),
        sequence="sequence_batching" in fields,
        queue_timeout_us=_queue_timeout_us(fields),
    )
    return dataclasses.replace(spec, digest=digest_from_spec(spec))


def digest_from_spec(spec: ModelSpec) -> str:
    """Return the SHA-256 over every field of a spec but the digest itself, in hexadecimal digits."""
    fields = dataclasses.asdict(spec)
    del fields["digest"]
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def drifts_between(expected: ModelSpec, live: ModelSpec) -> tuple[Drift, ...]:
    """Return the differences that a client can notice."""
    drifts = []
    for kind, ours, theirs in (("input", expected.inputs, live.inputs), ("output", expected.outputs, live.outputs)):
        by_name = {tensor.name: tensor for tensor in theirs}
        for tensor in ours:
            other = by_name.pop(tensor.name, None)
            if other != tensor:
                drifts.append(_tensor_drift(f"{kind} {tensor.name}", tensor, other))
        drifts += [_tensor_drift(f"{kind} {name}", None, other) for name, other in by_name.items()]
    for field in ("max_batch_size", "decoupled", "sequence", "queue_timeout_us"):
        ours_value, live_value = getattr(expected, field), getattr(live, field)
        if ours_value != live_value:
            drifts.append(Drift(field=field, expected=str(ours_value), got=str(live_value)))
    return tuple(drifts)


def _fields_from_message(message: Message) -> dict[str, Any]:
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(message, preserving_proto_field_name=True)


def _tensor_spec(model: str, entry: Mapping[str, Any]) -> TensorSpec:
    data_type = str(entry.get("data_type", "TYPE_INVALID"))
    if data_type not in BY_DATA_TYPE:
        raise ValueError(
            f"model {model}: tensor {entry.get('name')}: expected a data_type of {', '.join(BY_DATA_TYPE)},"
            f" got {data_type}"
        )
    return TensorSpec(
        name=str(entry["name"]),
        datatype=BY_DATA_TYPE[data_type].datatype,
        # 64-bit numbers are strings in protobuf's JSON form and numbers in Triton's.
        dims=tuple(int(size) for size in entry.get("dims", ())),
        optional=bool(entry.get("optional", False)),
    )


def _queue_timeout_us(fields: Mapping[str, Any]) -> int | None:
    """Return the queue's default timeout when requests may lower it.

    The core only ever lowers the default: with a default of 0 a request's own timeout is ignored (core,
    scheduler_utils.cc).
    """
    policy = fields.get("dynamic_batching", {}).get("default_queue_policy", {})
    default_us = int(policy.get("default_timeout_microseconds", 0))
    return default_us if policy.get("allow_timeout_override", False) and default_us > 0 else None


def _tensor_drift(field: str, expected: TensorSpec | None, live: TensorSpec | None) -> Drift:
    sentence = f"{field} is gone" if live is None else f"{field} is new" if expected is None else ""
    return Drift(field=field, expected=_tensor_text(expected), got=_tensor_text(live), sentence=sentence)


def _tensor_text(tensor: TensorSpec | None) -> str:
    if tensor is None:
        return "nothing"
    return f"{tensor.datatype} {list(tensor.dims)}{' optional' if tensor.optional else ''}"
