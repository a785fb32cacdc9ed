"""``--set KEY=YAML``: nested options on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tritonforge_generator.errors import SpecError


def options_from_settings(settings: Sequence[str], below: Mapping[str, Any], *, example: str) -> dict[str, Any]:
    """Hang the values of ``--set a.b=value`` into options.

    Args:
        settings: Words as they were given.
        below: Options that were given by other flags.
        example: A setting that is right, for error messages.

    Returns:
        Options nested like the declared file.

    Raises:
        SpecError: A word has no ``=`` or no YAML behind it, or sets a field of what is no mapping.
    """
    from tritonforge_generator.declared import value_from_text

    options = dict(below)
    for setting in settings:
        key, equals, text = setting.partition("=")
        *above, last = key.split(".")
        if equals == "" or last == "":
            raise SpecError("--set cannot be read", expected=f"KEY=YAML, for example {example}", got=repr(setting))
        target = options
        for part in above:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise SpecError(f"--set {setting} sets a field of {part}", expected="a mapping there", got=repr(target))
        target[last] = value_from_text(text, origin=f"--set {key}")
    return options
