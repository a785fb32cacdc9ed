"""How many requests one core of a load generator sends, by what its Locust users send them with.

    python tests/benchmarks/load_rates.py [--seconds 2] [--rounds 5] [--against responder triton] [--rows ROW ...]
        [--quiet CORES] [--json FILE] [--markdown FILE]

Each row is a Locust process of its own with eight users, on one core; the server has the other: one that answers every
request with the same bytes and is never what is waited for, or a real Triton with an identity model, which mostly is.
The rows take turns in random order, so that a slow moment of the machine hits each of them. Time is that of the wall
(the rate) and that of the processor (what a request takes of the core). With ``--quiet 0.15`` a turn during which
others (processes, or the host of a virtual machine) used more than 0.15 cores is played again, and the quietest of ten
counts: rates are then the machine's, and not what its neighbours leave of it. ``--json`` adds the turns to those that
the file has, and ``--markdown`` writes tables of all of them between the marks of a page; with ``--rounds 0`` of those
that the file has.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a script, this folder is no package yet

from benchmarks.client_peers import CODE, CONFIG, environment
from benchmarks.client_peers_clients import MODEL
from benchmarks.load_rates_clients import ROWS
from benchmarks.load_rates_quiet import quietest
from support.marks import write_between_marks

from tritonforge_generator.deploy import EmbeddedTriton

FOLDER: Final = Path(__file__).parent
Turn = Mapping[str, float]


@dataclass(frozen=True)
class Goal:
    """What a row is to reach: so many requests a second, or so much of another row's value.

    Attributes:
        row: The row.
        value: ``rate_per_s``, which is to be at least the limit, or ``cpu_us``, at most.
        limit: The limit, of the value itself or of its ratio.
        to: The row that the value is divided by; empty for the value itself.
    """

    row: str
    value: str
    limit: float
    to: str = ""

    def text(self, got: float) -> str:
        """The goal and what came of it."""
        relation, is_met = (
            ("at least", got >= self.limit) if self.value == "rate_per_s" else ("at most", got <= self.limit)
        )
        of = f" of {self.to}" if self.to else ""
        return f"{self.row}: {self.value} {relation} {self.limit:g}{of}: {'met' if is_met else 'MISSED'}, {got:.2f}"


GOALS: Final = (
    Goal("ours http, prepared", "rate_per_s", 12_000),
    Goal("ours http, prepared", "cpu_us", 0.5, "tritonclient http"),
    Goal("ours grpc, prepared", "rate_per_s", 6_000),
    Goal("ours grpc, prepared", "cpu_us", 1.10, "grpcio, bytes alone"),
    Goal("ours http", "cpu_us", 1.10, "ours http, without our user"),
    Goal("ours grpc", "cpu_us", 1.10, "ours grpc, without our user"),
)


def main() -> int:
    """Measure, print the tables, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="time of a turn (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each row (default: %(default)s)")
    parser.add_argument("--against", nargs="+", choices=list(SERVERS), default=list(SERVERS), help="the server")
    parser.add_argument(
        "--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW", help=", ".join(ROWS)
    )
    quiet_help = "cores that others may use during a turn; any number when left out"
    parser.add_argument("--quiet", type=float, default=math.inf, metavar="CORES", help=quiet_help)
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--markdown", type=Path, help="page whose marks 'rates' get the tables")
    arguments = parser.parse_args()
    document = earlier(arguments.json)
    if arguments.rounds == 0 and not document["runs"]:
        parser.error("--rounds 0 expects a file of earlier figures in --json")
    if arguments.rounds > 0:
        document["load_averages"].append(os.getloadavg()[0])
        for against in arguments.against:
            for row, turns in played(against, arguments).items():
                document["runs"].setdefault(against, {}).setdefault(row, []).extend(turns)
        document["load_averages"].append(os.getloadavg()[0])
        document["environment"] = environment()
    text = text_from_document(document)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if arguments.markdown is not None:
        write_between_marks(arguments.markdown, "rates", text)
    return 0


def earlier(path: Path | None) -> dict[str, Any]:
    """The figures that a file has; none where there is no file yet."""
    if path is None or not path.exists():
        return {"environment": {}, "load_averages": [], "goals": [asdict(goal) for goal in GOALS], "runs": {}}
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def played(against: str, arguments: argparse.Namespace) -> dict[str, list[Turn]]:
    """Let the rows take turns against one server, which has one core."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit(f"expected two cores, got {len(cores)}: the generator and the server need one each")
    print(f"{against} ...", file=sys.stderr, flush=True)
    os.sched_setaffinity(0, {cores[1]})  # inherited by the server
    try:
        with SERVERS[against]() as urls:
            game = Game(urls, cores[0], arguments.seconds, arguments.quiet)
            return game.turns(arguments.rows, arguments.rounds)
    finally:
        os.sched_setaffinity(0, set(cores))


@dataclass(frozen=True)
class Game:
    """How the rows take turns.

    Attributes:
        urls: The server's, by protocol.
        core: The generator's.
        seconds: Time of a turn.
        quiet_cores: What others may use of all cores during a turn.
    """

    urls: Mapping[str, str]
    core: int
    seconds: float
    quiet_cores: float

    def turns(self, rows: Sequence[str], rounds: int) -> dict[str, list[Turn]]:
        """Let the rows take turns: ``rate_per_s``, ``cpu_us``, ``core_share`` and ``others_cores`` of each."""
        turns: dict[str, list[Turn]] = {row: [] for row in rows}
        shuffled = random.Random(0)
        for _ in range(rounds):
            for row in shuffled.sample(list(rows), len(rows)):
                turn, others_cores = quietest(partial(self._turn, row), self.quiet_cores)
                turns[row].append({**turn, "others_cores": others_cores})
        return turns

    def _turn(self, row: str) -> Turn:
        task = {"row": row, "url": self.urls.get(ROWS[row].protocol, ""), "seconds": self.seconds, "core": self.core}
        command = [sys.executable, str(FOLDER / "load_rates_player.py"), json.dumps(task)]
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60 + self.seconds)
        if run.returncode != 0:
            raise SystemExit(f"{row} ended with {run.returncode}:\n{run.stderr}")
        turn: Turn = json.loads(run.stdout.splitlines()[-1])
        return turn


# ---- servers ----


@contextmanager
def responder() -> Iterator[dict[str, str]]:
    """The server of ``load_rates_responder.py``; gives its URLs by protocol."""
    command = [sys.executable, str(FOLDER / "load_rates_responder.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ports = json.loads(process.stdout.readline())
        yield {protocol: f"{protocol}://127.0.0.1:{port}" for protocol, port in ports.items()}
        # Leaving the block closes its standard input, which ends it.


@contextmanager
def triton() -> Iterator[dict[str, str]]:
    """A real Triton with an identity model in Python."""
    with tempfile.TemporaryDirectory() as folder:
        version = Path(folder) / MODEL / "1"
        version.mkdir(parents=True)
        (version.parent / "config.pbtxt").write_text(CONFIG)
        (version / "model.py").write_text(CODE)
        with EmbeddedTriton(folder) as server:
            yield {"grpc": server.grpc_url, "http": server.http_url}


SERVERS: Final = {"responder": responder, "triton": triton}


# ---- the table ----


def text_from_document(document: Mapping[str, Any]) -> str:
    """Where it was measured, and the table of each server."""
    facts, loads = document["environment"], document["load_averages"]
    where = f"{facts['cpus']} CPUs, Python {facts['python']}; load average {min(loads):.1f} to {max(loads):.1f}."
    return "\n\n".join([where, *(text_from_turns(against, turns) for against, turns in document["runs"].items())])


def text_from_turns(against: str, turns: Mapping[str, Sequence[Turn]]) -> str:
    """The table of one server, and which goals were met there."""
    lines = [
        f"Against {against}: medians of {len(next(iter(turns.values())))} turns, and their range.",
        "",
        f"| {'sent with':33} | {'requests/s':>24} | {'CPU us a request':>22} | its core | others | to tritonclient |",
        f"| {'-' * 33} | {'-' * 23}: | {'-' * 21}: | -------: | -----: | --------------: |",
    ]
    for row, of_row in turns.items():
        baseline = f"tritonclient {ROWS[row].protocol}"
        ratio = f"{ratio_of(turns, row, baseline, 'cpu_us'):.2f}" if baseline in turns and row != baseline else ""
        core, others = _median(of_row, "core_share"), _median(of_row, "others_cores")
        lines.append(
            f"| {row:33} | {_ranged(of_row, 'rate_per_s', ',.0f'):>24} | {_ranged(of_row, 'cpu_us', '.1f'):>22} "
            f"| {core:>8.2f} | {others:>6.2f} | {ratio:>15} |"
        )
    if against == "responder":
        lines += [
            "",
            *(
                f"- {goal.text(_reached(goal, turns))}"
                for goal in GOALS
                if {goal.row, goal.to or goal.row} <= set(turns)
            ),
        ]
    return "\n".join(lines)


def ratio_of(turns: Mapping[str, Sequence[Turn]], row: str, to: str, value: str) -> float:
    """Ratio of the medians."""
    return _median(turns[row], value) / _median(turns[to], value)


def _reached(goal: Goal, turns: Mapping[str, Sequence[Turn]]) -> float:
    return ratio_of(turns, goal.row, goal.to, goal.value) if goal.to else _median(turns[goal.row], goal.value)


def _median(turns: Sequence[Turn], value: str) -> float:
    return median(turn[value] for turn in turns)


def _ranged(turns: Sequence[Turn], value: str, form: str) -> str:
    values = [turn[value] for turn in turns]
    return f"{median(values):{form}} ({min(values):{form}}-{max(values):{form}})"


if __name__ == "__main__":
    sys.exit(main())
