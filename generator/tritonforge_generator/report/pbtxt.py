"""``config.pbtxt`` in colours: lines apart from their reasons."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
      (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
    | (?P<comment>\#.*)
    | (?P<field>[A-Za-z_]\w*(?=\s*(?::|\{|\[)))
    | (?P<number>-?\d+(?:\.\d+)?\b)
    | (?P<word>[A-Za-z_]\w*)
    | (?P<other>.)
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a line.

    Attributes:
        kind: ``string``, ``field``, ``number``, ``word`` (an enum value or a boolean) or ``other``.
        text: Its letters.
    """

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text format.

    Attributes:
        tokens: Its code, empty for a line that is only a comment.
        comment: What its comment says, without the sign.
    """

    tokens: tuple[Token, ...]
    comment: str


def lines_from_text(text: str) -> Iterator[Line]:
    """Split protobuf text format into lines of coloured pieces.

    Every letter of the code is kept, so that joining the tokens gives it back.

    Args:
        text: Protobuf text format.
    """
    for row in text.rstrip("\n").split("\n"):
        tokens: list[Token] = []
        comment = ""
        for match in _TOKEN.finditer(row):
            kind = str(match.lastgroup)
            if kind == "comment":
                comment = match.group()[1:].strip()
            else:
                tokens.append(Token(kind, match.group()))
        while tokens and comment and tokens[-1].text.isspace():
            tokens.pop()
        yield Line(tuple(tokens), comment)
