"""A part of a page that another package writes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """One figure at the top of a page.

    Attributes:
        label: What it is.
        value: The figure.
        unit: Its unit, where it is not part of the figure.
        note: What it is of.
    """

    label: str
    value: str
    unit: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a page with its share of the page's top.

    Attributes:
        html: ``<section>`` elements, from templates that escape what they are given.
        headline: Its figures at the top.
        judged: Whether it has a verdict.
        failures: One sentence for each verdict that is not a pass.
    """

    html: str
    headline: tuple[Headline, ...] = ()
    judged: bool = False
    failures: tuple[str, ...] = ()
