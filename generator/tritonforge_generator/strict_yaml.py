"""YAML text to values by the core schema of YAML 1.2, keeping the place of everything.

PyYAML reads YAML 1.1, whose scalars surprise (``on`` is a boolean, ``1:30`` is ninety, ``1e3`` is text) and which lets
a key be given twice. Only its text-to-nodes half is used here; scalars follow
https://yaml.org/spec/1.2.2/#103-core-schema.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tritonforge_client.extras import require_extra
from tritonforge_generator.errors import SpecError

if TYPE_CHECKING:
    import yaml
    import yaml.composer
    import yaml.parser
    import yaml.reader
    import yaml.resolver
    import yaml.scanner
else:
    yaml = require_extra("yaml", "generator")

_MAX_VALUES: Final = 1_000_000  # values after aliases are expanded; a few lines of nested aliases can mean billions
_MAX_DEPTH: Final = 100  # pydantic reads 200 levels, of which the keys of a file take some
_TAG: Final = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Fault:
    """One error and its place.

    Attributes:
        position: Line and column, both counted from 1; (0, 0) for values that come from no file.
        error: What is wrong.
    """

    position: tuple[int, int]
    error: SpecError


class _Loader(
    yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser, yaml.composer.Composer, yaml.resolver.BaseResolver
):
    """PyYAML's text-to-nodes half with the scalars of YAML 1.2's core schema."""

    def __init__(self, text: str) -> None:
        yaml.reader.Reader.__init__(self, text)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)
        yaml.composer.Composer.__init__(self)
        yaml.resolver.BaseResolver.__init__(self)


def _scalar(name: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(_TAG + name, re.compile(rf"(?:{pattern})\Z"), list(first) or [""])


_scalar("null", r"null|Null|NULL|~", "nN~")
_scalar("null", r"", "")
_scalar("bool", r"true|True|TRUE|false|False|FALSE", "tTfF")
_scalar("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789")
_scalar("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789")
_scalar("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+.")


def nodes_from_file(path: Path) -> yaml.Node | None:
    """Read one YAML document.

    Args:
        path: The file, UTF-8.

    Returns:
        Its root node; ``None`` for an empty file.

    Raises:
        SpecError: The file cannot be read or is no YAML, or its values are endless or nested too deeply.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        got = f"byte {error.object[error.start]:#04x} at offset {error.start}"
        raise SpecError(f"{path}", expected="UTF-8 text", got=got, action="Save the file as UTF-8") from error
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}", action="Check the path") from error
    return nodes_from_text(text, str(path))


def nodes_from_text(text: str, origin: str) -> yaml.Node | None:
    """Read one YAML document from text.

    Args:
        text: The document.
        origin: Where it came from, for error messages.

    Returns:
        Its root node; ``None`` for an empty text.

    Raises:
        SpecError: It is no YAML, or its values are endless or nested too deeply.
    """
    try:
        root = _Loader(text).get_single_node()
        if root is not None:
            _check_size(origin, root)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(origin, error) from error
    except yaml.reader.ReaderError as error:
        raise _character_error(origin, text, error) from error
    except RecursionError as error:
        raise _too_deep(origin) from error
    return root


def _too_deep(origin: str) -> SpecError:
    return SpecError(
        f"{origin}: values are nested too deeply", expected=f"at most {_MAX_DEPTH} levels", action="Flatten the file"
    )


def _syntax_error(origin: str, error: yaml.MarkedYAMLError) -> SpecError:
    mark = error.problem_mark or error.context_mark
    place = f"{origin}:{mark.line + 1}:{mark.column + 1}" if mark is not None else origin
    problem = error.problem or str(error)
    action = ""
    if "'\\t'" in problem:
        action = "Indent with spaces"
    elif "single document" in (error.context or ""):
        problem, action = "a second document starts here", "Keep one document a file"
    elif error.context is not None and error.context_mark is not None:
        problem = f"{problem} ({error.context} that starts on line {error.context_mark.line + 1})"
    return SpecError(f"{place}: not valid YAML: {problem}", action=action)


def _character_error(origin: str, text: str, error: yaml.reader.ReaderError) -> SpecError:
    before = text[: error.position]
    line, column = before.count("\n") + 1, error.position - (before.rfind("\n") + 1) + 1
    character = f"U+{ord(text[error.position]):04X}"
    return SpecError(f"{origin}:{line}:{column}: character {character} is not allowed in YAML", action="Remove it")


def _check_size(origin: str, root: yaml.Node) -> None:
    """Refuse aliases that lead back to themselves, and more values or deeper ones than a file can mean.

    Raises:
        SpecError: There are such.
    """
    sizes: dict[int, tuple[int, int]] = {}
    above: set[int] = set()

    def measure(node: yaml.Node) -> tuple[int, int]:
        """Number of values and of levels, the node itself included."""
        if id(node) in above:
            line, column = position(node)
            raise SpecError(f"{origin}:{line}:{column}: the value contains itself through an alias")
        if id(node) not in sizes:
            above.add(id(node))
            below = [measure(child) for child in _children(node)]
            sizes[id(node)] = (
                1 + sum(values for values, _ in below),
                1 + max((levels for _, levels in below), default=0),
            )
            above.remove(id(node))
        return sizes[id(node)]

    values, levels = measure(root)
    if levels > _MAX_DEPTH:
        raise _too_deep(origin)
    if values > _MAX_VALUES:
        raise SpecError(f"{origin}: aliases expand to more than {_MAX_VALUES} values", action="Use fewer aliases")


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def position(node: yaml.Node) -> tuple[int, int]:
    """Line and column where a node starts, both counted from 1."""
    return node.start_mark.line + 1, node.start_mark.column + 1


def entry(node: yaml.Node, part: str | int) -> tuple[yaml.Node | None, yaml.Node] | None:
    """Follow one part of a path.

    Args:
        node: A mapping or list.
        part: A key or an index.

    Returns:
        The key's node (``None`` in a list) and the value's node; ``None`` where there is no such entry.
    """
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return None, node.value[part]
    return None


def value_from_node(node: yaml.Node, faults: list[Fault]) -> Any:
    """Build the value of a node.

    Args:
        node: The node; everything below it is built too.
        faults: Receives duplicate keys, keys that are no text, merge keys and unknown tags.

    Returns:
        ``dict`` with text keys, ``list``, ``str``, ``int``, ``float``, ``bool`` or ``None``.
    """
    kind = node.tag.removeprefix(_TAG)
    if isinstance(node, yaml.MappingNode) and kind == "map":
        return _mapping_from_node(node, faults)
    if isinstance(node, yaml.SequenceNode) and kind == "seq":
        return [value_from_node(child, faults) for child in node.value]
    if isinstance(node, yaml.ScalarNode) and kind in _VALUE_FROM_TEXT:
        try:
            return _VALUE_FROM_TEXT[kind](node.value)
        except (ValueError, KeyError):
            error = SpecError("the value does not fit its type", expected=f"!!{kind}", got=ascii(node.value[:40]))
    else:
        error = SpecError(f"tag {node.tag.replace(_TAG, '!!')} is not known here", action="Remove the tag")
    faults.append(Fault(position(node), error))
    return None


def _mapping_from_node(node: yaml.MappingNode, faults: list[Fault]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        place = position(key_node)
        key = key_node.value
        if not isinstance(key, str):
            error = SpecError("key", expected="text", got="a list or a mapping", action="Quote it if it is text")
        elif key == "<<" and key_node.style is None:
            error = SpecError("merge keys (<<) are not part of YAML 1.2", action="Write the keys out")
        elif key in found:
            error = SpecError(f"key {key!r} is given twice, first on line {lines[key]}", action="Remove one of them")
        elif not _is_text(key):
            error = SpecError("key", expected="text", got=ascii(key))
        else:
            lines[key] = place[0]
            found[key] = value_from_node(value_node, faults)
            continue
        faults.append(Fault(place, error))
    return found


def _str_from_text(text: str) -> str:
    # Escapes may spell one character as a surrogate pair, as JSON does; half a pair is no text.
    return text.encode("utf-16", "surrogatepass").decode("utf-16")


def _is_text(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _null_from_text(text: str) -> None:
    if text not in {"", "~", "null", "Null", "NULL"}:
        raise ValueError(text)


def _int_from_text(text: str) -> int:
    return int(text, 0) if text[:2] in {"0o", "0x"} else int(text, 10)


def _float_from_text(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_VALUE_FROM_TEXT: Final[dict[str, Callable[[str], object]]] = {
    "str": _str_from_text,
    "null": _null_from_text,
    "bool": lambda text: {"true": True, "false": False}[text.lower()],
    "int": _int_from_text,
    "float": _float_from_text,
}
