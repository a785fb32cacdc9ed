"""Places of a page that a program writes."""

from __future__ import annotations

from pathlib import Path


def write_between_marks(page: Path, name: str, text: str) -> None:
    """Replace what a page has between ``<!-- name:begin -->`` and ``<!-- name:end -->``.

    Raises:
        SystemExit: It has no such place.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, found_begin, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if found_begin == "" or found_end == "":
        raise SystemExit(f"{page}: expected {begin} and {end} around what is to be replaced")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
