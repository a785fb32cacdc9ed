"""Makes a module that has the names of one version of TensorRT, no more and no fewer."""

from __future__ import annotations

import enum
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

_FOLDER = Path(__file__).parents[2] / "tensorrt_names"
_VERSION = os.environ.get("STAND_IN_TENSORRT", "10.16.1.11")
NAMES: Mapping[str, Any] = json.loads((_FOLDER / f"{_VERSION}.json").read_text("utf-8"))
MAJOR = int(_VERSION.partition(".")[0])
# Numbers are not the real ones, on purpose: they change between versions, so nobody may rely on them.
ENUMS: dict[str, Any] = {
    name: enum.IntEnum(name.rpartition(".")[2], {member: number for number, member in enumerate(members, 1)})  # type: ignore[misc, unused-ignore]
    for name, members in NAMES["enums"].items()
}


def exported(behaviour: Mapping[str, Any]) -> dict[str, Any]:
    """The names of the version; what ``behaviour`` does not implement says so when it is used."""
    found: dict[str, Any] = {}
    for name in NAMES["classes"]:
        _class(name, behaviour, found)
    for name in NAMES["functions"]:
        found[name] = behaviour.get(name) or _unimplemented(name)
    for name, kind in ENUMS.items():
        outer, _, inner = name.rpartition(".")
        if outer == "":
            found[name] = kind
        else:
            setattr(found[outer], inner, kind)
            for member in set(NAMES["classes"][outer]["attributes"]) & set(kind.__members__):
                setattr(found[outer], member, kind[member])
    for name, target in NAMES["constants"].items():
        kind, _, member = target.rpartition(".")
        found[name] = ENUMS[kind][member]
    return {name: value for name, value in found.items() if "." not in name}


def _class(name: str, behaviour: Mapping[str, Any], found: dict[str, Any]) -> None:
    if name in found:
        return
    base = NAMES["classes"][name]["base"]
    if base != "" and base in NAMES["classes"]:
        _class(base, behaviour, found)
    kind = behaviour.get(name)
    if kind is None:
        kind = type(name, (found.get(base, object),), {"__init__": _unimplemented(name)})
    found[name] = _strict(kind, name)


def _lineage(name: str) -> Iterator[Mapping[str, Any]]:
    while name in NAMES["classes"]:
        yield NAMES["classes"][name]
        name = NAMES["classes"][name]["base"]


def _strict(kind: Any, name: str) -> Any:
    """Take from a class what the version lacks, and give it what it does not implement."""
    methods = {one for names in _lineage(name) for one in names["methods"]}
    properties = {one for names in _lineage(name) for one in names["properties"]}
    attributes = {one for names in _lineage(name) for one in names["attributes"]}
    for key in [key for key in vars(kind) if not key.startswith("_")]:
        if key not in methods | properties | attributes:
            delattr(kind, key)
    for key in methods - set(dir(kind)):
        setattr(kind, key, _unimplemented(f"{name}.{key}"))
    for key in properties - set(dir(kind)):
        setattr(kind, key, _stored(key))

    def set_attribute(self: Any, key: str, value: Any) -> None:
        if type(self) is kind and not key.startswith("_") and key not in properties:
            raise AttributeError(f"{name!r} of TensorRT {_VERSION} has no attribute {key!r}")
        object.__setattr__(self, key, value)

    kind.__setattr__ = set_attribute
    return kind


def _stored(key: str) -> property:
    return property(lambda self: vars(self).get(f"_{key}"), lambda self, value: vars(self).update({f"_{key}": value}))


def _unimplemented(name: str) -> Callable[..., NoReturn]:
    def fail(*arguments: Any, **options: Any) -> NoReturn:
        raise NotImplementedError(f"{name} is not part of the stand-in")

    return fail
