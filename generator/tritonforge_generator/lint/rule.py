"""The registry: one function a rule, registered with its id, the server's text and how to mend it."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from tritonforge_generator.errors import SpecError
from tritonforge_generator.lint.finding import Severity
from tritonforge_generator.lint.model import Model

Needs = Literal["text", "dir", "repo", "file", "host"]
"""What a rule must have to decide: the config alone, the model directory, the other models, the model file, a host."""
ALL_NEEDS: Final[frozenset[Needs]] = frozenset(get_args(Needs))


@dataclass(frozen=True, slots=True)
class Hit:
    """One place that breaks a rule.

    Attributes:
        field: Path of the field, see ``positions``.
        values: Fill the placeholders of the rule's texts; ``model`` is always filled.
        at: Where the server meets it among the things that it checks one by one with the same group of rules.
        file: The file or directory concerned when it is not the config.
        line: 1-based line in ``file``, where that is a text.
        column: 1-based column, like ``line``.
        severity: In place of the rule's, for what a host decides.
    """

    field: str = ""
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    at: tuple[int, ...] = ()
    file: Path | None = None
    line: int | None = None
    column: int | None = None
    severity: Severity | None = None


Check = Callable[[Model], Iterator[Hit]]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the server, or one thing that it accepts although it is almost surely wrong.

    Attributes:
        id: Letter and number; the letter groups rules by what they look at.
        severity: See ``Finding``.
        needs: See ``Needs``.
        text: The server's text with placeholders in braces.
        fix: How to mend it, with the same placeholders.
        check: Yields the places that break it.
        since: The first release whose server is known to have it; empty for what all have.
    """

    id: str
    severity: Severity
    needs: Needs
    text: str
    fix: str
    check: Check
    since: str = ""

    @property
    def meaning(self) -> str:
        """What it demands: the docstring of its function."""
        return inspect.cleandoc(self.check.__doc__ or "")

    @property
    def advice(self) -> str:
        """How to mend it, with its placeholders, to be read by people."""
        return self.fix.replace("{{", "{").replace("}}", "}")


RULES: Final[dict[str, Rule]] = {}


def rule(
    rule_id: str, *, text: str, fix: str, needs: Needs = "text", severity: Severity = "error", since: str = ""
) -> Callable[[Check], Check]:
    """Register a function as a rule; its docstring is what ``explain`` teaches.

    Args:
        rule_id: See ``Rule.id``; each only once.
        text: See ``Rule.text``.
        fix: See ``Rule.fix``.
        needs: See ``Needs``.
        severity: See ``Finding``.
        since: See ``Rule.since``.

    Raises:
        ValueError: The id is taken, which is a defect of this package.
    """

    def register(check: Check) -> Check:
        if rule_id in RULES:
            raise ValueError(f"rule {rule_id} is registered twice")
        RULES[rule_id] = Rule(rule_id, severity, needs, text, fix, check, since)
        return check

    return register


def explain(rule_id: str) -> str:
    """Return what a rule means, what breaks it, what the server says, and how to mend it.

    Args:
        rule_id: A rule's id in any case, for example ``"C6"``.

    Raises:
        SpecError: There is no such rule.
    """
    import tritonforge_generator.lint.rules  # noqa: F401  # registers the rules
    from tritonforge_generator.lint.examples import EXAMPLES

    found = RULES.get(rule_id.upper())
    if found is None:
        near = difflib.get_close_matches(rule_id.upper(), RULES, n=3)
        raise SpecError(
            f"there is no lint rule {rule_id!r}",
            expected=f"one of {', '.join(near or list(RULES))}",
            got=repr(rule_id),
        )
    example = ""
    if found.id in EXAMPLES:
        broken, right = EXAMPLES[found.id]
        example = f"\n\nBreaks it: {broken}\nDoes not:  {right}"
    since = f"\nKnown to be checked since release {found.since}." if found.since != "" else ""
    return (
        f"{found.id} ({found.severity}, decided from: {found.needs})\n\n{found.meaning}{since}{example}\n\n"
        f"Text: {found.text}\nTo mend it: {found.advice}"
    )
