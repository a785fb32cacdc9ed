"""What the linter reports."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule at one place.

    Attributes:
        repository: Path of the model repository.
        model: Name of the model's directory.
        rule: Rule id, for example ``"C6"``; ``explain(rule)`` teaches it.
        severity: ``"error"`` when the server refuses the model, ``"warning"`` when it loads but something written has
            no effect or is almost surely wrong.
        text: What the server says, letter for letter, with the values filled in. A warning that the server does not
            give has a text of ours.
        file: The file or directory concerned.
        line: 1-based line of the field in the config, or of the nearest thing around it that is written; the line of
            ``model.py`` when that is ``file``; ``None`` for other files.
        column: 1-based column, like ``line``.
        field: Path of the field, for example ``"input[0].dims"``; empty when no field is concerned.
        fix: How to mend it.
    """

    repository: str
    model: str
    rule: str
    severity: Severity
    text: str
    file: str
    line: int | None
    column: int | None
    field: str
    fix: str

    def to_json(self) -> dict[str, Any]:
        """Return the finding as plain JSON types, keys as the attributes."""
        return asdict(self)
