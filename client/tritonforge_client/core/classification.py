"""The classification extension: the server gives the classes with the largest values instead of the tensor."""

from __future__ import annotations

from dataclasses import dataclass

from tritonforge_client.core.call import Call
from tritonforge_client.core.request import InferReply
from tritonforge_client.errors import InvalidInput, ServerError


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """One class of one row.

    Attributes:
        index: Index of the class in the output.
        value: Its value there.
        label: Its label, where the model has ``label_filename``.
    """

    index: int
    value: float
    label: str


def check_count(count: int, call: Call) -> None:
    """Refuse a count of classes that means nothing.

    Raises:
        InvalidInput: It is below 1.
    """
    if count < 1:
        text = f"count: expected at least 1 class, got {count}"
        raise InvalidInput(text, field="count", expected="at least 1", got=str(count), **call.error_context())


def classifications_from_reply(reply: InferReply, output: str, call: Call) -> list[list[Classification]]:
    """Read classes, which come as texts ``value:index`` or ``value:index:label``.

    Args:
        reply: The reply.
        output: Output that was classified.
        call: The call, for errors.

    Returns:
        The classes of each row, those with the largest values first.

    Raises:
        ServerError: The reply has another form.
    """
    array = reply.outputs.get(output)
    if array is None or array.dtype != object or array.ndim == 0:
        got = "nothing" if array is None else f"{array.dtype} {array.shape}"
        raise ServerError(f"expected classes of output {output} as texts, got {got}", **call.error_context())
    rows = array.reshape(-1, array.shape[-1]).tolist() if array.size > 0 else []
    try:
        return [[_classification(text.decode()) for text in row] for row in rows]
    except ValueError as error:
        raise ServerError(f"expected classes as value:index:label, got {error}", **call.error_context()) from error


def _classification(text: str) -> Classification:
    value, index, *label = text.split(":", 2)
    return Classification(index=int(index), value=float(value), label=label[0] if label else "")
