"""The artifact of the verify stage: what was checked and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tritonforge_generator.errors import VerificationError
from tritonforge_generator.graph.agreement import Tolerance, disagreement
from tritonforge_generator.graph.session import Arrays


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFigures:
    """How near an output came to its reference, over all samples.

    Attributes:
        name: Output name.
        max_abs: Largest absolute difference, in the unit of the output; ``None`` for strings.
        max_rel: Largest difference relative to the reference, where that is not zero; ``None`` for strings.
        cosine: Cosine of the angle between both, as one vector each; ``None`` where it is undefined.
        top1: Share of rows whose largest element is at the same place; ``None`` for outputs without a last axis of
            at least two.
    """

    name: str
    max_abs: float | None
    max_rel: float | None
    cosine: float | None
    top1: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One gate.

    Attributes:
        name: What was checked.
        passed: Whether it was proven.
        summary: One sentence: the evidence, what failed, or why it could not be tried.
        figures: Per output, where outputs were compared.
        skipped: Whether it could not be tried on this machine. Such a gate has not passed either.
    """

    name: str
    passed: bool
    summary: str
    figures: tuple[OutputFigures, ...] = ()
    skipped: bool = False

    @property
    def verdict(self) -> Literal["passed", "skipped", "FAILED"]:
        """The verdict in a word."""
        if self.passed:
            return "passed"
        return "skipped" if self.skipped else "FAILED"


def skipped_check(name: str, reason: str) -> Check:
    """A gate that this machine cannot try.

    Args:
        name: What was not checked.
        reason: What is missing for it.
    """
    return Check(name=name, passed=False, summary=reason, skipped=True)


class GatesFailedError(VerificationError):
    """Gates of a model failed.

    Args:
        verification: What was checked and what came of it.
    """

    def __init__(self, verification: Verification) -> None:
        failed = "; ".join(
            f"{check.name}: {check.summary}" for check in verification.checks if check.verdict == "FAILED"
        )
        super().__init__(
            f"model '{verification.model}' was not published",
            expected="every gate to pass",
            got=failed or "no gate ran",
            action="Mend the model or the spec; tritonforge generate --html writes all gates and figures on a page.",
        )
        self.verification = verification


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """All gates of one model.

    Attributes:
        model: Model name.
        samples: Where the samples came from.
        checks: The gates, in the order they ran.
    """

    model: str
    samples: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every gate passed; no gates at all is a failure, and a gate that was skipped has not passed."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def skipped(self) -> bool:
        """Whether nothing failed, but some gate could not be tried."""
        return any(check.skipped for check in self.checks) and all(check.verdict != "FAILED" for check in self.checks)

    def raise_if_failed(self) -> None:
        """Stop here if a gate failed, or if none passed. A gate that could not be tried stays on record as skipped.

        Raises:
            GatesFailedError: Naming each gate that failed.
        """
        if not (self.passed or (self.skipped and any(check.passed for check in self.checks))):
            raise GatesFailedError(self)

    def to_json(self) -> dict[str, Any]:
        """Plain data for reports and the manifest."""
        return {
            "model": self.model,
            "passed": self.passed,
            "samples": self.samples,
            "checks": [asdict(c) for c in self.checks],
        }


class Comparison:
    """Collects pairs of arrays of one check, output by output.

    Args:
        tolerance: Allowed difference; ``None`` takes the default.
        default: The default for an output; that of its dtype when left out.
    """

    def __init__(
        self, tolerance: Tolerance | None, default: Callable[[npt.NDArray[Any]], Tolerance] | None = None
    ) -> None:
        self._tolerance = tolerance
        self._default = default
        self._pairs: dict[str, list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]] = {}
        self.problem = ""

    def add(self, name: str, reference: npt.NDArray[Any], answer: npt.NDArray[Any], where: str) -> None:
        """Compare one pair; the first problem is kept.

        Args:
            name: Output name.
            reference: What it should be.
            answer: What it is.
            where: Which sample or batch, for the message.
        """
        allowed = self._tolerance
        if allowed is None and self._default is not None:
            allowed = self._default(reference)
        problem = disagreement(reference, answer, allowed)
        if problem != "" and self.problem == "":
            self.problem = f"output '{name}' of {where}: {problem}"
        if reference.shape == answer.shape:
            self._pairs.setdefault(name, []).append((reference, answer))

    def add_all(self, reference: Arrays, answer: Arrays, where: str) -> None:
        """Compare every output of a reference; an output that the answer lacks is a problem."""
        for name, array in reference.items():
            if name in answer:
                self.add(name, array, answer[name], where)
            elif self.problem == "":
                self.problem = f"the answer to {where} lacks the output '{name}'"

    @property
    def count(self) -> int:
        """Number of pairs compared."""
        return sum(len(pairs) for pairs in self._pairs.values())

    def figures(self) -> tuple[OutputFigures, ...]:
        """Figures per output over everything added."""
        return tuple(_figures(name, pairs) for name, pairs in self._pairs.items())


def _figures(name: str, pairs: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> OutputFigures:
    if pairs[0][0].dtype.kind not in "fiub":
        return OutputFigures(name=name, max_abs=None, max_rel=None, cosine=None, top1=None)
    rows = [(reference.shape[-1:] or (1,), reference, answer) for reference, answer in pairs]
    top1 = None
    if rows[0][0][0] >= 2:
        matches = [
            np.argmax(answer, axis=-1) == np.argmax(reference, axis=-1) for _, reference, answer in rows if answer.size
        ]
        flat = np.concatenate([np.ravel(match) for match in matches]) if matches else np.zeros(0)
        top1 = float(np.mean(flat)) if flat.size else None
    reference = np.concatenate([np.ravel(pair[0]) for pair in pairs]).astype(np.float64)
    answer = np.concatenate([np.ravel(pair[1]) for pair in pairs]).astype(np.float64)
    finite = np.isfinite(reference) & np.isfinite(answer)
    reference, answer = reference[finite], answer[finite]
    difference = np.abs(answer - reference)
    nonzero = reference != 0
    norm = float(np.linalg.norm(reference) * np.linalg.norm(answer))
    return OutputFigures(
        name=name,
        max_abs=float(np.max(difference, initial=0.0)),
        max_rel=float(np.max(difference[nonzero] / np.abs(reference[nonzero]), initial=0.0)),
        cosine=float(min(1.0, np.dot(reference, answer) / norm)) if norm > 0 else None,
        top1=top1,
    )
