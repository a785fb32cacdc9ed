"""The benchmarks of what a load generator sends: which turns count, and what they write."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from benchmarks import perf_analyzer
from benchmarks.load_rates_quiet import MOST_TRIES, quietest
from benchmarks.perf_analyzer import Measured, taken, text_from_turns

SCRIPT = Path(__file__).parents[1] / "benchmarks/load_rates.py"
BARE, OURS = "ours http, without our user", "ours http"


def turns_of(*cpu_us: float) -> list[dict[str, float]]:
    return [{"rate_per_s": 1e6 / us, "cpu_us": us, "core_share": 1.0, "others_cores": 0.1} for us in cpu_us]


@pytest.mark.parametrize(("most_cores", "tries"), [(1000.0, 1), (-1.0, MOST_TRIES)])
def test_a_turn_is_played_again_until_it_is_quiet_but_not_for_ever(most_cores: float, tries: int) -> None:
    played: list[int] = []

    def turn() -> int:
        played.append(len(played))
        time.sleep(0.02)
        return played[-1]

    got, others_cores = quietest(turn, most_cores)
    assert len(played) == tries
    assert got in played
    assert others_cores >= 0


def test_rates_are_added_up_in_a_file_and_written_into_a_page(tmp_path: Path) -> None:
    page, figures = tmp_path / "page.md", tmp_path / "rates.json"
    page.write_text("before\n<!-- rates:begin -->\nold\n<!-- rates:end -->\nafter\n")
    document: dict[str, Any] = {
        "environment": {"cpus": 2, "python": "3.11.7"},
        "load_averages": [0.5, 1.25],
        "goals": [],
        "runs": {"responder": {BARE: turns_of(100, 90, 120), OURS: turns_of(105, 104, 108)}},
    }
    figures.write_text(json.dumps(document))
    command = [sys.executable, str(SCRIPT), "--rounds", "0", "--json", str(figures), "--markdown", str(page)]
    subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    text = page.read_text()
    assert text.startswith("before\n<!-- rates:begin -->\n2 CPUs, Python 3.11.7; load average 0.5 to 1.2.\n\n")
    assert text.endswith("<!-- rates:end -->\nafter\n")
    assert "10,000 (8,333-11,111)" in text
    assert f"- {OURS}: cpu_us at most 1.1 of {BARE}: met, 1.05" in text
    assert "tritonclient http: " not in text  # goals of rows that were not measured
    assert json.loads(figures.read_text()) == document


def test_rounds_of_none_without_earlier_figures_are_refused(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--rounds", "0", "--json", str(tmp_path / "none.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "--rounds 0 expects a file of earlier figures" in done.stderr


def test_both_tools_take_their_turns_and_are_held_to_the_goal(tmp_path: Path) -> None:
    tools = {"perf_analyzer": lambda: Measured(1000, 4.0), "ours": lambda: Measured(880, 4.1)}
    turns = taken(tools, rounds=2, quiet_cores=1000)
    assert {name: len(of_tool) for name, of_tool in turns.items()} == {"perf_analyzer": 2, "ours": 2}
    text = text_from_turns({"grpc, 16 at once": turns}, model_ms=2)
    assert "| grpc, 16 at once | 1,000 (1,000-1,000) | 880 (880-880) | -12.0% |" in text
    assert "| 4.10 (4.10-4.10) | +0.10 | 1.0 | 1.0 |" in text
    assert "MISSED for grpc, 16 at once" in text
    assert perf_analyzer.earlier(tmp_path / "none.json") == {}
