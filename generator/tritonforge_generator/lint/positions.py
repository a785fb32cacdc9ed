"""Where each field of a ``config.pbtxt`` stands.

``google.protobuf.text_format`` gives the message but not the places of its fields. This reads the same text once more,
for places only: it must never refuse what the parser accepts, so it knows the syntax but not the schema.

A path names a field from the root: ``dynamic_batching.preferred_batch_size[1]``, ``input[0].dims``. An index of 0 may
be left out. An entry of a map is also found by its key: ``parameters["execution_mode"].string_value``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

_TOKEN: Final = re.compile(
    r"""
    (?P<blank>[\s\x00]+)
  | (?P<comment>\#[^\n]*)
  | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
  | (?P<mark>[{}<>\[\]:;,])
  | (?P<word>(?:-\s+(?=[0-9.]))?[^\s\x00\#"'{}<>\[\]:;,]+)
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_OPENING: Final = {"{": "}", "<": ">"}
_DEEPEST: Final = 50  # a config is not a tenth as deep
_ZERO_INDEX: Final = re.compile(r"\[0\]")


class Place(NamedTuple):
    """A place in the text and what stands there.

    Attributes:
        line: 1-based line.
        column: 1-based column.
        value: Text of a scalar value as written; empty for a message.
        start: Offset of the field's name; for an element of a list, that of the list's.
        end: Offset behind the field; for an element of a list, behind the list.
        value_start: Offset of the value, or of the element.
        value_end: Offset behind it.
    """

    line: int
    column: int
    value: str
    start: int = 0
    end: int = 0
    value_start: int = 0
    value_end: int = 0


@dataclass(slots=True)
class _Field:
    name: str
    line: int
    column: int
    start: int
    end: int = 0
    value_start: int = 0
    value_end: int = 0
    value: str = ""
    children: list[_Field] = field(default_factory=list)


class _Token(NamedTuple):
    text: str
    line: int
    column: int
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def tokens_of(text: str) -> Iterator[tuple[str, str, int]]:
    """Yield ``(kind, token, offset)`` of everything in a text.

    Args:
        text: Content of a ``config.pbtxt``, or a part of it that begins and ends outside of strings and comments.

    Kinds are blank, comment, string, mark (brackets and separators), word (names and numbers) and other.
    """
    for match in _TOKEN.finditer(text):
        yield str(match.lastgroup), match.group(), match.start()


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Return the 1-based line and column of an offset."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def _tokens(text: str) -> Iterator[_Token]:
    line, start = 1, 0
    for match in _TOKEN.finditer(text):
        token = match.group()
        if match.lastgroup not in {"blank", "comment"}:
            yield _Token(token, line, match.start() - start + 1, match.start())
        newlines = token.count("\n")
        if newlines > 0:
            line += newlines
            start = match.start() + token.rindex("\n") + 1


class _Reader:
    """Recursive descent over the tokens; gives up quietly at the end of the text."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._next = 0
        self._depth = 0

    def _peek(self) -> str:
        return self._tokens[self._next].text if self._next < len(self._tokens) else ""

    def fields(self, closing: str) -> list[_Field]:
        found: list[_Field] = []
        while self._next < len(self._tokens):
            token = self._tokens[self._next]
            self._next += 1
            if token.text == closing:
                break
            if token.text not in {",", ";"}:
                found += self._values(token)
        return found

    def _nested(self, closing: str) -> list[_Field]:
        if self._depth == _DEEPEST:
            self._next = len(self._tokens)
            return []
        self._depth += 1
        found = self.fields(closing)
        self._depth -= 1
        return found

    def _values(self, name: _Token) -> Iterator[_Field]:
        if self._peek() == ":":
            self._next += 1
        if self._peek() != "[":
            yield self._value(name, name)
            return
        self._next += 1
        elements: list[_Field] = []
        while self._next < len(self._tokens) and self._peek() != "]":
            if self._peek() == ",":
                self._next += 1
                continue
            # The first element of a list is found where the field's name stands.
            elements.append(self._value(name, self._tokens[self._next] if elements else name))
        self._next += 1
        for element in elements:
            element.end = self._end()
        yield from elements

    def _end(self) -> int:
        """Offset behind the last token that was read."""
        read = min(self._next, len(self._tokens))
        return self._tokens[read - 1].end if read > 0 else 0

    def _value(self, name: _Token, place: _Token) -> _Field:
        found = _Field(name.text, place.line, place.column, name.start)
        found.value_start = self._tokens[self._next].start if self._next < len(self._tokens) else self._end()
        closing = _OPENING.get(self._peek())
        if closing is not None:
            self._next += 1
            found.children = self._nested(closing)
        elif self._next < len(self._tokens):
            found.value = self._peek()
            self._next += 1
            while found.value[:1] in {'"', "'"} and self._peek()[:1] in {'"', "'"}:
                found.value += self._peek()  # adjacent strings are one value
                self._next += 1
        found.end = found.value_end = self._end()
        return found


def _flatten(fields: list[_Field], prefix: str, places: dict[str, Place]) -> None:
    counts: dict[str, int] = {}
    for each in fields:
        index = counts.get(each.name, 0)
        counts[each.name] = index + 1
        path = prefix + each.name + (f"[{index}]" if index > 0 else "")
        place = Place(each.line, each.column, each.value, each.start, each.end, each.value_start, each.value_end)
        places.setdefault(path, place)
        _flatten(each.children, path + ".", places)
        key = next((child.value.strip("\"'") for child in each.children if child.name == "key"), None)
        if key is not None:
            by_key = f'{prefix}{each.name}["{key}"]'
            places.setdefault(by_key, place)
            _flatten(each.children, by_key + ".", places)


def positions_from_text(text: str) -> Mapping[str, Place]:
    """Return the place of every field that is written.

    Args:
        text: Content of a ``config.pbtxt``.

    Returns:
        Place by path, see the module's docstring; indices of 0 left out.
    """
    places: dict[str, Place] = {}
    _flatten(_Reader(text).fields(""), "", places)
    return places


def place_of(places: Mapping[str, Place], path: str) -> Place | None:
    """Return the place of a field, or of the nearest written field around it.

    Args:
        places: From ``positions_from_text``.
        path: Path of the field; it need not be written.

    Returns:
        Its place, or ``None`` when nothing on the way to it is written.
    """
    path = _ZERO_INDEX.sub("", path)
    while path != "":
        place = places.get(path)
        if place is not None:
            return place
        path = _parent(path)
    return None


def _parent(path: str) -> str:
    """Cut the last index, or the last name; a dot inside a map key does not count."""
    if path.endswith('"]'):
        return path[: path.rindex('["')]
    if path.endswith("]"):
        return path[: path.rindex("[")]
    head = path.rpartition(".")[0]
    return head if head.count('["') == head.count('"]') else head[: head.rindex('["')]
