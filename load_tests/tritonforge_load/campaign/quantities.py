"""Durations, shares and rates as people write them: ``20s``, ``0.1%``, ``800/s``; figures as they are written back."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final

from tritonforge_client.extras import require_extra

if TYPE_CHECKING:
    import pydantic
else:
    pydantic = require_extra("pydantic", "load")

_NUMBER: Final = r"([0-9]+(?:\.[0-9]+)?)"
_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_PATTERN: Final = rf"^{_NUMBER}\s*(us|ms|s|m|h)$"
_SHARE_PATTERN: Final = rf"^{_NUMBER}\s*%$"
_RATE_PATTERN: Final = rf"^{_NUMBER}\s*/\s*s$"
_MOST_DIGITS: Final = 16  # a float has no more


def seconds_from_text(text: object) -> float:
    """Read a duration.

    Args:
        text: A number and its unit: us, ms, s, m or h, for example ``"20s"``.

    Returns:
        Seconds.

    Raises:
        ValueError: It is no duration, or the unit is missing.
    """
    match = re.match(_DURATION_PATTERN, text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"expected a duration with its unit (us, ms, s, m, h) like 20s, got {text!r}")
    return float(match[1]) * _SECONDS[match[2]]


def share_from_text(text: object) -> float:
    """Read a share.

    Args:
        text: Per cent, for example ``"0.1%"``.

    Returns:
        The share from 0 to 1.

    Raises:
        ValueError: It is no share, or not within 0 % and 100 %.
    """
    match = re.match(_SHARE_PATTERN, text) if isinstance(text, str) else None
    if match is None or float(match[1]) > 100:
        raise ValueError(f"expected a share from 0% to 100% like 0.1%, got {text!r}")
    return float(match[1]) / 100


def rate_from_text(text: object) -> float:
    """Read a rate.

    Args:
        text: Per second, for example ``"800/s"``.

    Returns:
        The rate per second.

    Raises:
        ValueError: It is no rate.
    """
    match = re.match(_RATE_PATTERN, text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"expected a rate like 800/s, got {text!r}")
    return float(match[1])


def text_from_number(value: float, digits: int = 3) -> str:
    """Write a figure with so many significant digits and no exponent, thousands apart.

    Args:
        value: Any number.
        digits: How many digits count; zeros at the end are left out behind the point.
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    text = f"{value:,.{max(0, digits - 1 - exponent)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def texts_apart(value: float, limit: float, digits: int = 3) -> tuple[str, str]:
    """Write a figure and its limit with as many digits as tell the two apart: never "25 is not below 25".

    Args:
        value: The figure.
        limit: What it is compared with.
        digits: How many digits count at least.
    """
    for count in range(digits, _MOST_DIGITS):
        texts = text_from_number(value, count), text_from_number(limit, count)
        if value == limit or texts[0] != texts[1]:
            return texts
    return repr(value), repr(limit)


def _positive(value: float) -> float:
    if value <= 0:
        raise ValueError("expected more than 0")
    return value


def _bound(sign: str, read: Callable[[object], float]) -> Any:
    """A limit that is written with its operator: always the same one, there for whoever reads the file."""

    def bound_from_text(text: object) -> float:
        match = re.fullmatch(r"\s*(<=|>=|<|>)\s*(.+)", text) if isinstance(text, str) else None
        if match is None or match[1] != sign:
            raise ValueError(f"expected a bound that starts with {sign}, got {text!r}")
        return read(match[2].strip())

    return pydantic.BeforeValidator(bound_from_text)


def _schema(pattern: str, example: str) -> Any:
    return pydantic.WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example]})


Seconds = Annotated[float, pydantic.BeforeValidator(seconds_from_text), _schema(_DURATION_PATTERN, "20s")]
"""A field that is written ``20s`` and read in seconds."""

Share = Annotated[float, pydantic.BeforeValidator(share_from_text), _schema(_SHARE_PATTERN, "1%")]
"""A field that is written ``1%`` and read from 0 to 1."""

PositiveSeconds = Annotated[Seconds, pydantic.AfterValidator(_positive)]
"""A duration above 0."""

Rate = Annotated[float, pydantic.BeforeValidator(rate_from_text), _schema(_RATE_PATTERN, "800/s")]
"""A field that is written ``800/s`` and read per second."""

PositiveRate = Annotated[Rate, pydantic.AfterValidator(_positive)]
"""A rate above 0."""

AtLeastShare = Annotated[float, _bound(">=", share_from_text), _schema(rf"^>=\s*{_SHARE_PATTERN[1:]}", ">= 99%")]
"""A field that is written ``>= 99%`` and read from 0 to 1."""

BelowShare = Annotated[float, _bound("<", share_from_text), _schema(rf"^<\s*{_SHARE_PATTERN[1:]}", "< 85%")]
"""A field that is written ``< 85%`` and read from 0 to 1."""

BelowSeconds = Annotated[float, _bound("<", seconds_from_text), _schema(rf"^<\s*{_DURATION_PATTERN[1:]}", "< 2ms")]
"""A field that is written ``< 2ms`` and read in seconds."""
