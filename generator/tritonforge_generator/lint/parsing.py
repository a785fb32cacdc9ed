"""Reads the text of a config as the server's parser does, which takes less than Python's in places."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Final

from tritonforge_generator.lint.host import Host
from tritonforge_generator.lint.positions import Place, line_and_column, positions_from_text, tokens_of
from tritonforge_generator.lint.proto import ModelConfig

_BAD_ESCAPE: Final = "Invalid escape sequence in string literal."
_UNKNOWN_ESCAPE: Final = re.compile(r"(?<!\\)(?:\\\\)*\\[^abfnrtv\\'\"?xXuU0-7]")
# Outside of strings and comments the server's parser takes ASCII alone; Python's takes all blanks and digits, such as
# the no-break space of web pages.
_FOREIGN: Final = re.compile(r"[^\x21-\x7e \t\r\n\v\f]")
_NUL: Final = re.compile(r"\x00")
# Python's takes 1_000, +1 and 0b1 for numbers too.
_NUMBER: Final = re.compile(
    r"(?:-[ \t\r\n\v\f]*)?"
    r"(?:0x[0-9a-f]+|0[0-7]+|(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?f?|(?:inf|infinity|nan)f?)",
    re.IGNORECASE,
)
_LONE_SIGN: Final = re.compile(r"-(\s+)")
_NUMBER_BEGINS: Final = frozenset("0123456789+-.")
# What a text must hold for the closer look to be worth its time.
_SUSPICIOUS: Final = re.compile(r"[^\x21-\x7e \t\r\n\v\f]|\+|(?<!\w)[0-9][0-9a-zA-Z]*_|(?<!\w)0[bBoO]")


@dataclass(frozen=True, slots=True)
class ParseFailure:
    """Why the text is no ``ModelConfig``.

    Attributes:
        message: What the parser says, without the place.
        line: 1-based line.
        column: 1-based column.
    """

    message: str
    line: int
    column: int


def parse_config(text: str, config: ModelConfig, host: Host | None) -> ParseFailure | None:
    """Read the text of a config as the server would.

    Args:
        text: Content of a ``config.pbtxt``.
        config: Filled; left empty when the text is no config.
        host: Where it is to be served: an older server knows fewer fields.

    Returns:
        Why the server refuses it; ``None`` when it does not.
    """
    failure = _parse(text, config) or _unlike_the_server(text) or _newer_than(host, text)
    if failure is not None:
        config.Clear()
    return failure


def _parse(text: str, config: ModelConfig) -> ParseFailure | None:
    from google.protobuf import text_format

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            text_format.Parse(_signs_joined(text), config)
    except DeprecationWarning:
        # Python takes an unknown escape sequence as it stands; the server's parser refuses it.
        found = _UNKNOWN_ESCAPE.search(text)
        offset = found.end() - 2 if found is not None else 0
        return _failure_at(_BAD_ESCAPE, text, offset)
    except text_format.ParseError as error:
        message = str(error).partition(" : ")[2] or str(error)
        return ParseFailure(message, error.GetLine() or 1, error.GetColumn() or 1)
    except ValueError as error:
        # An enum number that is too large: the parser tells the value but not the place.
        value = str(error).rpartition(" ")[2]
        places = (place for place in positions_from_text(text).values() if place.value == value)
        place = next(places, Place(1, 1, ""))
        return ParseFailure(str(error), place.line, place.column)
    return None


def _signs_joined(text: str) -> str:
    """Move signs to their numbers, where the server takes blanks between them and Python's parser does not."""
    if _LONE_SIGN.search(text) is None:
        return text
    tokens = ((kind, token) for kind, token, _ in tokens_of(text))
    return "".join(_LONE_SIGN.sub(r"\1-", token) if kind == "word" else token for kind, token in tokens)


def _unlike_the_server(text: str) -> ParseFailure | None:
    """Refuse what Python's parser takes and the server's does not."""
    if _SUSPICIOUS.search(text) is None:
        return None
    for kind, token, start in tokens_of(text):
        odd = (_NUL if kind in {"string", "comment"} else _FOREIGN).search(token)
        if odd is not None:
            message = f"The server's parser takes no character U+{ord(odd.group()):04X} there."
            return _failure_at(message, text, start + odd.start())
        escape = _UNKNOWN_ESCAPE.search(token) if kind == "string" else None
        if escape is not None:
            return _failure_at(_BAD_ESCAPE, text, start + escape.end() - 2)
        if kind == "word" and token[0] in _NUMBER_BEGINS and _NUMBER.fullmatch(token) is None:
            return _failure_at(f'"{token}" is no number for the server.', text, start)
    return None


def _newer_than(host: Host | None, text: str) -> ParseFailure | None:
    """Refuse what the declared server's schema does not have, as its parser would."""
    if host is None or host.release == "":
        return None
    places = positions_from_text(text)
    unknown = host.unknown_field(places.__contains__)
    if unknown == "":
        return None
    message = f'The server of the declared release has no field named "{unknown}".'
    return ParseFailure(message, places[unknown].line, places[unknown].column)


def _failure_at(message: str, text: str, offset: int) -> ParseFailure:
    return ParseFailure(message, *line_and_column(text, offset))
