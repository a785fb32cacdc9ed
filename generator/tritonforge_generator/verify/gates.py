"""Gates that need no server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tritonforge_generator.errors import TritonforgeError
from tritonforge_generator.graph import OnnxSession
from tritonforge_generator.graph.session import Session
from tritonforge_generator.lint import Finding, lint_model
from tritonforge_generator.verify.reference import Reference
from tritonforge_generator.verify.verification import Check, Comparison

_EVERY_SIZE_UP_TO = 8


def offline_checks(reference: Reference, path: Path, folder: Path, *, max_batch_size: int) -> list[Check]:
    """Run every gate of an ONNX model that needs no server.

    Args:
        reference: The source's answers.
        path: The model file to prove.
        folder: Its model folder, with ``config.pbtxt``.
        max_batch_size: As configured; 0 for shapes in full.
    """
    session = OnnxSession(path)
    checks = [reference_check(reference, session)]
    if max_batch_size > 0:
        checks.append(batch_check(reference, session, max_batch_size=max_batch_size))
    return [*checks, lint_check(folder)]


def reference_check(reference: Reference, session: Session) -> Check:
    """Compare a staged model with its source, sample by sample.

    Args:
        reference: The source's answers.
        session: The staged model.
    """
    name = "staged model answers like the source"
    comparison = Comparison(reference.tolerance, reference.default_tolerance)
    for index, expected in enumerate(reference.answers):
        try:
            answer = session.run(reference.request(index))
        except TritonforgeError as error:
            return Check(name=name, passed=False, summary=str(error))
        comparison.add_all(expected, answer, f"sample {index}")
    summary = comparison.problem or f"{len(reference.answers)} samples ({reference.samples.origin})"
    passed = comparison.problem == "" and comparison.count > 0
    return Check(name=name, passed=passed, summary=summary, figures=comparison.figures())


def batch_check(reference: Reference, session: Session, *, max_batch_size: int, sizes: Sequence[int] = ()) -> Check:
    """Check that a row's answer depends neither on the size of its batch nor on its place in it.

    Every size up to eight is run, then powers of two, then ``max_batch_size`` itself; the rows move on by one from size
    to size, so that each slot sees several of them.

    Args:
        reference: The source's answers, a row at a time.
        session: The staged model.
        max_batch_size: As configured, at least 1.
        sizes: Other batch sizes than these.
    """
    name = "rows are independent of their batch"
    sizes = sizes or batch_sizes(max_batch_size)
    comparison = Comparison(reference.tolerance, reference.default_tolerance)
    count = reference.samples.count
    for start, size in enumerate(sizes):
        try:
            together = session.run(reference.samples.batch(start, size))
        except TritonforgeError as error:
            summary = f"fails with {size} rows: {error.got or error}; set max_batch_size to what the graph can take"
            return Check(name=name, passed=False, summary=summary)
        for output, array in together.items():
            if array.ndim == 0 or array.shape[0] != size:
                return Check(name=name, passed=False, summary=f"'{output}' has shape {array.shape} for {size} rows")
            for slot in range(size):
                alone = reference.answers[(start + slot) % count][output]
                comparison.add(output, alone[0], array[slot], f"slot {slot} in a batch of {size}")
    summary = comparison.problem or f"alone and in every slot of batches of {', '.join(str(size) for size in sizes)}"
    return Check(name=name, passed=comparison.problem == "", summary=summary, figures=comparison.figures())


def batch_sizes(max_batch_size: int) -> list[int]:
    """The batch sizes that are tried for a limit."""
    sizes = set(range(1, min(max_batch_size, _EVERY_SIZE_UP_TO) + 1)) | {max_batch_size}
    size = _EVERY_SIZE_UP_TO * 2
    while size < max_batch_size:
        sizes.add(size)
        size *= 2
    return sorted(sizes)


def lint_check(directory: Path) -> Check:
    """Check a staged model folder against the server's own rules.

    Args:
        directory: The model folder.
    """
    return check_of_findings(lint_model(directory))


def check_of_findings(findings: Sequence[Finding]) -> Check:
    """The verdict of what the server's own rules found.

    Args:
        findings: Errors first.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    warnings = len(findings) - len(errors)
    if errors:
        first = errors[0]
        return Check(name="the server's rules", passed=False, summary=f"{first.rule}: {first.text}")
    summary = "no finding" if not findings else f"no error, {warnings} warnings: {findings[0].text}"
    return Check(name="the server's rules", passed=True, summary=summary)
