"""Which names a model may have."""

from __future__ import annotations

import re

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
LONGEST_NAME = 200


def model_name_objection(name: str) -> str:
    """Say why a text cannot be a model name; an empty string when it can.

    A name becomes a folder of the repository, a path segment of URLs and part of shell commands inside the Python
    backend. So it is narrower than what the server takes (rules R11 and Y4: no ``/``, no ``..``, no shell characters).
    """
    if name == "":
        return "an empty name"
    if len(name) > LONGEST_NAME:
        return f"a name of {len(name)} characters (at most {LONGEST_NAME})"
    if ".." in name:
        return f"{name!r}, which contains '..'"
    if _SAFE_NAME.fullmatch(name) is None:
        return repr(name)
    return ""
