from __future__ import annotations

import pytest
from support import reports

from tritonforge_generator.report import figures
from tritonforge_generator.report.pbtxt import lines_from_text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.08812, "0.0881"), (9.996, "10.0"), (12.34, "12.3"), (1440.7, "1,441"), (-2.5, "-2.50")],
)
def test_significant(value: float, text: str) -> None:
    assert figures.significant(value) == text


@pytest.mark.parametrize(
    ("value_ms", "text"), [(0.4123, "412 µs"), (1.0, "1.00 ms"), (12.41, "12.4 ms"), (2500, "2.50 s")]
)
def test_latency(value_ms: float, text: str) -> None:
    assert figures.latency(value_ms) == text


@pytest.mark.parametrize(
    ("value_ms", "text"), [(None, "\N{EN DASH}"), (0.088, "0.088"), (2.391, "2.39"), (1234.5, "1,234")]
)
def test_milliseconds(value_ms: float | None, text: str) -> None:
    assert figures.milliseconds(value_ms) == text


@pytest.mark.parametrize(
    ("value_s", "text"),
    [(0.012, "12.0 ms"), (15.0, "15 s"), (41.31, "41.3 s"), (59.9999, "60.0 s"), (125, "2 min 5 s")],
)
def test_duration(value_s: float, text: str) -> None:
    assert figures.duration(value_s) == text


@pytest.mark.parametrize(("size_bytes", "text"), [(12, "12 bytes"), (125_122, "125 kB"), (2_147_483_648, "2.15 GB")])
def test_size(size_bytes: int, text: str) -> None:
    assert figures.size(size_bytes) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "\N{EN DASH}"), (999, "999"), (236_027_904, "236 M"), (4 * 10**15, "4,000 T")]
)
def test_flops(number: int, text: str) -> None:
    assert figures.flops(number) == text


@pytest.mark.parametrize(
    ("share", "text"), [(1, "100%"), (0.99999, "> 99.99%"), (0.991666, "99.17%"), (0.00001, "< 0.01%"), (0, "0%")]
)
def test_percent_never_rounds_to_whole(share: float, text: str) -> None:
    assert figures.percent(share) == text


def test_differences_and_shapes() -> None:
    assert [figures.scientific(value) for value in (None, 0.0, 3.81e-6)] == ["\N{EN DASH}", "0", "3.8e-06"]
    assert [figures.cosine(value) for value in (None, 1.0, 1 - 2**-52, 0.99999997)] == [
        *("\N{EN DASH}", "1", "1", "0.999999")
    ]
    assert figures.shape(("batch", None, 8)) == "[batch, ?, 8]"


def test_config_lines_keep_every_letter() -> None:
    lines = list(lines_from_text(reports.CONFIG))
    rows = reports.CONFIG.splitlines()

    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert "".join(token.text for token in line.tokens) == row.partition("#")[0].rstrip()
        assert line.comment == row.partition("#")[2].strip()


def test_config_colours() -> None:
    line = next(lines_from_text('  value: "a \\"quoted\\" # sign"  # why'))
    kinds = {token.kind: token.text for token in line.tokens if token.kind != "other"}

    assert kinds == {"field": "value", "string": '"a \\"quoted\\" # sign"'}
    assert line.comment == "why"
    line = next(lines_from_text("kind: [ KIND_CPU, -1, 0.5 ]"))
    assert [(token.kind, token.text) for token in line.tokens if token.kind != "other"] == [
        ("field", "kind"),
        ("word", "KIND_CPU"),
        ("number", "-1"),
        ("number", "0.5"),
    ]
