"""Gate that asks a real Triton server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tritonforge_client import Client, TritonError
from tritonforge_client.core.proto import messages
from tritonforge_generator.config.tensors import client_shape
from tritonforge_generator.graph.agreement import served_tolerance_of
from tritonforge_generator.graph.session import Arrays
from tritonforge_generator.verify.reference import Reference
from tritonforge_generator.verify.sequence import SEQUENCE_ID
from tritonforge_generator.verify.verification import Check, Comparison

SERVED_CHECK: Final = "a real Triton serves the same answers"
_LARGEST_REQUEST_ROWS = 8


def not_servable(config: Any) -> str:
    """Why the embedded server cannot try a model that a full Triton serves; empty when it can.

    Args:
        config: The model's ``inference.ModelConfig``.
    """
    of_python = "the embedded server's Python-based backends cannot"
    if config.sequence_batching.state:
        return f"{of_python} keep implicit state (sequence_batching.state), so only a full Triton can show it served"
    is_ragged = config.backend != "python" and any(one.allow_ragged_batch for one in config.input)
    if config.batch_input or config.batch_output or is_ragged:
        return f"{of_python} gather requests of several sizes (batch_input, batch_output, allow_ragged_batch)"
    if config.HasField("model_repository_agents"):
        names = ", ".join(agent.name for agent in config.model_repository_agents.agents)
        return f"the embedded server has no repository agents ({names})"
    if config.HasField("model_metrics"):
        return "the embedded server is older than model_metrics and does not read such a configuration"
    if config.optimization.execution_accelerators.cpu_execution_accelerator:
        import onnxruntime

        if "OpenVINOExecutionProvider" not in onnxruntime.get_available_providers():
            return f"onnxruntime {onnxruntime.__version__} here has no OpenVINO provider"
    return ""


def served_check(
    model: str, reference: Reference, targets: Sequence[str], *, max_batch_size: int, config: Any = None
) -> Check:
    """Ask a running server and compare.

    Each sample is sent alone, over every target; a batching model is also asked for several rows in one request. A
    model of sequences gets the samples as the steps of one.

    Args:
        model: Model name.
        reference: The source's answers.
        targets: URLs of the server, for example its gRPC and its HTTP one.
        max_batch_size: As configured; 0 for shapes in full.
        config: The model's ``inference.ModelConfig`` where clients see other tensors than the graph has (``reshape``,
            tensors that the server fills or keeps); ``None`` where they do not.
    """
    comparison = Comparison(reference.tolerance, reference.default_tolerance or served_tolerance_of)
    view = ClientView(config, max_batch_size)
    for target in targets:
        try:
            with Client(target) as client:
                if view.is_sequence:
                    _ask_in_sequence(client, model, reference, comparison, view)
                else:
                    _ask(client, model, reference, comparison, view)
        except TritonError as error:
            return Check(name=SERVED_CHECK, passed=False, summary=str(error))
    protocols = " and ".join(target.partition(":")[0] for target in targets)
    summary = comparison.problem or f"{len(reference.answers)} samples over {protocols}"
    passed = comparison.problem == "" and comparison.count > 0
    return Check(name=SERVED_CHECK, passed=passed, summary=summary, figures=comparison.figures())


class ClientView:
    """The graph's arrays as clients see them.

    Args:
        config: The model's ``inference.ModelConfig``, or ``None``.
        max_batch_size: As configured; above 0, Triton adds a batch axis.
    """

    def __init__(self, config: Any, max_batch_size: int) -> None:
        self._config = config
        self._rows = 1 if max_batch_size > 0 else 0
        self.request_rows = min(max_batch_size, _LARGEST_REQUEST_ROWS)
        self.is_sequence = config is not None and config.HasField("sequence_batching")

    @property
    def sequence_id(self) -> int | str:
        """Id of the sequence that samples make, in the type that the model takes."""
        controls = [one for declared in self._config.sequence_batching.control_input for one in declared.control]
        as_text = any(one.data_type == messages().TYPE_STRING for one in controls)
        return str(SEQUENCE_ID) if as_text else SEQUENCE_ID

    def inputs(self, arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
        """What a request carries."""
        return self._seen(arrays, self._config.input if self._config is not None else None)

    def outputs(self, arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
        """What a reply carries."""
        return self._seen(arrays, self._config.output if self._config is not None else None)

    def _seen(self, arrays: Arrays, tensors: Any) -> dict[str, npt.NDArray[Any]]:
        if tensors is None:
            return {name: self._with_an_axis(array) for name, array in arrays.items()}
        return {one.name: self._shaped(arrays[one.name], one) for one in tensors if one.name in arrays}

    def _with_an_axis(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A value without axes of its own has ``dims: [ 1 ]`` (rules I3 and O19)."""
        return np.reshape(array, (*array.shape, 1)) if array.ndim == self._rows else array

    def _shaped(self, array: npt.NDArray[Any], tensor: Any) -> npt.NDArray[Any]:
        reshape = list(tensor.reshape.shape) if tensor.HasField("reshape") else None
        shape = client_shape(array.shape[self._rows :], list(tensor.dims), reshape)
        return np.reshape(array, (*array.shape[: self._rows], *shape))


def _ask(client: Client, model: str, reference: Reference, comparison: Comparison, view: ClientView) -> None:
    for index, expected in enumerate(reference.answers):
        served = client.infer(model, view.inputs(reference.request(index))).value
        comparison.add_all(view.outputs(expected), served, f"sample {index}")
    rows = view.request_rows
    if rows < 2:
        return
    together = client.infer(model, view.inputs(reference.samples.batch(0, rows))).value
    for row in range(rows):
        expected = reference.answers[row % len(reference.answers)]
        served = {output: array[row : row + 1] for output, array in together.items()}
        comparison.add_all(view.outputs(expected), served, f"row {row} of {rows}")


def _ask_in_sequence(
    client: Client, model: str, reference: Reference, comparison: Comparison, view: ClientView
) -> None:
    steps = [view.inputs(reference.request(index)) for index in range(len(reference.answers))]
    bound = client.bind(client.spec(model))
    for index, served in enumerate(bound.sequence(id=view.sequence_id).map(steps)):
        comparison.add_all(view.outputs(reference.answers[index]), served, f"step {index}")
