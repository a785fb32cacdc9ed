"""A real headless Chromium: takes pictures of a page and measures it at a width and in a palette."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest

# The page is shown in a frame, which may be narrower than the narrowest window. The frame is of the same origin because
# its text is in the frame's own attribute; the probe outside measures it and leaves the figures in the document.
_STAGE = """<!DOCTYPE html><html><head><meta charset="utf-8"></head><body style="margin:0">
<iframe id="page" style="border:0;width:{width}px;height:{height}px" srcdoc="{page}"></iframe>
<pre id="figures"></pre>
<script>
const frame = document.getElementById("page");
function probe() {{
  const inner = frame.contentDocument, box = (e) => e.getBoundingClientRect();
  document.getElementById("figures").textContent = JSON.stringify({{
    client_width: inner.documentElement.clientWidth,
    scroll_width: inner.documentElement.scrollWidth,
    content_height: inner.documentElement.scrollHeight,
    background: inner.defaultView.getComputedStyle(inner.body).backgroundColor,
    svgs: [...inner.querySelectorAll("svg")].map((e) => [box(e).width, box(e).height]),
    strokes: [...inner.querySelectorAll("svg path")].map((e) => inner.defaultView.getComputedStyle(e).stroke),
    headings: [...inner.querySelectorAll("h1, h2")].map((e) => e.textContent),
    clipped: [...inner.querySelectorAll("main *, header *")]
      .filter((e) => !e.closest(".scroll, .hidden, svg") && box(e).right > inner.documentElement.clientWidth + 0.5)
      .map((e) => e.tagName + " " + e.textContent.slice(0, 40)),
  }});
}}
frame.addEventListener("load", probe);
if (frame.contentDocument.readyState === "complete") probe();
</script></body></html>"""


@dataclass(frozen=True)
class Look:
    """What a browser made of a page: ``figures`` as the probe above measures them, and its console's lines."""

    figures: dict[str, Any]
    console: list[str]
    picture: Path


def look_at(document: str, folder: Path, *, width: int, dark: bool = False) -> Look:
    """Render a document; skips the test where no browser is installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((path for path in map(shutil.which, names) if path is not None), None)
    if browser is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is on PATH")
    name = f"{width}_{'dark' if dark else 'light'}"
    stage, picture = folder / f"{name}.html", folder / f"{name}.png"
    height = 6000 if width < 600 else 3300
    stage.write_text(_STAGE.format(width=width, height=height, page=escape(document)), encoding="utf-8")
    dom, errors = _chromium(browser, stage, ["--dump-dom"], dark, width, height)
    _chromium(browser, stage, [f"--screenshot={picture}"], dark, width, height)
    found = re.search(r'<pre id="figures">(.+?)</pre>', dom, re.DOTALL)
    if found is None:
        pytest.fail(f"the probe did not run: {errors}")
    console = [line for line in errors.splitlines() if "CONSOLE" in line]
    return Look(json.loads(unescape(found.group(1))), console, picture)


def _chromium(browser: str, page: Path, what: list[str], dark: bool, width: int, height: int) -> tuple[str, str]:
    with tempfile.TemporaryDirectory() as profile:
        flags = (
            "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
            "--disable-component-update --disable-sync --hide-scrollbars --enable-logging=stderr"
        )
        palette = ["--blink-settings=preferredColorScheme=0"] if dark else []
        command = [browser, *flags.split(), f"--user-data-dir={profile}", f"--window-size={max(width, 500)},{height}"]
        done = subprocess.run(
            [*command, *palette, *what, page.as_uri()], capture_output=True, text=True, timeout=60, check=False
        )
    if done.returncode != 0:
        pytest.fail(f"{browser} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout, done.stderr
