"""A ``config.pbtxt`` as somebody wrote it: its fields in their order, each with its comments and its line.

protobuf's own parser gives the message and forgets the rest. This reads the same text once more, and takes the type of
every value from the descriptors of ``model_config.proto``, so what it gives can be compared and written again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tritonforge_client.core.proto import messages, model_config_from_text
from tritonforge_generator.config.fields import Enum, Field
from tritonforge_generator.errors import RepositoryError

_TOKEN: Final = re.compile(
    r"""
    (?P<skip>[\s\x00]+)
  | (?P<comment>\#[^\n]*)
  | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
  | (?P<mark>[{}<>\[\]:;,])
  | (?P<word>[^\s\x00\#"'{}<>\[\]:;,]+)
    """,
    re.VERBOSE | re.DOTALL,
)
_OPENING: Final = {"{": "}", "<": ">"}


@dataclass(frozen=True, slots=True)
class Written:
    """One field as it stands in a text.

    Attributes:
        field: Its name and value, and the comment behind it as its reason; a sub-message has no fields here.
        inner: The fields of a sub-message; ``None`` for a value.
        above: Whole comment lines before it, with their ``#``.
        below: Whole comment lines behind it, where nothing else follows.
        line: Its line, counted from 1.
    """

    field: Field
    inner: tuple[Written, ...] | None = None
    above: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    line: int = 0

    @property
    def name(self) -> str:
        """The proto field name."""
        return self.field.name

    @property
    def comment(self) -> str:
        """What is said behind it on its line."""
        return self.field.reason

    def value_of(self, name: str) -> Any:
        """The value of a field of this sub-message; ``None`` where it is not written."""
        return next((one.field.value for one in self.inner or () if one.name == name), None)

    def to_field(self) -> Field:
        """The field with everything below it, for the writer of ``config.pbtxt``."""
        value = self.field.value if self.inner is None else tuple(one.to_field() for one in self.inner)
        return Field(self.name, value, self.comment, above=self.above, below=self.below)


def written_from_text(text: str, origin: str) -> tuple[Written, ...]:
    """Read a configuration with its comments.

    Args:
        text: Content of a ``config.pbtxt``.
        origin: Where it came from, for error messages.

    Raises:
        RepositoryError: It is no model configuration; the place is named.
    """
    from google.protobuf import text_format

    try:
        model_config_from_text(text)
    except text_format.ParseError as error:
        raise RepositoryError(
            f"{origin} cannot be read",
            expected="a model configuration in protobuf text format",
            got=str(error),
            action="Mend it, or replace it with --overwrite.",
        ) from error
    root = _Node("", 0)
    return tuple(_typed(_Reader(text).fields("", root), messages().ModelConfig.DESCRIPTOR))


class _Token(NamedTuple):
    text: str
    line: int


@dataclass(slots=True)
class _Node:
    """A field as the syntax shows it; ``inner`` is ``None`` for a value or a list of values."""

    name: str
    line: int
    end_line: int = 0
    texts: list[str] = field(default_factory=list)
    inner: list[_Node] | None = None
    comments: list[str] = field(default_factory=list)
    above: list[str] = field(default_factory=list)
    below: list[str] = field(default_factory=list)


class _Reader:
    """Recursive descent over a text that the parser has accepted."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._next = 0
        self._loose: list[_Token] = []  # comments that belong to nothing yet

    def _peek(self) -> str:
        while self._next < len(self._tokens) and self._tokens[self._next].text.startswith("#"):
            self._loose.append(self._tokens[self._next])
            self._next += 1
        return self._tokens[self._next].text if self._next < len(self._tokens) else ""

    def _take(self) -> _Token:
        self._peek()
        self._next += 1
        return self._tokens[self._next - 1]

    def fields(self, closing: str, owner: _Node) -> list[_Node]:
        found: list[_Node] = []
        while (text := self._peek()) not in {closing, ""}:
            if text in {",", ";"}:
                self._next += 1
                continue
            above = self._comments_after(found[-1] if found else owner)
            nodes = list(self._values(self._take()))
            if nodes:
                nodes[0].above = above + nodes[0].above
            found += nodes
        rest = self._comments_after(found[-1] if found else owner)
        if found:
            found[-1].below += rest
        else:
            owner.comments += [_said(text) for text in rest]
        return found

    def _comments_after(self, before: _Node) -> list[str]:
        """Give a field the comments on its last line; return the others, which belong to what comes next."""
        before.comments += [_said(text) for text, line in self._loose if line == before.end_line]
        rest = [text for text, line in self._loose if line != before.end_line]
        self._loose = []
        return rest

    def _values(self, name: _Token) -> Iterator[_Node]:
        if self._peek() == ":":
            self._next += 1
        if self._peek() != "[":
            yield self._value(_Node(name.text, name.line))
            return
        self._next += 1
        values = _Node(name.text, name.line)
        last = None
        while self._peek() != "]":
            if self._peek() == ",":
                self._next += 1
            elif self._peek() in _OPENING:
                above = self._comments_after(last or values)
                last = self._value(_Node(name.text, self._tokens[self._next].line))
                last.above = above
                yield last
            else:
                self._value(values)
        values.end_line = self._take().line
        if last is None:
            values.comments += [_said(text) for text, _ in self._loose]
            self._loose = []
            yield values

    def _value(self, node: _Node) -> _Node:
        token = self._take()
        node.end_line = token.line
        if token.text in _OPENING:
            closing = _OPENING[token.text]
            node.inner = []
            node.inner = self.fields(closing, node)
            node.end_line = self._take().line
            return node
        text = token.text
        while text == "-" or (text[:1] in {'"', "'"} and self._peek()[:1] in {'"', "'"}):
            token = self._take()
            text += token.text  # adjacent strings are one value
            node.end_line = token.line
        node.texts.append(text)
        return node


def _tokens(text: str) -> Iterator[_Token]:
    line = 1
    for match in _TOKEN.finditer(text):
        if match.lastgroup != "skip":
            yield _Token(match.group().rstrip(), line)
        line += match.group().count("\n")


def _said(comment: str) -> str:
    return comment.removeprefix("#").strip()


def _typed(nodes: Iterable[_Node], descriptor: Any) -> Iterator[Written]:
    """Give nodes the types of their fields; a list of values that was written in pieces becomes one."""
    lists: dict[str, _Node] = {}
    whole: list[_Node] = []
    for node in nodes:
        known = descriptor.fields_by_name[node.name]
        if node.inner is None and known.message_type is not None:
            continue  # an empty list of messages
        if node.inner is None and known.default_value == [] and node.name in lists:
            first = lists[node.name]
            first.texts += node.texts
            first.comments += node.comments
            first.above += node.above
            first.below += node.below
            continue
        lists[node.name] = node
        whole.append(node)
    for node in whole:
        known = descriptor.fields_by_name[node.name]
        comment = "; ".join(text for text in node.comments if text != "")
        about = {"above": tuple(node.above), "below": tuple(node.below), "line": node.line}
        if node.inner is None:
            yield Written(Field(node.name, _value(node, known), comment), **about)  # type: ignore[arg-type]  # one dict
            continue
        inner = tuple(_typed(node.inner, known.message_type))
        if known.message_type.GetOptions().map_entry:
            inner = tuple(_map_entry(inner, known.message_type, node.line))
        yield Written(Field(node.name, (), comment), inner, **about)  # type: ignore[arg-type]  # one dict


def _map_entry(inner: tuple[Written, ...], descriptor: Any, line: int) -> Iterator[Written]:
    """Key and value of a map's entry, both stated, the key first."""
    for name in ("key", "value"):
        known = descriptor.fields_by_name[name]
        found = [one for one in inner if one.name == name]
        if found:
            yield found[-1]
        elif known.message_type is not None:
            yield Written(Field(name, ()), (), line=line)
        else:
            yield Written(Field(name, known.default_value), line=line)


def _value(node: _Node, known: Any) -> Any:
    """The value of a field as the parser reads it."""
    from google.protobuf import message_factory, text_format

    repeated = known.default_value == []
    written = f"[{', '.join(node.texts)}]" if repeated else node.texts[0]
    holder = message_factory.GetMessageClass(known.containing_type)()
    text_format.Parse(f"{node.name}: {written}", holder)
    value = getattr(holder, node.name)
    if known.enum_type is not None:
        if value not in known.enum_type.values_by_number:
            raise RepositoryError(
                f"line {node.line} of the configuration cannot be merged",
                expected=f"a value of {known.enum_type.name}",
                got=f"{node.name}: {value}",
                action="Mend it, or replace it with --overwrite.",
            )
        return Enum(known.enum_type.values_by_number[value].name)
    if known.cpp_type == known.CPPTYPE_FLOAT:  # as short as it was written, not as a double
        return [float(f"{one:.8g}") for one in value] if repeated else float(f"{value:.8g}")
    return list(value) if repeated else value
