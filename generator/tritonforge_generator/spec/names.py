"""Which names models and their instances may have."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final

from tritonforge_client.extras import require_extra
from tritonforge_generator.declared import PlacedError

if TYPE_CHECKING:
    import pydantic
else:
    pydantic = require_extra("pydantic", "generator")

_SAFE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LONGEST: Final = 200


def _safe(name: str) -> str:
    if name == "":
        got = "an empty name"
    elif len(name) > _LONGEST:
        got = f"a name of {len(name)} characters (at most {_LONGEST})"
    elif ".." in name:
        got = f"{name!r}, which contains '..'"
    elif _SAFE.fullmatch(name) is None:
        got = repr(name)
    else:
        return name
    raise PlacedError(expected="letters, digits, '_', '-' and '.', starting with a letter or digit", got=got)


SafeName = Annotated[str, pydantic.AfterValidator(_safe)]
"""Name of a model or of an instance group.

It becomes a folder of the repository, a path segment of URLs and part of shell commands inside the Python backend. So
it is narrower than what the server takes (rules R11 and Y4: no ``/``, no ``..``, no shell characters).
"""
