"""docs/performance.md says what was measured, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.performance_document import RESULTS, document_from_results

ROOT = Path(__file__).parents[1]


def test_the_document_is_made_of_the_results() -> None:
    results = json.loads((ROOT / RESULTS).read_text(encoding="utf-8"))
    assert (ROOT / "docs/performance.md").read_text(encoding="utf-8") == document_from_results(results)
