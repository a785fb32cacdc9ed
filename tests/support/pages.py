"""What the text of a report says."""

from __future__ import annotations

import re


def cells_of(document: str, caption: str) -> list[list[str]]:
    """The body of a table, as words."""
    body = re.search(rf'aria-label="{caption}".*?<tbody>(.*?)</tbody>', document, re.DOTALL)
    assert body is not None
    rows = re.findall(r"<tr>(.*?)</tr>", body.group(1), re.DOTALL)
    return [
        [re.sub(r"<.*?>", "", cell).strip() for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, re.DOTALL)]
        for row in rows
    ]
