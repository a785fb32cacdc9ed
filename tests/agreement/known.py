"""Why the linter and the embedded server differ where they do; a difference that is not listed here is a defect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["not enforced here", "other words"]


@dataclass(frozen=True)
class Known:
    """One reason for differences.

    Attributes:
        kind: Whether the embedded server does not enforce the rule at all, so that the case decides nothing, or
            refuses the model too and says so in other words.
        reason: For the report.
        rules: What the linter finds first; empty for any.
        said: A part of what the server says.
    """

    kind: Kind
    reason: str
    rules: frozenset[str] = frozenset()
    said: str = ""


KNOWN: Final = (
    Known(
        "not enforced here",
        "the embedded back-end for ONNX models checks the number of sequence controls, not their names and types",
        frozenset({"O11", "O12", "O13"}),
    ),
    Known(
        "not enforced here",
        "the embedded back-end for ONNX models does not serve it, Triton's own does",
        said="which only Triton's C++ onnxruntime backend serves",
    ),
    Known(
        "other words",
        "which of several composing models the server names is not fixed: it keeps them in a hash map",
        frozenset({"X3", "X4", "X5"}),
        "depends on '",
    ),
    Known(
        "other words",
        "which of several unused tensors the server names is not fixed: it keeps them in a hash map",
        frozenset({"E14"}),
        "is unused in ensemble",
    ),
    Known(
        "other words",
        "the server says it once for each row of the warm-up's batch",
        frozenset({"W4"}),
        "failed to run warmup sample",
    ),
    Known("other words", "ONNX Runtime's words change with its version", frozenset({"D1"}), "onnx runtime error"),
)


def known_reason(rule: str, said: str) -> Known | None:
    """Return why the linter and the server differ; ``None`` when nobody knows.

    Args:
        rule: The rule that the linter finds first; empty without any.
        said: Why the server refuses the model; empty when it loads.
    """
    for known in KNOWN:
        if (not known.rules or rule in known.rules) and known.said in said:
            return known
    return None


# Rules that no case breaks here, beside group T: the embedded server has no TensorRT back-end of Triton's own.
_OPTIONS: Final = "decided by an option that this server is started without"
_BUILD: Final = "decided by what the server was built without"
_TENSORRT: Final = "the server has no TensorRT back-end of Triton's own"
NOT_COVERED: Final = {
    "C14": _BUILD,
    "C22": "it would end the server",
    "C19": _BUILD,
    "G3": _BUILD,
    "I15": _TENSORRT,
    "N6": _TENSORRT,
    "R2": "needs two repositories; see tests/generator/lint/test_repositories.py",
    "W7": _OPTIONS,
    "W8": _OPTIONS,
    "W9": _OPTIONS,
    "Y5": "server 2.51 waits for the file without end",
}
