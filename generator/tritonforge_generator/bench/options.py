"""What a comparison is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from tritonforge_generator.bench.runtimes import DEFAULT_RUNTIMES, RUNTIMES, Interpreter
from tritonforge_generator.errors import SpecError
from tritonforge_generator.graph import SampleOptions
from tritonforge_generator.spec import CalibrationOptions, PrecisionType, TensorRTOptions

PRECISIONS: tuple[PrecisionType, ...] = get_args(PrecisionType)
DEFAULT_PRECISIONS: tuple[PrecisionType, ...] = ("FP32", "TF32", "FP16", "INT8")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """A comparison.

    Attributes:
        batch_sizes: Rows of a call.
        precisions: What to compute in.
        runtimes: What to run.
        skip: ``RUNTIME:PRECISION`` of what to leave out of these.
        samples: Inputs that are timed and judged.
        labels: Array of the samples' file that holds the right class of each sample.
        torch: ``torch:package.module:factory`` of the module that the graph was exported from.
        calibration: Inputs that show ranges, for FP16, BF16, INT8 and FP8.
        tensorrt: How plans are built; its ``device_id`` is the GPU of every runtime.
        interpreters: The Python of a runtime, where it is not this one.
        baseline: ``RUNTIME:PRECISION`` that the others are compared with; by default the first that is measured.
        seconds: Time for each batch size of each entry, once with copies and once without.
        repeats: Turns that this time is spread over.
        folder: Where typed graphs and plans are kept; by default nowhere.

    Raises:
        SpecError: A name is unknown, or a number too small.
    """

    batch_sizes: tuple[int, ...] = (1, 8, 32)
    precisions: tuple[str, ...] = DEFAULT_PRECISIONS
    runtimes: tuple[str, ...] = DEFAULT_RUNTIMES
    skip: tuple[str, ...] = ()
    samples: SampleOptions = field(default_factory=SampleOptions)
    labels: str | None = None
    torch: str | None = None
    calibration: CalibrationOptions = field(default_factory=CalibrationOptions)
    tensorrt: TensorRTOptions = field(default_factory=TensorRTOptions)
    interpreters: Mapping[str, Interpreter] = field(default_factory=dict)
    baseline: str | None = None
    seconds: float = 1.0
    repeats: int = 3
    folder: Path | None = None

    def __post_init__(self) -> None:
        _known("--runtimes", self.runtimes, tuple(RUNTIMES))
        _known("--precision", self.precisions, PRECISIONS)
        _known("--python or --env", tuple(self.interpreters), tuple(RUNTIMES))
        entries = tuple(f"{runtime}:{precision}" for runtime in self.runtimes for precision in self.precisions)
        _known("--skip", self.skip, entries)
        _known("--baseline", () if self.baseline is None else (self.baseline,), entries)
        if self.labels is not None and self.samples.path is None:
            raise SpecError("--labels names an array of no file", expected="--samples with that array", got="none")
        numbers = {"--batch-sizes": min(self.batch_sizes, default=0), "--repeats": self.repeats}
        for flag, least in numbers.items():
            if least < 1:
                raise SpecError(f"{flag} cannot be measured", expected="whole numbers of at least 1", got=str(least))
        if self.seconds <= 0:
            raise SpecError("--seconds cannot be measured", expected="more than 0", got=f"{self.seconds:g}")

    def interpreter(self, runtime: str) -> Interpreter:
        """The Python of a runtime."""
        return self.interpreters.get(runtime, Interpreter())


def _known(flag: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        raise SpecError(f"{flag} has an unknown name", expected=", ".join(known), got=", ".join(unknown))
