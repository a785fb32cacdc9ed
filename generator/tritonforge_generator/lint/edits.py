"""Changes of a config's text that leave the rest as it is: comments, order, layout."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tritonforge_generator.lint.positions import Place, tokens_of

_BLANKS: Final = re.compile(r"[ \t]*")
_SEPARATOR: Final = re.compile(r"(?:[ \t\r\n]|\#[^\n]*\n)*(?P<mark>[,;])")
_LINE_END: Final = re.compile(r"[ \t]*(\r?\n|\Z)")


@dataclass(frozen=True, slots=True, order=True)
class Edit:
    """A part of the text and what takes its place.

    Attributes:
        start: Offset of the part.
        end: Offset behind it.
        replacement: The new text; empty to cut the part out.
    """

    start: int
    end: int
    replacement: str = ""


def apply(text: str, edits: Iterable[Edit]) -> str:
    """Return the text with its edits made.

    Args:
        text: The text.
        edits: In any order; they do not overlap.
    """
    for edit in sorted(set(edits), reverse=True):
        text = text[: edit.start] + edit.replacement + text[edit.end :]
    return text


def without_field(text: str, place: Place) -> list[Edit]:
    """Cut a field out, with the whole lines that it alone fills; all elements of a list go with it, comments stay.

    Args:
        text: The text.
        place: The field's place.
    """
    end = _behind_separator(text, place.end)
    comments = [token.rstrip() for kind, token, _ in tokens_of(text[place.start : end]) if kind == "comment"]
    line_start = text.rfind("\n", 0, place.start) + 1
    indent, line_end = text[line_start : place.start], _LINE_END.match(text, end)
    newline = "\r\n" if "\r\n" in text else "\n"
    if indent.strip(" \t") == "" and line_end is not None:
        return [Edit(line_start, line_end.end(), "".join(f"{indent}{comment}{newline}" for comment in comments))]
    blanks = _BLANKS.match(text, end)
    kept = "".join(f"{comment}{newline}" for comment in comments)
    return [Edit(place.start, blanks.end() if blanks is not None else end, kept)]


def without_element(text: str, place: Place, before: Place | None) -> list[Edit]:
    """Cut one element out of a list that has others, with one of the commas around it.

    Args:
        text: The text.
        place: The element's place.
        before: The element before it in the same list; ``None`` for the first.
    """
    comma = _SEPARATOR.match(text, place.value_end)
    if comma is not None and comma.end() <= place.end:
        after = _BLANKS.match(text, comma.end())
        gap = Edit(comma.start("mark"), after.end() if after is not None else comma.end())
        value = Edit(place.value_start, place.value_end)
        return [value, gap] if gap.start > value.end else [Edit(value.start, gap.end)]
    return _without_last(text, place, before)


def _without_last(text: str, place: Place, before: Place | None) -> list[Edit]:
    """Cut out an element that nothing follows, with the comma before it; a comment between the two stays."""
    comma = None if before is None else _SEPARATOR.match(text, before.value_end)
    value = Edit(place.value_start, place.value_end)
    if comma is None or comma.end() > value.start:
        return [value]
    if text[comma.end() : value.start].strip() == "":
        return [Edit(comma.start("mark"), value.end)]
    return [Edit(comma.start("mark"), comma.end()), value]


def with_value(place: Place, value: str) -> list[Edit]:
    """Write another value into a field.

    Args:
        place: The field's place.
        value: As it is to stand in the text.
    """
    return [Edit(place.value_start, place.value_end, value)]


def with_field_behind(text: str, place: Place, field: str) -> list[Edit]:
    """Add a field behind another one: on a line of its own when the other one has one.

    Args:
        text: The text.
        place: The other field's place.
        field: Name and value of the new one.
    """
    end = _behind_separator(text, place.end)
    line_start = text.rfind("\n", 0, place.start) + 1
    indent = text[line_start : place.start]
    line_end = _LINE_END.match(text, end)
    if indent.strip(" \t") != "" or line_end is None or line_end.group(1) == "":
        return [Edit(end, end, f" {field}")]
    return [Edit(end, end, f"{line_end.group(1)}{indent}{field}")]


def with_elements(text: str, places: Mapping[str, Place], path: str, values: Sequence[str]) -> list[Edit]:
    """Write other elements into a list that has as many, or that stands in one piece.

    Args:
        text: The text.
        places: From ``positions_from_text``.
        path: Path of the list.
        values: The new elements; at least one.

    Returns:
        No edit when the list is not written, or spread over several fields of another number.
    """
    written = [places[path]] if path in places else []
    while written and f"{path}[{len(written)}]" in places:
        written.append(places[f"{path}[{len(written)}]"])
    if not written or (len(written) != len(values) and len({place.start for place in written}) > 1):
        return []
    pairs = zip(written, values, strict=False)
    edits = [edit for place, value in pairs if place.value != value for edit in with_value(place, value)]
    for index in range(len(values), len(written)):
        edits += _without_last(text, written[index], written[index - 1])
    if len(values) <= len(written):
        return edits
    if written[0].value_end == written[0].end:  # a single value without brackets
        return [Edit(written[0].value_start, written[0].value_end, f"[ {', '.join(values)} ]")]
    end = written[-1].value_end
    return [*edits, Edit(end, end, "".join(f", {value}" for value in values[len(written) :]))]


def _behind_separator(text: str, end: int) -> int:
    """Skip the comma or semicolon that may follow a field on the same line."""
    match = re.compile(r"[ \t]*[,;]").match(text, end)
    return end if match is None else match.end()
