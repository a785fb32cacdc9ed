"""Merges a configuration that people edited with what the spec gives now, field by field.

Three texts take part: *base*, what was generated last; *ours*, what the spec gives now; *theirs*, the file on disk. A
field that only people changed is kept, one that only the spec changed is taken, and one that both changed is a
conflict. Fields are found by their names, entries of maps by their keys, repeated messages by their names or, where
they have none, by their places. A field that is not written and one that has proto3's default value mean the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Generic, Literal, TypeVar

from tritonforge_client.core.proto import messages
from tritonforge_generator.config import ModelConfig
from tritonforge_generator.config.fields import Enum, Field
from tritonforge_generator.config.model_config import model_config_from_fields
from tritonforge_generator.errors import RepositoryError
from tritonforge_generator.repository.written import Written, written_from_text

Side = Literal["ours", "theirs"]
_Key = tuple[str, str]
_Level = Mapping[_Key, Written]
_SideT = TypeVar("_SideT")

KEPT: Final = "kept: written by hand"
_NAMES: Final = ("name", "input_name", "model_name")
"""Fields that name a repeated message."""


@dataclass(frozen=True, slots=True)
class HandEdit:
    """One field that people wrote.

    Attributes:
        field: Its path.
        how: What they did.
        value: What they wrote; empty where they removed it.
        generated: What the spec gives; empty where it gives nothing.
        line: Its line in the file; 0 where it is not there.
    """

    field: str
    how: Literal["added", "changed", "removed"]
    value: str
    generated: str
    line: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, keys as the attributes."""
        return asdict(self)

    def __str__(self) -> str:
        if self.how == "removed":
            return f"{self.field} is left out (the spec gives {self.generated})"
        return f"{self.field}: {self.value}" + (f" (the spec gives {self.generated})" if self.generated != "" else "")


@dataclass(frozen=True, slots=True)
class Conflict:
    """One field that people and the spec changed in different ways; texts are empty where there is no such field.

    Attributes:
        field: Its path.
        base: What was generated last.
        ours: What the spec gives now.
        theirs: What people wrote.
        line: Its line in the file, or that of the message around it.
    """

    field: str
    base: str
    ours: str
    theirs: str
    line: int


class ConflictError(RepositoryError):
    """People and the spec changed the same fields of a configuration."""

    def __init__(self, origin: str, conflicts: Sequence[Conflict]) -> None:
        self.conflicts = tuple(conflicts)
        lines = [
            f"{origin}:{one.line}: {one.field}: by hand {one.theirs or 'left out'}, "
            f"by the spec {one.ours or 'left out'} (was {one.base or 'not there'})"
            for one in self.conflicts
        ]
        super().__init__(
            "\n  ".join(["fields were changed both by hand and by the spec", *lines]),
            action="Take the spec's with --on-conflict ours, the file's with --on-conflict theirs, or edit either.",
        )


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge gave.

    Attributes:
        config: The configuration.
        kept: What people wrote and it holds.
        dropped: What people wrote and it does not hold.
    """

    config: ModelConfig
    kept: tuple[HandEdit, ...] = ()
    dropped: tuple[HandEdit, ...] = ()


def merged_config(
    ours: ModelConfig, *, base: str, theirs: str, origin: str, on_conflict: Side | None = None, overwrite: bool = False
) -> Merged:
    """Merge.

    Args:
        ours: What the spec gives now.
        base: Text that was generated last.
        theirs: Text on disk.
        origin: The file, for error messages.
        on_conflict: Which side wins where both changed a field; by default neither does.
        overwrite: Take the spec's everywhere, and only say what is dropped.

    Raises:
        RepositoryError: The text on disk is no configuration.
        ConflictError: Fields were changed on both sides.
        ConfigError: What the merge gave is not a configuration.
    """
    if theirs == base:
        return Merged(ours)
    try:
        sides = _Three(
            written_from_text(base, "what was generated last"),
            written_from_text(ours.text, "what the spec gives"),
            written_from_text(theirs, origin),
        )
    except RepositoryError:
        if not overwrite:
            raise
        return Merged(ours, dropped=(HandEdit("the whole text", "changed", "it cannot be read", "", 1),))
    merger = _Merger("theirs" if overwrite else on_conflict)
    heading = sides.ours[0].above
    generated = sides.base[0].above if sides.base else ()
    headless = _Three(
        _without_head(sides.base, generated), _without_head(sides.ours, heading), _without_head(sides.theirs, generated)
    )
    fields = merger.level(headless, messages().ModelConfig.DESCRIPTOR, "", 1)
    if overwrite:
        return Merged(ours, dropped=_by_field(merger.kept))
    if merger.conflicts:
        raise ConflictError(origin, merger.conflicts)
    config = model_config_from_fields(
        tuple(one.to_field() for one in fields),
        heading=heading[0].removeprefix("# "),
        notes=tuple(note.removeprefix("# Note: ") for note in heading[1:]),
    )
    return Merged(
        replace(ours, message=config.message, text=config.text),
        kept=_by_field(merger.kept),
        dropped=_by_field(merger.dropped),
    )


def _by_field(edits: Sequence[HandEdit]) -> tuple[HandEdit, ...]:
    return tuple(sorted(edits, key=lambda edit: edit.field))


def _without_head(fields: tuple[Written, ...], head: Sequence[str]) -> tuple[Written, ...]:
    """Take the generated comment lines away, wherever a hand has moved the field that they stood above."""
    return tuple(
        replace(one, above=tuple(text for text in one.above if text not in head)) if one.above else one
        for one in fields
    )


@dataclass(frozen=True, slots=True)
class _Three(Generic[_SideT]):
    """The same thing on each side."""

    base: _SideT
    ours: _SideT
    theirs: _SideT


class _Merger:
    """Walks down three trees at once and notes what was kept, dropped or in conflict."""

    def __init__(self, wins: Side | None) -> None:
        self._wins = wins
        self.kept: list[HandEdit] = []
        self.dropped: list[HandEdit] = []
        self.conflicts: list[Conflict] = []

    def level(self, sides: _Three[tuple[Written, ...]], descriptor: Any, at: str, line: int) -> tuple[Written, ...]:
        """Merge the fields of one message, which begins on a line of the file."""
        named = _named(descriptor, sides.base, sides.ours, sides.theirs)
        base, ours, theirs = (_keyed(side, descriptor, named) for side in (sides.base, sides.ours, sides.theirs))
        result: list[Written] = []
        homeless: list[str] = []
        for key in _order(base, ours, theirs):
            three = _Three(base.get(key), ours.get(key), theirs.get(key))
            one = self._field(three, descriptor, _path(key, three, at), line)
            if one is not None:
                result.append(one)
            elif three.theirs is not None:
                homeless += _own_lines(three.base, three.theirs)
        if homeless and result:  # comments outlive the field that they stood at
            result[-1] = replace(result[-1], below=(*result[-1].below, *homeless))
        return tuple(result)

    def _field(self, three: _Three[Written | None], holder: Any, path: str, line: int) -> Written | None:
        b, o, t = three.base, three.ours, three.theirs
        if o is not None and t is not None and o.name == t.name and o.inner is not None:
            before = b if b is not None and b.name == o.name else None
            inner = _Three(before.inner or () if before is not None else (), o.inner, t.inner or ())
            merged = self.level(inner, holder.fields_by_name[o.name].message_type, path, t.line)
            return replace(_commented(before, o, t), inner=merged)
        like = o or t or b
        meaning_b, meaning_o, meaning_t = (_meaning(one, holder, like) for one in (b, o, t))
        added = b is None and o is None
        if meaning_t in (meaning_b, meaning_o) and not added:  # no hand edit, or both made the same one
            return _commented(b, o, t) if o is not None else None
        edit = HandEdit(path, _how(o or b, t), _text(t, t), _text(o, t), t.line if t is not None else 0)
        if meaning_b != meaning_o and not added:
            if self._wins is None:
                at_line = t.line if t is not None else line
                self.conflicts.append(Conflict(path, _text(b, t), _text(o, t), _text(t, t), at_line))
                return o
            if self._wins == "ours":
                self.dropped.append(edit)
                return _commented(b, o, t) if o is not None else None
        self.kept.append(edit)
        return _kept(b, t) if t is not None else None


def _how(generated: Written | None, t: Written | None) -> Literal["added", "changed", "removed"]:
    if t is None:
        return "removed"
    return "added" if generated is None else "changed"


# ---- which fields are the same ----


def _named(descriptor: Any, *sides: Sequence[Written]) -> set[str]:
    """Repeated messages whose elements are told apart by name on every side."""
    names = set()
    for name in {one.name for side in sides for one in side}:
        lists = [[_name_of(one) for one in side if one.name == name] for side in sides]
        if _is_list(descriptor.fields_by_name[name]) and all(
            "" not in texts and len(set(texts)) == len(texts) for texts in lists
        ):
            names.add(name)
    return names


def _name_of(one: Written) -> str:
    return next((str(value) for name in _NAMES if (value := one.value_of(name)) not in {None, ""}), "")


def _is_list(field: Any) -> bool:
    return (
        field.message_type is not None and field.default_value == [] and not field.message_type.GetOptions().map_entry
    )


def _keyed(fields: Sequence[Written], descriptor: Any, named: set[str]) -> dict[_Key, Written]:
    """By key; members of a oneof share one, as only one of them may be set."""
    keyed: dict[_Key, Written] = {}
    counts: dict[str, int] = {}
    for one in fields:
        known = descriptor.fields_by_name[one.name]
        if known.message_type is not None and known.message_type.GetOptions().map_entry:
            key = (one.name, _quoted(one.value_of("key")))
        elif _is_list(known):
            index = counts.get(one.name, 0)
            counts[one.name] = index + 1
            key = (one.name, _quoted(_name_of(one)) if one.name in named else str(index))
        else:
            key = (known.containing_oneof.name if known.containing_oneof is not None else one.name, "")
        keyed[key] = one
    return keyed


def _quoted(key: Any) -> str:
    return f'"{key}"' if isinstance(key, str) else str(key)


def _path(key: _Key, three: _Three[Written | None], at: str) -> str:
    one = three.theirs or three.ours or three.base
    name = one.name if one is not None else key[0]
    return f"{at}.{name}".removeprefix(".") + (f"[{key[1]}]" if key[1] != "" else "")


def _order(base: _Level, ours: _Level, theirs: _Level) -> list[_Key]:
    """Where fields stand; among the elements of a list the order has a meaning, so it is merged for each by itself."""
    places = _merged_order(list(base), list(ours), list(theirs))
    lists = {
        name: iter(_merged_order(*([key for key in side if key[0] == name] for side in (base, ours, theirs))))
        for name in {key[0] for key in places}
    }
    return [next(lists[name]) for name, _ in places]


def _merged_order(base: list[_Key], ours: list[_Key], theirs: list[_Key]) -> list[_Key]:
    """The generator's order, unless people changed the order; what the other side adds follows what it followed."""
    moved = [key for key in theirs if key in base] != [key for key in base if key in theirs]
    first, second = (theirs, ours) if moved else (ours, theirs)
    order = list(first)
    before: _Key | None = None
    for key in second:
        if key not in first:
            order.insert(order.index(before) + 1 if before is not None else 0, key)
        before = key
    return order + [key for key in base if key not in order]


# ---- what a field means ----


def _meaning(one: Written | None, holder: Any, like: Written | None) -> Any:
    """Something that is equal for what means the same; what is not written means its default."""
    if one is None:
        known = holder.fields_by_name[like.name] if like is not None else None
        return None if known is None or known.has_presence or known.message_type is not None else _default(known)
    if one.inner is None:
        known = holder.fields_by_name[one.name]
        return (one.name, one.field.value) if known.has_presence else one.field.value
    return one.name, _meaning_of_all(one.inner, holder.fields_by_name[one.name].message_type)


def _default(known: Any) -> Any:
    number = known.default_value
    return Enum(known.enum_type.values_by_number[number].name) if known.enum_type is not None else number


def _meaning_of_all(fields: Sequence[Written], descriptor: Any) -> dict[_Key, Any]:
    keyed = _keyed(fields, descriptor, set())
    return {
        key: _meaning(one, descriptor, one)
        for key, one in keyed.items()
        if _meaning(one, descriptor, one) != _meaning(None, descriptor, one)
    }


def _text(one: Written | None, at: Written | None = None) -> str:
    """On one line, without comments; with its name where that is not the one of ``at``."""
    if one is None:
        return ""
    name = f"{one.name} " if at is not None and at.name != one.name else ""
    if one.inner is None:
        return name + one.field.text
    inner = (f"{below.name}{'' if below.inner is not None else ':'} {_text(below)}" for below in one.inner)
    return name + " ".join(["{", *inner, "}"])


# ---- comments ----


def _own_lines(b: Written | None, t: Written) -> list[str]:
    """Comment lines around a field that people wrote."""
    generated = (*b.above, *b.below) if b is not None else ()
    return [text for text in (*t.above, *t.below) if text not in generated]


def _said(comment: str) -> str:
    """What people said themselves behind a field that was kept."""
    return comment.removeprefix(KEPT).removeprefix("; ")


def _around(said: str, reason: str) -> tuple[str, str] | None:
    """What people said before and behind a generated reason; ``None`` where it does not stand by itself."""
    if reason == "":
        return None
    behind = said.removeprefix(reason)
    if behind != said and behind.lstrip()[:1] in {"", *";,.:(-"}:
        return "", behind
    return (said.removesuffix(reason), "") if said.endswith(f"; {reason}") else None


def _kept(b: Written | None, t: Written) -> Written:
    own = _said(t.comment)
    around = _around(own, b.comment) if b is not None else None
    if around is not None:  # the reason of a value that is gone
        own = "".join(around).strip("; ,")
    return replace(t, field=replace(t.field, reason=f"{KEPT}; {own}" if own != "" else KEPT))


def _commented(b: Written | None, o: Written, t: Written | None) -> Written:
    """The spec's field with what people said around it."""
    if t is None:
        return o
    said, was, reason = _said(t.comment), b.comment if b is not None else "", o.comment
    around = _around(said, was)
    if said in {"", was, reason}:
        comment = reason
    elif around is not None:
        comment = reason.join(around)
    else:
        comment = said if reason in {"", was} else f"{reason}; {said}"
    above, below = (
        tuple(text for text in texts if b is None or text not in generated)
        for texts, generated in (
            (t.above, b.above if b is not None else ()),
            (t.below, b.below if b is not None else ()),
        )
    )
    field = Field(o.name, o.field.value, comment)
    return replace(o, field=field, above=(*o.above, *above), below=(*o.below, *below))
