"""Reads a graph's facts and proves its batch axis by running it."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from tritonforge_generator.errors import GraphError
from tritonforge_generator.graph.agreement import disagreement
from tritonforge_generator.graph.graph import BatchAxis, Graph
from tritonforge_generator.graph.samples import FALLBACK_SIZES, SampleOptions, Samples, samples_from_options
from tritonforge_generator.graph.session import NamedSession, OnnxSession
from tritonforge_generator.source import SourceModel
from tritonforge_generator.source.onnx_file import onnx_skeleton_from_path

if TYPE_CHECKING:
    import onnx

_PROOF_SIZES = (1, 2, 3)


def graph_from_source(source: SourceModel, options: SampleOptions | None = None) -> Graph:
    """Read what a model takes and gives, and prove whether it can be batched.

    Args:
        source: The model.
        options: Samples for the proof.

    Returns:
        The graph's facts. Shapes are ONNX Runtime's, because Triton's backend compares the configuration with them.

    Raises:
        SourceError: The file changed into something unreadable meanwhile.
        GraphError: ONNX Runtime cannot load it, or a tensor has a type that Triton cannot carry.
        SpecError: Given samples do not fit the inputs.
    """
    skeleton = onnx_skeleton_from_path(source.path)
    session = OnnxSession(source.path)
    _refuse_duplicates(session)
    return Graph(
        source=source,
        inputs=session.inputs,
        outputs=session.outputs,
        batch=_batch_axis(session, options or SampleOptions()),
        opsets={entry.domain: entry.version for entry in skeleton.opset_import},
        ir_version=skeleton.ir_version,
        producer=f"{skeleton.producer_name} {skeleton.producer_version}".strip(),
        operators=dict(sorted(Counter(node.op_type for node in skeleton.graph.node).items())),
        parameter_count=_parameter_count(skeleton),
    )


def runnable_samples(session: NamedSession, options: SampleOptions, *, batched: bool) -> Samples:
    """Samples that the graph runs on, trying several sizes for dynamic axes nobody gave a size for.

    Args:
        session: The loaded graph.
        options: Where samples come from.
        batched: Whether the first axis is a batch.

    Raises:
        GraphError: The graph runs on none of them.
        SpecError: Given samples do not fit the inputs.
    """
    failure: GraphError | None = None
    for size in FALLBACK_SIZES if _has_open_sizes(session, options, batched=batched) else FALLBACK_SIZES[:1]:
        samples = samples_from_options(session.inputs, options, batched=batched, fallback_size=size)
        try:
            session.run(samples.batch(0, 1) if batched else samples.one(0))
        except GraphError as error:
            failure = error
        else:
            return samples
    raise GraphError(
        f"{session.path} does not run on generated samples",
        got=failure.got if failure is not None else "",
        action="Give real inputs with verify.samples (an .npz file), or sizes for its dynamic axes with verify.shapes.",
    ) from failure


def _has_open_sizes(session: NamedSession, options: SampleOptions, *, batched: bool) -> bool:
    if options.path is not None:
        return False
    return any(-1 in tensor.dims(batched=batched) for tensor in session.inputs if tensor.name not in options.shapes)


def _batch_axis(session: OnnxSession, options: SampleOptions) -> BatchAxis:
    symbol, objection = _declared_batch(session)
    if objection != "":
        return BatchAxis(found=False, symbol=None, proven=(), note=objection)
    try:
        samples = runnable_samples(session, options, batched=True)
        objection = _objection_by_running(session, samples)
    except GraphError as error:
        objection = f"it does not run with a first axis of {_PROOF_SIZES}: {error.got}"
    if objection != "":
        return BatchAxis(found=False, symbol=symbol, proven=(), note=objection)
    name = f"'{symbol}'" if symbol is not None else "the unnamed first axis"
    sizes = ", ".join(str(size) for size in _PROOF_SIZES)
    return BatchAxis(
        found=True, symbol=symbol, proven=_PROOF_SIZES, note=f"{name} is the batch: ran with {sizes} independent rows"
    )


def _declared_batch(session: OnnxSession) -> tuple[str | None, str]:
    """The symbol that every input's first axis shares, or the objection to there being a batch."""
    if not session.inputs:
        return None, "the graph has no inputs"
    for tensor in (*session.inputs, *session.outputs):
        if not tensor.shape:
            return None, f"'{tensor.name}' is a scalar, so it has no batch axis"
        if isinstance(tensor.shape[0], int):
            return None, f"the first axis of '{tensor.name}' has the fixed size {tensor.shape[0]}"
    symbols = {tensor.shape[0] for tensor in session.inputs}
    if len(symbols) > 1:
        names = ", ".join(f"'{tensor.name}': {tensor.shape[0]}" for tensor in session.inputs)
        return None, f"the first axes of the inputs are different sizes ({names})"
    symbol = symbols.pop()
    reused = [tensor.name for tensor in session.inputs if symbol is not None and symbol in tensor.shape[1:]]
    if reused:
        return None, f"'{reused[0]}' uses the size '{symbol}' of its first axis for another axis too"
    return (symbol if isinstance(symbol, str) else None), ""


def _objection_by_running(session: OnnxSession, samples: Samples) -> str:
    alone = [session.run(samples.batch(row, 1)) for row in range(max(_PROOF_SIZES))]
    for size in _PROOF_SIZES:
        together = session.run(samples.batch(0, size))
        for name, output in together.items():
            if output.ndim == 0 or output.shape[0] != size:
                return f"with {size} rows in, '{name}' has the shape {output.shape}"
            for row in range(size):
                single = alone[row][name]
                if single.shape[1:] != output.shape[1:]:
                    return f"the shape of '{name}' for one row depends on how many rows are sent"
                difference = disagreement(single[0], output[row])
                if difference != "":
                    return f"rows influence each other: '{name}' of row {row} among {size} differs ({difference})"
    return ""


def _refuse_duplicates(session: OnnxSession) -> None:
    counts = Counter(tensor.name for tensor in (*session.inputs, *session.outputs))
    twice = sorted(name for name, count in counts.items() if count > 1)
    if twice:
        raise GraphError(
            f"{session.path} uses a name for more than one input or output",
            expected="distinct tensor names",
            got=", ".join(twice),
            action="Give the output an Identity node with a name of its own.",
        )


def _parameter_count(skeleton: onnx.ModelProto) -> int:
    return sum(math.prod(tensor.dims) for tensor in skeleton.graph.initializer)
