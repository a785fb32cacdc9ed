"""What a model takes and gives: the contract that requests are checked against before they are sent."""

from __future__ import annotations

from dataclasses import dataclass

from tritonforge_client.datatypes import BY_DATATYPE, DataType


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One input or output as a client sees it.

    Attributes:
        name: Tensor name, letter for letter as in ``config.pbtxt``.
        datatype: Wire name of its type, for example ``"FP32"``.
        dims: Shape without the batch dimension, as ``ModelInput.dims``; -1 stands for any size.
        optional: Whether a request may leave it out (``ModelInput.optional``).
    """

    name: str
    datatype: str
    dims: tuple[int, ...]
    optional: bool = False

    @property
    def type(self) -> DataType:
        """The row of the data type table."""
        return BY_DATATYPE[self.datatype]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One model as a client sees it.

    Attributes:
        name: Model name.
        inputs: Its inputs, in the order of ``config.pbtxt``.
        outputs: Its outputs, in the order of ``config.pbtxt``.
        max_batch_size: Largest batch of one request; 0 means that shapes are sent in full, without a batch dimension.
        version: Version to call; ``None`` leaves the choice to the server's version policy.
        decoupled: ``model_transaction_policy.decoupled``.
        sequence: Whether ``sequence_batching`` schedules it.
        queue_timeout_us: ``default_timeout_microseconds`` of the queue when requests may shorten it
            (``allow_timeout_override``), else ``None``: then a deadline does not reach the queue.
        digest: SHA-256 over the fields above, to recognise a changed contract.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int = 0
    version: str | None = None
    decoupled: bool = False
    sequence: bool = False
    queue_timeout_us: int | None = None
    digest: str = ""
