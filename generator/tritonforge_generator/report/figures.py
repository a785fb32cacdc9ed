"""Numbers as a person reads them."""

from __future__ import annotations

_NONE = "\N{EN DASH}"


def significant(value: float, digits: int = 3) -> str:
    """Write a number with so many significant digits and no exponent, thousands apart.

    Args:
        value: Any finite number.
        digits: How many digits count.
    """
    if value == 0:
        return "0"
    exponent = int(f"{abs(value):.{digits - 1}e}".partition("e")[2])
    return f"{value:,.{max(0, digits - 1 - exponent)}f}"


def milliseconds(value_ms: float | None) -> str:
    """A latency without its unit, to the microsecond; a dash for none."""
    if value_ms is None:
        return _NONE
    return f"{value_ms:.3f}" if value_ms < 1 else significant(value_ms)


def latency(value_ms: float) -> str:
    """A latency in milliseconds in the unit that fits it."""
    if value_ms < 1:
        return f"{significant(value_ms * 1e3)} µs"
    if value_ms < 1e3:
        return f"{significant(value_ms)} ms"
    return f"{significant(value_ms / 1e3)} s"


def duration(value_s: float) -> str:
    """A duration in seconds in the unit that fits it."""
    if value_s < 60:
        return f"{value_s:.0f} s" if value_s == round(value_s) and value_s else latency(value_s * 1e3)
    minutes, seconds = divmod(round(value_s), 60)
    return f"{minutes} min {seconds} s"


def count(value: float) -> str:
    """A whole number, thousands apart."""
    return f"{value:,.0f}"


def size(value_bytes: int) -> str:
    """A size in bytes in the unit that fits it, by thousands."""
    if value_bytes < 1000:
        return f"{value_bytes} bytes"
    return _in_thousands(value_bytes, ("kB", "MB", "GB"))


def flops(number: int) -> str:
    """A number of floating-point operations in the unit that fits it; a dash for none."""
    if number == 0:
        return _NONE
    return str(number) if number < 1000 else _in_thousands(number, ("k", "M", "G", "T"))


def _in_thousands(value: int, units: tuple[str, ...]) -> str:
    amount = value / 1000
    for unit in units[:-1]:
        if amount < 1000:
            return f"{significant(amount)} {unit}"
        amount /= 1000
    return f"{significant(amount)} {units[-1]}"


def percent(share: float) -> str:
    """A share of 0 to 1 in percent; only what is whole is written as 0 or 100."""
    if share in {0, 1}:
        return f"{share:.0%}"
    text = f"{share:.2%}"
    return {"100.00%": "> 99.99%", "0.00%": "< 0.01%"}.get(text, text)


def scientific(value: float | None) -> str:
    """A difference: zero is said plainly; a dash for none."""
    if value is None:
        return _NONE
    return "0" if value == 0 else f"{value:.1e}"


def cosine(value: float | None) -> str:
    """A cosine, cut rather than rounded, so that 1 means 1 but for the error of computing it; a dash for none."""
    if value is None:
        return _NONE
    return "1" if value > 1 - 1e-12 else f"{int(value * 1e6) / 1e6:.6f}"


def shape(sizes: tuple[int | str | None, ...]) -> str:
    """A tensor shape; an unnamed dynamic size is a question mark."""
    return "[" + ", ".join("?" if size is None else str(size) for size in sizes) + "]"
