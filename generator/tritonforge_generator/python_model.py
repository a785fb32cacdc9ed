"""Models of Triton's Python backend on their way: what is declared stands where a graph's facts would."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tritonforge_client.core.proto import messages
from tritonforge_client.datatypes import BY_DATA_TYPE, BY_DATATYPE
from tritonforge_generator.errors import ConfigError, SpecError
from tritonforge_generator.graph import Graph, GraphTensor, SampleOptions
from tritonforge_generator.graph.graph import BatchAxis
from tritonforge_generator.graph.samples import samples_from_options
from tritonforge_generator.graph.session import Arrays
from tritonforge_generator.lint.python_completion import completed_by_python
from tritonforge_generator.source import SourceModel, python_source
from tritonforge_generator.spec import InputOptions, ModelOptions, OutputOptions
from tritonforge_generator.spec.server_options import TransactionPolicy
from tritonforge_generator.spec.tensor_options import TensorOptions
from tritonforge_generator.verify import Reference, sample_options, tolerance_of


def declared_python(options: ModelOptions) -> ModelOptions:
    """Complete the options of a Python model by its ``auto_complete_config``, as far as that says literals.

    Args:
        options: What the user declared; it wins.

    Raises:
        SourceError: The file cannot be read.
        ConfigError: Nothing says what the model takes and gives.
    """
    source = python_source(options.source)
    config = messages().ModelConfig(name=options.name, backend="python", max_batch_size=options.max_batch_size or 0)
    outcome = completed_by_python(config, source) if source is not None else None
    said = outcome.config if outcome is not None else None
    changed: dict[str, Any] = {"max_batch_size": options.max_batch_size or 0}
    if said is not None:
        if options.max_batch_size is None:
            changed["max_batch_size"] = said.max_batch_size
        if options.input is None and said.input:
            changed["input"] = tuple(_declared(InputOptions, one) for one in said.input)
        if options.output is None and said.output:
            changed["output"] = tuple(_declared(OutputOptions, one) for one in said.output)
        if options.model_transaction_policy is None and said.model_transaction_policy.decoupled:
            changed["model_transaction_policy"] = TransactionPolicy(decoupled=True)
    completed = options.model_copy(update=changed)
    missing = [key for key in ("input", "output") if not getattr(completed, key)]
    if missing:
        raise ConfigError(
            f"model '{options.name}': nothing says what the Python model takes and gives",
            expected=f"{missing[0]} in the spec, or auto_complete_config with literal values",
            got="neither",
            action="Declare input and output with name, data_type and dims.",
        )
    return completed


def _declared(kind: type[TensorOptions], tensor: Any) -> Any:
    data_type = next(entry.data_type for entry in BY_DATATYPE.values() if entry.number == tensor.data_type)
    given: dict[str, Any] = {"name": tensor.name, "data_type": data_type, "dims": tuple(tensor.dims)}
    if kind is InputOptions and tensor.optional:
        given["optional"] = True
    return kind(**given)


def graph_of_python(source: SourceModel, options: ModelOptions) -> Graph:
    """What a Python model takes and gives, as it is declared.

    Args:
        source: The file.
        options: Completed options.
    """
    batched = (options.max_batch_size or 0) > 0
    note = "as declared: only the model knows" if batched else "max_batch_size is 0"
    return Graph(
        source=source,
        inputs=tuple(_tensor(one, batched=batched) for one in options.input or ()),
        outputs=tuple(_tensor(one, batched=batched) for one in options.output or ()),
        batch=BatchAxis(found=batched, symbol="batch" if batched else None, proven=(), note=note),
        opsets={},
        ir_version=0,
        producer="Python",
        operators={},
        parameter_count=0,
    )


def _tensor(declared: TensorOptions, *, batched: bool) -> GraphTensor:
    own = declared.reshape.shape if declared.reshape is not None else declared.dims or ()
    sizes = tuple(None if size == -1 else size for size in own)
    datatype = BY_DATA_TYPE[declared.data_type or ""].datatype
    return GraphTensor(name=declared.name, datatype=datatype, shape=("batch", *sizes) if batched else sizes)


def reference_of_python(graph: Graph, options: ModelOptions) -> Reference:
    """Samples of a Python model, and the answers that are expected, where they are declared.

    Args:
        graph: What it takes and gives.
        options: Completed options.

    Raises:
        SpecError: A file cannot be read or does not fit.
    """
    batched = graph.batch.found
    asked = sample_options(options.verify)
    samples = samples_from_options(graph.inputs, asked, batched=batched)
    reference = Reference(samples=samples, batched=batched, answers=(), tolerance=tolerance_of(options.verify))
    path = options.verify.expected
    if path is None:
        return reference
    if options.verify.samples is None:
        raise SpecError("verify.expected", expected="verify.samples beside it: what was asked", got="none")
    expected = _expected(graph.outputs, path, batched=batched)
    if expected.count != samples.count:
        raise SpecError(f"verify.expected: {path}", expected=f"{samples.count} answers", got=f"{expected.count}")
    answers: list[Arrays] = [
        expected.batch(index, 1) if batched else expected.one(index) for index in range(samples.count)
    ]
    return replace(reference, answers=tuple(answers))


def _expected(outputs: Sequence[GraphTensor], path: Path, *, batched: bool) -> Any:
    """Expected answers, read like samples: those outputs that the file has."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = set(archive.files)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise SpecError(f"verify.expected: {path} cannot be read", expected="an .npz file", got=str(error)) from error
    unknown = sorted(names - {tensor.name for tensor in outputs})
    if unknown or not names:
        raise SpecError(
            f"verify.expected: {path}",
            expected=f"arrays named {', '.join(tensor.name for tensor in outputs)}",
            got=", ".join(unknown) or "none",
        )
    known = [tensor for tensor in outputs if tensor.name in names]
    return samples_from_options(known, SampleOptions(path=path), batched=batched)
