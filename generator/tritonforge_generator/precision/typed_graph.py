"""The precision stage: a graph with its number types written into it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tritonforge_generator.errors import PrecisionError
from tritonforge_generator.graph import OnnxSession, Samples
from tritonforge_generator.hashing import sha256_of_file
from tritonforge_generator.precision.calibration import Calibration
from tritonforge_generator.precision.half import (
    HalfPlan,
    KeptNode,
    half_plan,
    reasons_from_patterns,
    rounded_model,
    typed_model,
)
from tritonforge_generator.precision.model_file import loaded, require_opset, saved
from tritonforge_generator.precision.quantize import (
    activations_of,
    fp8_check_model,
    quantizable_nodes,
    quantized_model,
)
from tritonforge_generator.precision.ranges import ranges_from_samples
from tritonforge_generator.precision.thresholds import thresholds_from_samples
from tritonforge_generator.spec import CalibrationOptions, PrecisionOptions, PrecisionType

MODEL_FILENAME: Final = "model.onnx"
_CHECK_FILENAME: Final = "rounded.onnx"
_LEAST_OPSET: Final[Mapping[PrecisionType, int]] = {"FP16": 9, "BF16": 13, "INT8": 13, "FP8": 19}


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedGraph:
    """A graph that computes in the types asked for, wherever it runs.

    Attributes:
        path: The ONNX file; weights above 1.9 GB lie beside it.
        sha256: Hex digest of that file.
        precision: The types.
        check_path: What to run on a CPU to see what the types do to the numbers: the graph itself, or for FP16, BF16
            and FP8 a form of it that computes in FP32 and rounds.
        kept_fp32: Nodes that could be smaller and are not, with reasons.
        layer_count: Nodes that could be smaller.
        calibration: Fingerprint and origin of the calibration samples; empty where none were used.
    """

    path: Path
    sha256: str
    precision: PrecisionType
    check_path: Path
    kept_fp32: tuple[KeptNode, ...] = ()
    layer_count: int = 0
    calibration: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data for reports and the manifest, without paths."""
        return {
            "precision": self.precision,
            "sha256": self.sha256,
            "kept_fp32": [asdict(node) for node in self.kept_fp32],
            "layer_count": self.layer_count,
            "calibration": self.calibration,
        }


class PrecisionStage:
    """Writes types into one graph, as often as a search for the right ones needs.

    Args:
        source: The FP32 graph; it is only read.
        options: What the user declared.
        calibration: Samples that show the ranges.
        batched: Whether a sample is one row of a batch.

    Raises:
        PrecisionError: The graph is too old for the types, or a name in ``keep_fp32`` fits no node.
    """

    def __init__(self, source: Path, options: PrecisionOptions, calibration: Calibration, *, batched: bool) -> None:
        self.source = source
        self.options = options
        self._calibration = calibration
        self._batched = batched
        self.model = loaded(source)
        self._declared = self._declared_reasons()
        if options.type in _LEAST_OPSET:
            require_opset(self.model, _LEAST_OPSET[options.type], reason=f"precision {options.type}")
        self._ranges = self._found_ranges()  # once: a search writes the graph again and again

    @property
    def _samples(self) -> Samples:
        return self._calibration.samples

    def typed_graph(self, folder: Path, *, kept: Mapping[str, str] | None = None) -> TypedGraph:
        """Write the graph.

        Args:
            folder: Where to; nothing in it is read.
            kept: By name of a node that must stay in FP32 beside those declared, the reason.

        Raises:
            PrecisionError: The types cannot be written.
        """
        reasons = {**self._declared, **(kept or {})}
        path = folder / MODEL_FILENAME
        if self.options.type in {"FP32", "TF32"}:
            return self._finished(self.source, self.source, (), 0)
        if self.options.type in {"INT8", "FP8"}:
            return self._quantized(path, reasons)
        plan = self._half_plan(reasons)
        saved(typed_model(self.model, plan), path)
        check_path = saved(rounded_model(self.model, plan), folder / _CHECK_FILENAME)
        return self._finished(path, check_path, plan.kept, plan.candidate_count)

    def candidates(self, typed: TypedGraph) -> list[str]:
        """Nodes that are smaller now and could be kept in FP32, in graph order."""
        kept = {node.name for node in typed.kept_fp32}
        if typed.precision in {"FP16", "BF16"}:
            slots = self._half_plan({}).slots
            return [node.name for node in self.model.graph.node if node.name in slots and node.name not in kept]
        return [name for name in quantizable_nodes(self.model) if name not in kept]

    def _found_ranges(self) -> Mapping[str, float]:
        """The largest magnitudes for 16 bits, the thresholds for fewer, and nothing for FP32."""
        if self.options.type in {"FP32", "TF32"}:
            return {}
        if self.options.type in {"FP16", "BF16"}:
            return ranges_from_samples(self.model, self._samples, batched=self._batched)
        # FP8 has an exponent of its own, so that a range that holds everything costs small values nothing.
        options = self.options.calibration if self.options.type == "INT8" else CalibrationOptions(method="MinMax")
        return thresholds_from_samples(
            self.model, activations_of(self.model), self._samples, options, batched=self._batched
        )

    def _half_plan(self, reasons: Mapping[str, str]) -> HalfPlan:
        half = "FP16" if self.options.type == "FP16" else "BF16"
        return half_plan(self.model, half, reasons=reasons, ranges=self._ranges)  # type: ignore[arg-type]

    def _quantized(self, path: Path, reasons: Mapping[str, str]) -> TypedGraph:
        kind = "INT8" if self.options.type == "INT8" else "FP8"
        model = quantized_model(self.model, kind, self._ranges, excluded=reasons)  # type: ignore[arg-type]
        saved(model, path)
        check_path = saved(fp8_check_model(model), path.with_name(_CHECK_FILENAME)) if kind == "FP8" else path
        operators = {node.name: node.op_type for node in self.model.graph.node}
        layers = list(quantizable_nodes(self.model))
        kept = tuple(
            KeptNode(name=name, operator=operators[name], reason=reasons[name]) for name in layers if name in reasons
        )
        return self._finished(path, check_path, kept, len(layers))

    def _finished(self, path: Path, check_path: Path, kept: tuple[KeptNode, ...], layer_count: int) -> TypedGraph:
        OnnxSession(check_path)  # it must load before anything is built from it; BF16 itself has no CPU kernels
        used = self.options.type not in {"FP32", "TF32"}
        return TypedGraph(
            path=path,
            sha256=sha256_of_file(path),
            precision=self.options.type,
            check_path=check_path,
            kept_fp32=kept,
            layer_count=layer_count,
            calibration=f"{self._samples.origin}, sha256 {self._calibration.sha256}" if used else "",
        )

    def _declared_reasons(self) -> dict[str, str]:
        reasons, idle = reasons_from_patterns(self.model, self.options.keep_fp32)
        if idle:
            names = [node.name for node in self.model.graph.node]
            near = difflib.get_close_matches(idle[0], [*names, *(n.op_type for n in self.model.graph.node)], n=3)
            raise PrecisionError(
                f"precision.keep_fp32 names nothing in {self.source.name}",
                expected="names of nodes, with * and ?, or operator types",
                got=", ".join(idle),
                action=f"Did you mean {', '.join(dict.fromkeys(near))}?" if near else "See tritonforge inspect.",
            )
        return reasons
