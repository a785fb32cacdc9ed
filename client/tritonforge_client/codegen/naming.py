"""Python names for models and tensors. The same spec always gives the same names."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable
from typing import Final

# Names that a generated module uses itself; as a class or field they would hide what the annotations mean.
_MODULE_NAMES: Final = frozenset(
    {
        "Any",
        "AsyncClient",
        "AsyncIterator",
        "AsyncModelSequence",
        "Client",
        "Final",
        "Iterator",
        "Mapping",
        "ModelSequence",
        "ModelSpec",
        "NDArray",
        "Options",
        "Outputs",
        "Prepared",
        "RawReply",
        "SPEC",
        "Sequence",
        "TensorSpec",
        "TracebackType",
        "np",
    }
)


def module_name_from_model(model: str) -> str:
    """Return the module of a model: ``ResNet-50`` becomes ``resnet_50``."""
    return _identifier(model.lower(), "model")


def class_name_from_model(model: str) -> str:
    """Return the class of a model: ``resnet_50.v2`` becomes ``Resnet50V2``."""
    words = [word for word in re.split(r"[^0-9A-Za-z]+", model) if word]
    name = "".join(word[0].upper() + word[1:] for word in words)
    if not name or name[0].isdigit():
        name = f"Model{name}"
    return f"{name}Model" if name in _MODULE_NAMES or keyword.iskeyword(name) or hasattr(builtins, name) else name


def attributes_from_tensors(names: Iterable[str], *, reserved: Iterable[str] = ()) -> dict[str, str]:
    """Return a Python name for each tensor name.

    Args:
        names: Tensor names, in the order of the spec.
        reserved: Python names that no tensor may take.

    Returns:
        Python names by tensor name. A tensor name that can be a Python name stays as it is; the others follow, in the
        order of the spec, with a number where two would be equal.
    """
    ordered = list(names)
    taken = {*reserved, *_MODULE_NAMES}
    attributes = {name: name for name in ordered if name not in taken and _identifier(name, "tensor") == name}
    taken.update(attributes)
    for name in ordered:
        if name not in attributes:
            attributes[name] = _free(_identifier(name, "tensor"), taken)
            taken.add(attributes[name])
    return attributes


def _identifier(name: str, prefix: str) -> str:
    # Leading underscores would be mangled inside a class.
    plain = re.sub(r"[^0-9A-Za-z_]", "_", name).lstrip("_") or prefix
    if plain[0].isdigit():
        plain = f"{prefix}_{plain}"
    return f"{plain}_" if keyword.iskeyword(plain) else plain


def _free(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    if f"{name}_" not in taken:
        return f"{name}_"
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"
