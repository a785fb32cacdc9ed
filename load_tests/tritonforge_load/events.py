"""What a running campaign tells: one JSON object a line, from Locust's process to whoever started it.

::

    {"event": "phase", "run": "steady#2", "arrival": "poisson", "rate_per_s": 200, "users": null, "duration_s": 30,
     "measured": true}
    {"event": "second", "run": "steady#2", "at_s": 3, "rate_per_s": 199, "errors": 0, "shed": 0, "p50_ms": 1.2,
     "p99_ms": 4.5}
    {"event": "search", "run": "peak@400/s", "load": 400, "held": false, "reasons": ["p99 is 31 ms"]}
    {"event": "note", "text": "1 of 2 load generators died"}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

_PREFIX: Final = "@tritonforge "  # Locust and what it imports print lines too


def line_from_event(event: Mapping[str, Any]) -> str:
    """An event as one line."""
    return _PREFIX + json.dumps(event)


def event_from_line(line: str) -> dict[str, Any] | None:
    """The event of a line; ``None`` for a line that is none."""
    if not line.startswith(_PREFIX):
        return None
    event: dict[str, Any] = json.loads(line[len(_PREFIX) :])
    return event


def text_from_event(event: Mapping[str, Any]) -> str | None:
    """An event in words, for terminals and logs; ``None`` for those that come every second."""
    kind = event["event"]
    if kind == "phase":
        users, rate_per_s = event["users"], event["rate_per_s"]
        load = f"{rate_per_s:g} requests/s" if users is None else f"{users} user{'s' if users != 1 else ''}"
        note = "" if event["measured"] else ", not measured"
        return f"phase {event['run']}: {event['arrival']}, {load}, {event['duration_s']:g} s{note}"
    if kind == "search":
        verdict = "held" if event["held"] else f"did not hold: {'; '.join(event['reasons'])}"
        return f"  {event['run']} {verdict}"
    return str(event["text"]) if kind == "note" else None
