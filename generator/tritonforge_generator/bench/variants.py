"""The forms of a model that are compared: graphs with their types written in, and plans. All calls of those stages."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from tritonforge_generator.bench.child import OnMessage, run_job
from tritonforge_generator.bench.options import BenchOptions
from tritonforge_generator.graph import Graph, Samples
from tritonforge_generator.plan import profiles_from_options
from tritonforge_generator.precision import Calibration, PrecisionStage, calibration_from_text
from tritonforge_generator.spec import PrecisionOptions, PrecisionType


class Variants:
    """Makes each form of a model once.

    Args:
        graph: The FP32 model.
        samples: What is timed and judged; calibration leaves it out.
        options: What was asked for.
        folder: Where the files go.
    """

    def __init__(self, graph: Graph, samples: Samples, options: BenchOptions, folder: Path) -> None:
        self._graph = graph
        self._samples = samples
        self._options = options
        self._folder = folder
        self._typed: dict[str, Path] = {"FP32": graph.source.path, "TF32": graph.source.path}

    @cached_property
    def calibration(self) -> Calibration:
        """Samples that show the ranges.

        Raises:
            SpecError: They cannot be read, or are those that are judged.
        """
        return calibration_from_text(
            self._options.calibration.samples,
            self._graph.inputs,
            self._samples,
            batched=self._graph.batch.found,
            seed=self._options.samples.seed,
        )

    def typed_graph(self, precision: str) -> Path:
        """The graph with its types written in.

        Raises:
            PrecisionError: The types cannot be written.
        """
        if precision not in self._typed:
            folder = self._folder / precision.lower()
            folder.mkdir(parents=True, exist_ok=True)
            stage = PrecisionStage(
                self._graph.source.path,
                PrecisionOptions(type=cast("PrecisionType", precision), calibration=self._options.calibration),
                self.calibration,
                batched=self._graph.batch.found,
            )
            self._typed[precision] = stage.typed_graph(folder).path
        return self._typed[precision]

    def plan(
        self, precision: str, batch_sizes: tuple[int, ...], on_message: OnMessage
    ) -> tuple[Path, Mapping[str, Any]]:
        """Build a plan in the Python that has TensorRT, for batches up to the largest and timed with that.

        Returns:
            The file and its facts.

        Raises:
            BenchError: It cannot be built.
            PlanError: An input has a dynamic axis that nothing gives a size for.
        """
        network = self.typed_graph(precision)
        path = self._folder / precision.lower() / "model.plan"
        path.parent.mkdir(parents=True, exist_ok=True)
        batched = self._graph.batch.found
        (profile, *_) = profiles_from_options(
            self._graph.inputs,
            self._options.tensorrt,
            max_batch_size=max(batch_sizes) if batched else 0,
            opt_batch_size=max(batch_sizes),
            sample_shapes={name: array.shape[1:] for name, array in self._samples.arrays.items()},
        )
        request = {
            "job": "build",
            "runtime": "tensorrt",
            "precision": precision,
            "model": str(network.absolute()),
            "plan": str(path.absolute()),
            "options": self._options.tensorrt.model_dump(mode="json"),
            "profile": {name: shapes.model_dump(mode="json") for name, shapes in profile.items()},
        }
        facts: Mapping[str, Any] = run_job(request, self._options.interpreter("tensorrt"), on_message)
        return path, facts
