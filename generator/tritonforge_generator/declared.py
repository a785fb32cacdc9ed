"""Strict YAML files to pydantic models, with the place of every error.

Used for the generator's spec (``tritonforge.yaml``) and for load-test campaigns. A file is read as YAML 1.2's core
schema (https://yaml.org/spec/1.2.2/#103-core-schema), which has none of the surprises of YAML 1.1:

- only ``true`` and ``false`` are booleans; ``on``, ``off``, ``yes`` and ``no`` are text (a field that wants a boolean
  says so);
- ``1e3`` is a number, ``1:30`` and ``2024-01-01`` are text, ``010`` is ten, ``0o10`` is eight;
- keys are always text, a key given twice is an error, and so are merge keys (``<<``) and tags of any other schema.

Values are then checked in pydantic's strict JSON mode: text is never taken for a number, a number never for text.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from tritonforge_client.extras import require_extra
from tritonforge_generator.errors import SpecError
from tritonforge_generator.strict_yaml import Fault, entry, nodes_from_file, nodes_from_text, position, value_from_node

if TYPE_CHECKING:
    import pydantic
    import pydantic_core
    import yaml
else:
    pydantic = require_extra("pydantic", "generator")
    pydantic_core = require_extra("pydantic_core", "generator")

ModelT = TypeVar("ModelT", bound="pydantic.BaseModel")
Parts: TypeAlias = "tuple[str | int, ...]"

_JSON_SCHEMA_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_BOOLEAN_WORDS: Final = {"on": "true", "yes": "true", "y": "true", "off": "false", "no": "false", "n": "false"}

# Error types of pydantic in the words of the file. Others keep pydantic's own words.
_EXPECTED: Final = {
    "bool_type": "true or false",
    "dict_type": "a mapping (key: value)",
    "finite_number": "a finite number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "a mapping (key: value)",
    "path_type": "a path as text",
    "set_type": "a list",
    "string_pattern_mismatch": "text like {pattern}",
    "string_too_short": "text of {min_length} or more characters",
    "string_type": "text",
    "too_long": "at most {max_length} of them",
    "too_short": "at least {min_length} of them",
    "tuple_type": "a list",
}
# Those that only say that a value is of another kind. A list whose items are wrong counts as too short.
_OTHER_KIND: Final = {kind for kind in _EXPECTED if kind.endswith("_type")} | {
    "int_from_float",
    "literal_error",
    "too_short",
}


class DeclaredModel(pydantic.BaseModel):
    """Base of everything that a declared file can say: frozen, and unknown keys are errors."""

    # The proto has fields such as model_warmup: pydantic before 2.10 would warn of each.
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class PlacedError(ValueError):
    """Raised by a model's validator that knows which value below the model is wrong.

    Args:
        what: What is wrong; may be empty when ``expected`` and ``got`` say it.
        at: Keys and indices from the validated value down to the wrong one, for example ``("gates", 0, "where")``.
        expected: What would have been right.
        got: What was found instead.
        action: What the user can do about it.
    """

    def __init__(
        self, what: str = "", *, at: Sequence[str | int] = (), expected: str = "", got: str = "", action: str = ""
    ) -> None:
        self.at = tuple(at)
        self.error = SpecError(what, expected=expected, got=got, action=action)
        super().__init__(str(self.error))

    def under(self, *above: str | int) -> PlacedError:
        """The same error for a validator further up.

        Args:
            above: Keys and indices from there down to the value that ``at`` begins at.
        """
        told = self.error
        return PlacedError(told.what, at=(*above, *self.at), expected=told.expected, got=told.got, action=told.action)


def read_declared(
    path: Path,
    model: type[ModelT],
    *,
    overrides: Mapping[str, Any] | None = None,
    overrides_origin: str = "command line",
) -> ModelT:
    """Read one declared file.

    Args:
        path: The YAML file, UTF-8.
        model: What the file declares; give it and its nested models ``extra="forbid"`` (see ``DeclaredModel``).
        overrides: Values that replace the file's, nested like the file: mappings are merged key by key, anything
            else replaces what the file says. A mapping over a list changes entries of it, by their ``name``, or by
            their place where they have none.
        overrides_origin: Where the overrides came from, for error messages.

    Returns:
        The validated model.

    Raises:
        SpecError: The file cannot be read, is no YAML, or says something that the model does not allow. All errors
            of one reading are in the message, in the order of the file, each with ``file:line:column``.
    """
    root = nodes_from_file(path)
    faults: list[Fault] = []
    data = None if root is None else value_from_node(root, faults)
    if faults:
        raise _merged(faults, str(path))
    if not isinstance(data, dict):
        got = "an empty file" if root is None or data is None else _words(data)
        raise SpecError(f"{path}", expected="a mapping (key: value) at the top", got=got)
    placed = _placed(data, overrides or {}, overrides_origin)
    return _validated(_overlaid(data, placed), model, _Source(str(path), root, placed, overrides_origin))


def declared_from_mapping(data: Mapping[str, Any], model: type[ModelT], *, origin: str) -> ModelT:
    """Check values that come from no file, by the same rules.

    Args:
        data: Nested like the file would be. Paths and other values that JSON can hold as text are accepted.
        model: What the values declare.
        origin: Where they came from, for error messages, for example ``"--set"``.

    Raises:
        SpecError: The model does not allow them; every error is in the message.
    """
    return _validated(dict(data), model, _Source(origin, None, {}, origin))


def value_from_text(text: str, *, origin: str) -> Any:
    """Read one value as a declared file would, for command-line flags.

    Args:
        text: A YAML value: ``12``, ``true``, ``[1, 2]``, ``{kind: KIND_CPU}``.
        origin: Where it came from, for error messages.

    Raises:
        SpecError: It is no YAML.
    """
    root = nodes_from_text(text, origin)
    faults: list[Fault] = []
    value = None if root is None else value_from_node(root, faults)
    if faults:
        raise _merged(faults, origin)
    return value


def json_schema(model: type[pydantic.BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema of a declared file, for editors that complete and check YAML."""
    schema = model.model_json_schema()
    for part in (schema, *schema.get("$defs", {}).values()):
        for value in part.get("properties", {}).values():
            _drop_foreign_default(value)
    title = schema.pop("title", model.__name__)
    return {"$schema": _JSON_SCHEMA_DIALECT, "title": title, **schema}


def _drop_foreign_default(value: dict[str, Any]) -> None:
    """Leave out a default that nobody may write: ``20s`` is read as 20.0, and an editor would fill that in."""
    default = value.get("default")
    if (value.get("type") == "string" and not isinstance(default, str)) or isinstance(default, dict):
        value.pop("default", None)


def _placed(below: Any, overrides: Mapping[Any, Any], origin: str) -> dict[Any, Any]:
    """Overrides with the places of list entries instead of their names.

    Args:
        below: What they are laid over.
        overrides: Keys and values.
        origin: Start of error messages; grows with each key on the way down.
    """
    result = {}
    for key, value in overrides.items():
        place = _place_of_entry(below, str(key), origin) if isinstance(below, list) else key
        under = below[place] if _holds(below, place) else None
        result[place] = _placed(under, value, f"{origin}: {key}") if isinstance(value, Mapping) else value
    return result


def _place_of_entry(entries: list[Any], name: str, origin: str) -> int:
    names = [str(entry.get("name", place) if isinstance(entry, dict) else place) for place, entry in enumerate(entries)]
    if name not in names:
        raise SpecError(f"{origin}: an entry of the list", expected=f"one of {', '.join(names)}", got=repr(name))
    return names.index(name)


def _overlaid(below: Any, overrides: Mapping[Any, Any]) -> Any:
    result = [*below] if isinstance(below, list) else dict(below)
    for key, value in overrides.items():
        under = result[key] if _holds(result, key) else None
        merges = isinstance(value, Mapping) and isinstance(under, (dict, list))
        result[key] = _overlaid(under, value) if merges else value
    return result


# --- values to the model, and its errors to places ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the values of one reading came from."""

    origin: str
    root: yaml.Node | None
    overrides: Mapping[str, Any]
    overrides_origin: str

    def position(self, path: Parts, *, of_key: bool) -> tuple[int, int]:
        """Line and column of a value, or of its key; of the nearest value above it where it is not in the file."""
        if self.root is None or self._is_overridden(path):
            return 0, 0
        node, place = self.root, position(self.root)
        for part in path:
            found = entry(node, part)
            if found is None:
                break
            key, node = found
            place = position(key if of_key and key is not None else node)
        return place

    def _is_overridden(self, path: Parts) -> bool:
        below: Any = self.overrides
        for part in path:
            if not isinstance(below, Mapping):
                return True
            if part not in below:
                return False
            below = below[part]
        return not isinstance(below, Mapping)


def _validated(data: dict[str, Any], model: type[ModelT], source: _Source) -> ModelT:
    document = pydantic_core.to_json(data, inf_nan_mode="constants", fallback=str)
    try:
        return model.model_validate_json(document, strict=True)
    except pydantic.ValidationError as error:
        raise _merged(_faults(error, data, model, source), source.origin, source.overrides_origin) from error


def _faults(error: pydantic.ValidationError, data: Any, model: type[ModelT], source: _Source) -> list[Fault]:
    schema = json_schema(model)
    found: dict[tuple[Parts, str], list[dict[str, Any]]] = {}
    for detail in error.errors(include_url=False):
        path = _path_in(data, detail["loc"], missing=detail["type"] == "missing")
        # The members of a union each give their own error for one value; they are told as one.
        group = "kind" if detail["type"] in _OTHER_KIND else detail["msg"]
        found.setdefault((path, group), []).append(dict(detail))
    faults = []
    for (path, group), details in found.items():
        # "expected text, got a mapping" is noise when another error is about the mapping or a key inside it.
        others = (other for other, what in found if (other, what) != (path, group))
        if group == "kind" and any(other[: len(path)] == path for other in others):
            continue
        faults.append(_fault_from_details(path, details, schema, source))
    return faults


def _fault_from_details(path: Parts, details: list[dict[str, Any]], schema: dict[str, Any], source: _Source) -> Fault:
    kind = details[0]["type"]
    cause = details[0].get("ctx", {}).get("error")
    if isinstance(cause, PlacedError):
        path, told = (*path, *cause.at), cause.error
        error = _error_at(path, told.what, expected=told.expected, got=told.got, action=told.action)
    elif kind in {"value_error", "assertion_error"}:
        error = _error_at(path, str(cause))
    elif kind == "missing":
        *above, key = path
        what = f"key {key!r}" if isinstance(key, str) else f"item [{key}]"
        error = SpecError(f"{what} is missing{_inside(tuple(above))}", action="Add it")
        path = tuple(above)
    elif kind == "extra_forbidden":
        error = _unknown_key(path, schema)
    else:
        error = _wrong_value(path, details)
    return Fault(source.position(path, of_key=kind == "extra_forbidden"), error)


def _unknown_key(path: Parts, schema: dict[str, Any]) -> SpecError:
    *above, key = path
    known = sorted({name for place in _places(schema, tuple(above), schema) for name in place.get("properties", {})})
    expected = f"one of {', '.join(known)}" if known else "no keys"
    what = f"unknown key {str(key)!r}{_inside(tuple(above))}"
    return SpecError(what, expected=expected, action=_did_you_mean(str(key), known) or "Remove it")


def _wrong_value(path: Parts, details: list[dict[str, Any]]) -> SpecError:
    value = details[0]["input"]
    expected = " or ".join(dict.fromkeys(_expected(detail) for detail in details))
    action = ""
    if isinstance(value, str):
        choices = re.findall(r"'([^']*)'", expected)
        action = _did_you_mean(value, choices)
        if details[0]["type"] == "bool_type" and value.lower() in _BOOLEAN_WORDS:
            action = f"Write {_BOOLEAN_WORDS[value.lower()]}"
    elif isinstance(value, (bool, int, float)) and any(detail["type"] == "string_type" for detail in details):
        action = "Put it in quotes"
    return _error_at(path, expected=expected, got=_words(value), action=action)


def _expected(detail: dict[str, Any]) -> str:
    known = _EXPECTED.get(detail["type"])
    if known is not None:
        return known.format(**detail.get("ctx", {}))
    message = str(detail["msg"]).removeprefix("Input should be ").removeprefix("Value should ")
    return {"True": "true", "False": "false"}.get(message, message)


def _error_at(path: Parts, what: str = "", *, expected: str = "", got: str = "", action: str = "") -> SpecError:
    named = ": ".join(part for part in (_dotted(path), what) if part != "")
    return SpecError(named, expected=expected, got=got, action=action)


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    lowered = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), lowered, n=1)
    return f"Did you mean {lowered[close[0]]!r}?" if close else ""


def _path_in(data: Any, location: Sequence[str | int], *, missing: bool) -> Parts:
    """The keys and indices of an error's location, without the names of union members that pydantic puts between."""
    parts = list(location)
    last = [parts.pop()] if missing else []
    path: list[str | int] = []
    value = data
    for part in parts:
        if _holds(value, part):
            value = value[part]
            path.append(part)
    return (*path, *last)


def _holds(value: Any, part: str | int) -> bool:
    if isinstance(value, (list, tuple)):
        return isinstance(part, int) and part < len(value)
    return isinstance(value, Mapping) and part in value


def _places(schema: dict[str, Any], path: Parts, root: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the JSON Schemas that describe the value at a path."""
    if "$ref" in schema:
        target: Any = root
        for name in schema["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        yield from _places(target, path, root)
        return
    for keyword in ("anyOf", "oneOf", "allOf"):
        for member in schema.get(keyword, []):
            yield from _places(member, path, root)
    if not path:
        yield schema
        return
    part, *below = path
    if isinstance(part, int):
        members = [schema.get("items"), *schema.get("prefixItems", [])[part : part + 1]]
    elif part in schema.get("properties", {}):
        members = [schema["properties"][part]]
    else:
        members = [schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
    for member in members:
        if isinstance(member, dict):
            yield from _places(member, tuple(below), root)


def _merged(faults: list[Fault], origin: str, overrides_origin: str = "") -> SpecError:
    placed: list[tuple[str, SpecError]] = []
    for fault in sorted(faults, key=lambda fault: fault.position):
        line, column = fault.position
        placed.append((f"{origin}:{line}:{column}" if line > 0 else overrides_origin, fault.error))
    if len(placed) == 1:
        place, error = placed[0]
        what = f"{place}: {error.what}" if error.what != "" else place
        return SpecError(what, expected=error.expected, got=error.got, action=error.action)
    lines = "".join(f"\n  {place}: {error}" for place, error in placed)
    return SpecError(f"{origin}: {len(placed)} errors{lines}")


def _inside(path: Parts) -> str:
    return f" in {_dotted(path)}" if path else ""


def _dotted(path: Parts) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _words(value: Any) -> str:
    """A value in plain words, short."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value if len(value) <= 60 else value[:57] + '...'!r}"
    if isinstance(value, Mapping):
        return f"a mapping with {', '.join(map(str, value))}" if value else "an empty mapping"
    return f"a list of {len(value)}" if isinstance(value, Sequence) else type(value).__name__
