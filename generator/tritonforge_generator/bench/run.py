"""The whole comparison: what can run here, in which forms, how fast and how right."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tritonforge_generator.bench.child import OnMessage, run_job
from tritonforge_generator.bench.gpu import GpuWatch
from tritonforge_generator.bench.judge import Judge, labels_from_npz
from tritonforge_generator.bench.options import BenchOptions
from tritonforge_generator.bench.runtimes import RUNTIMES, Interpreter, Runtime
from tritonforge_generator.bench.variants import Variants
from tritonforge_generator.errors import BenchError, RuntimeMissingError, SpecError, TritonforgeError
from tritonforge_generator.graph import Graph, OnnxSession, Samples, graph_from_source
from tritonforge_generator.graph.from_source import runnable_samples
from tritonforge_generator.report import Bench, BenchEntry, BenchRow, Latency, LeftOut
from tritonforge_generator.source import source_from_path

_NOTABLE_DRIFT: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRun:
    """A finished comparison.

    Attributes:
        graph: The model.
        bench: What came of it.
        stage_s: Seconds of each step.
    """

    graph: Graph
    bench: Bench
    stage_s: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One runtime in one precision, ready to be measured.

    Attributes:
        runtime: The runtime.
        precision: What it computes in.
        model: The ONNX file it runs, or was built from.
        plan: The plan, for TensorRT.
        plan_facts: What is known of that.
    """

    runtime: Runtime
    precision: str
    model: Path
    plan: Path | None = None
    plan_facts: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """Runtime and precision for people."""
        return f"{self.runtime.label} {self.precision}"


def run_bench(path: Path, options: BenchOptions, on_progress: OnMessage = lambda *_: None) -> BenchRun:
    """Compare runtimes on an ONNX model.

    Every runtime runs in a process of its own, one after the other, on the same samples; its answers are compared with
    those of ONNX Runtime on the CPU in FP32. What cannot run is left out by name.

    Args:
        path: The model, in FP32.
        options: What to compare.
        on_progress: Told what is being done.

    Raises:
        SourceError: The model cannot be read.
        GraphError: It does not run.
        SpecError: Samples, labels or calibration data do not fit it.
    """
    graph = graph_from_source(source_from_path(path), options.samples)
    _refuse_strings(graph)
    session = OnnxSession(path)
    samples = runnable_samples(session, options.samples, batched=graph.batch.found)
    with _kept(options.folder) as folder:
        bench = _Bench(graph, samples, options, folder, on_progress)
        with bench.timed("reference"):
            judge = Judge(session, samples, _labels(options, samples), batched=graph.batch.found)
        return BenchRun(graph=graph, bench=bench.compare(judge), stage_s=bench.stage_s)


class _Bench:
    def __init__(
        self, graph: Graph, samples: Samples, options: BenchOptions, folder: Path, on_progress: OnMessage
    ) -> None:
        self.stage_s: dict[str, float] = {}
        self._graph = graph
        self._samples = samples
        self._options = options
        self._folder = folder
        self._on_progress = on_progress
        self._batch_sizes = tuple(sorted(set(options.batch_sizes))) if graph.batch.found else (1,)
        self._left_out: list[LeftOut] = []
        self._versions: dict[str, str] = {}
        np.savez(folder / "samples.npz", **{f"input/{name}": array for name, array in samples.arrays.items()})

    def compare(self, judge: Judge) -> Bench:
        """Prepare everything first, so that no build runs between measurements; then measure."""
        variants = Variants(self._graph, self._samples, self._options, self._folder)
        candidates = list(self._prepared(variants))
        entries = [entry for one in candidates if (entry := self._entry(one, judge)) is not None]
        baseline = _baseline(entries, self._options.baseline)
        drift = self._drift(baseline, candidates, judge)
        return Bench(
            model=self._graph.source.path.name,
            samples=self._samples.origin,
            labelled=judge.labelled,
            reference_correct_share=judge.reference_correct_share,
            baseline=baseline.name if baseline is not None else "",
            drift=drift,
            entries=tuple(_with_speedups(entry, baseline) for entry in entries),
            left_out=tuple(self._left_out),
            notes=tuple(self._notes(entries, drift)),
        )

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count what follows as a step."""
        self._on_progress(stage, None)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.stage_s[stage] = time.perf_counter() - start

    def _prepared(self, variants: Variants) -> Iterator[Candidate]:
        for runtime in (RUNTIMES[name] for name in self._options.runtimes):
            if not self._is_there(runtime):
                continue
            lacking = [one for one in self._options.precisions if one not in runtime.precisions]
            if lacking:
                self._left_out.append(LeftOut(name=f"{runtime.label} {', '.join(lacking)}", reason=runtime.lacking))
            for precision in self._options.precisions:
                if precision in runtime.precisions and f"{runtime.name}:{precision}" not in self._options.skip:
                    candidate = self._candidate(runtime, precision, variants)
                    if candidate is not None:
                        yield candidate

    def _is_there(self, runtime: Runtime) -> bool:
        if runtime.package == "torch" and self._options.torch is None:
            self._leave_out(
                runtime.label,
                RuntimeMissingError("no module was given", action="Name it with --torch torch:package.module:factory."),
            )
            return False
        try:
            with self.timed(f"{runtime.label}: looking for it"):
                request = {"job": "probe", "runtime": runtime.name, "device_id": self._options.tensorrt.device_id}
                self._versions[runtime.name] = run_job(request, self._interpreter(runtime))
        except BenchError as error:
            self._leave_out(runtime.label, error)
            return False
        return True

    def _interpreter(self, runtime: Runtime) -> Interpreter:
        return self._options.interpreter(runtime.name)

    def _candidate(self, runtime: Runtime, precision: str, variants: Variants) -> Candidate | None:
        name = f"{runtime.label} {precision}"
        try:
            if runtime.package == "torch":
                return Candidate(runtime=runtime, precision=precision, model=self._graph.source.path)
            with self.timed(f"{precision} graph"):
                model = variants.typed_graph(precision)
            if runtime.name != "tensorrt":
                return Candidate(runtime=runtime, precision=precision, model=model)
            with self.timed(f"{name} plan"):
                plan, facts = variants.plan(precision, self._batch_sizes, self._on_progress)
        except SpecError:
            raise
        except TritonforgeError as error:
            self._leave_out(name, error)
            return None
        return Candidate(runtime=runtime, precision=precision, model=model, plan=plan, plan_facts=facts)

    def _entry(self, candidate: Candidate, judge: Judge) -> BenchEntry | None:
        try:
            with self.timed(candidate.name):
                return self._measured(candidate, judge, self._batch_sizes, self._options.repeats)
        except BenchError as error:
            self._leave_out(candidate.name, error)
            return None

    def _measured(self, candidate: Candidate, judge: Judge, batch_sizes: tuple[int, ...], repeats: int) -> BenchEntry:
        request = self._request(candidate, batch_sizes, repeats)
        with GpuWatch(self._options.tensorrt.device_id) as watch:

            def follow(text: str, batch_size: int | None) -> None:
                watch.batch_size = batch_size
                self._on_progress(f"{candidate.name}: {text}", batch_size)

            result = run_job(request, self._interpreter(candidate.runtime), follow)
        answers = Path(request["answers"])
        verdict = judge.verdict(answers, candidate.precision, batch_sizes)
        answers.unlink()
        return BenchEntry(
            runtime=candidate.runtime.name,
            label=candidate.runtime.label,
            precision=candidate.precision,
            rows=tuple(
                BenchRow(
                    batch_size=size,
                    compute=Latency(**row["compute"]),
                    total=Latency(**row["total"]),
                    speedup=None,
                    total_speedup=None,
                    relative_error=verdict.by_batch_size[size],
                    steady=row["steady"],
                    gpu=watch.use(size) if result["on_gpu"] else None,
                )
                for size in batch_sizes
                if (row := result["rows"][str(size)])
            ),
            relative_error=verdict.relative_error,
            top1=verdict.top1,
            finite=verdict.finite,
            accurate=verdict.accurate,
            correct_share=verdict.correct_share,
            pass_ms=result["pass_ms"],
            on_gpu=result["on_gpu"],
            version=self._versions[candidate.runtime.name],
            plan=candidate.plan_facts,
        )

    def _request(self, candidate: Candidate, batch_sizes: tuple[int, ...], repeats: int) -> dict[str, Any]:
        """What the worker is asked."""
        folder = self._folder.absolute()
        return {
            "job": "measure",
            "runtime": candidate.runtime.name,
            "precision": candidate.precision,
            "model": str(candidate.model.absolute()),
            "plan": str(candidate.plan.absolute()) if candidate.plan is not None else None,
            "torch": self._options.torch,
            "device_id": self._options.tensorrt.device_id,
            "inputs": [tensor.name for tensor in self._graph.inputs],
            "outputs": [tensor.name for tensor in self._graph.outputs],
            "samples": str(folder / "samples.npz"),
            "answers": str(folder / "answers.npz"),
            "batched": self._graph.batch.found,
            "batch_sizes": list(batch_sizes),
            "seconds": self._options.seconds,
            "repeats": repeats,
        }

    def _drift(self, baseline: BenchEntry | None, candidates: Sequence[Candidate], judge: Judge) -> float | None:
        """Measure the baseline again at the end: a machine that slowed down would flatter whoever came first."""
        candidate = next((one for one in candidates if baseline is not None and one.name == baseline.name), None)
        if baseline is None or candidate is None or len(candidates) < 2:
            return None
        try:
            with self.timed(f"{candidate.name} again"):
                again = self._measured(candidate, judge, self._batch_sizes[-1:], 1)
        except BenchError:
            return None
        return again.rows[-1].compute.p50_ms / baseline.rows[-1].compute.p50_ms

    def _leave_out(self, name: str, error: TritonforgeError) -> None:
        reason = error.what + (f": {error.got}" if error.got != "" else "")
        self._left_out.append(LeftOut(name=name, reason=reason, action=error.action))

    def _notes(self, entries: Sequence[BenchEntry], drift: float | None) -> Iterator[str]:
        if not self._graph.batch.found:
            yield f"Calls are of one sample, because {self._graph.batch.note}."
        if self._options.calibration.samples is None and any(one.precision in {"INT8", "FP8"} for one in entries):
            yield "Ranges for INT8 and FP8 come from drawn samples; give real ones with --calibration."
        unsteady = [f"{one.name} at batch {row.batch_size}" for one in entries for row in one.rows if not row.steady]
        if unsteady:
            yield f"Call times had not settled when they were taken: {', '.join(unsteady)}."
        if drift is not None and abs(drift - 1) > _NOTABLE_DRIFT:
            yield f"At the end the baseline took {drift:.2f} times as long as at the start: the machine was not steady."


def _labels(options: BenchOptions, samples: Samples) -> npt.NDArray[Any] | None:
    if options.labels is None or options.samples.path is None:
        return None
    return labels_from_npz(options.samples.path, options.labels, samples.count)


@contextmanager
def _kept(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="tritonforge-bench-") as temporary:
        yield Path(temporary)


def _refuse_strings(graph: Graph) -> None:
    strings = [tensor.name for tensor in graph.inputs if tensor.datatype == "BYTES"]
    if strings:
        raise SpecError(
            f"input '{strings[0]}' takes strings",
            expected="numbers, which every runtime takes",
            got="BYTES",
            action="Compare the graph behind the part that reads them.",
        )


def _baseline(entries: Sequence[BenchEntry], wanted: str | None) -> BenchEntry | None:
    """The entry asked for; the first where none was, or where that one was left out."""
    named = (one for one in entries if f"{one.runtime}:{one.precision}" == wanted)
    return next(named, next(iter(entries), None))


def _with_speedups(entry: BenchEntry, baseline: BenchEntry | None) -> BenchEntry:
    base = {row.batch_size: row for row in baseline.rows} if baseline is not None else {}
    rows = [
        replace(
            row,
            speedup=base[row.batch_size].compute.p50_ms / row.compute.p50_ms,
            total_speedup=base[row.batch_size].total.p50_ms / row.total.p50_ms,
        )
        for row in entry.rows
    ]
    return replace(entry, rows=tuple(rows))
