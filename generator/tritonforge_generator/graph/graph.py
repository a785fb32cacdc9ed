"""The artifact of the graph stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tritonforge_generator.source import SourceModel


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphTensor:
    """One input or output of a graph.

    Attributes:
        name: Tensor name.
        datatype: Triton's wire name of its type, for example ``"FP32"``.
        shape: Full shape as ONNX Runtime reports it: a size, a symbol, or ``None`` for an unnamed dynamic size. This is
            what Triton's ONNX Runtime backend compares the configuration with.
    """

    name: str
    datatype: str
    shape: tuple[int | str | None, ...]

    def dims(self, *, batched: bool) -> tuple[int, ...]:
        """The shape in Triton's terms: -1 for every dynamic size.

        Args:
            batched: Leave out the first axis because Triton puts the batch there.
        """
        shape = self.shape[1:] if batched else self.shape
        return tuple(size if isinstance(size, int) else -1 for size in shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchAxis:
    """Whether the first axis of every tensor is a batch of independent rows.

    Attributes:
        found: True when the graph declares it so and running it proved it.
        symbol: The symbolic size that the inputs share, if it has a name.
        proven: Batch sizes that were run for the proof.
        note: One sentence: the proof, or why there is no batch axis.
    """

    found: bool
    symbol: str | None
    proven: tuple[int, ...]
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """What can be known of a model without a server.

    Attributes:
        source: The model it was read from.
        inputs: Inputs that a request must give, in graph order.
        outputs: Outputs, in graph order.
        batch: The batch axis, found or not.
        opsets: Operator set version by domain (``""`` is ONNX's own).
        ir_version: ONNX IR version of the file.
        producer: Tool that wrote the file, with its version.
        operators: Number of nodes by operator type, subgraphs left out.
        parameter_count: Number of elements in all initializers.
    """

    source: SourceModel
    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]
    batch: BatchAxis
    opsets: Mapping[str, int]
    ir_version: int
    producer: str
    operators: Mapping[str, int]
    parameter_count: int

    def to_json(self) -> dict[str, Any]:
        """Plain data for reports and the manifest, without paths."""
        return {
            "inputs": [asdict(tensor) for tensor in self.inputs],
            "outputs": [asdict(tensor) for tensor in self.outputs],
            "batch": asdict(self.batch),
            "opsets": dict(self.opsets),
            "ir_version": self.ir_version,
            "producer": self.producer,
            "operators": dict(self.operators),
            "parameter_count": self.parameter_count,
        }
