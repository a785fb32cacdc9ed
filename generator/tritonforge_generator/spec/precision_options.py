"""Options about number types: what the graph computes in, and how that is found and proven."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tritonforge_client.extras import require_extra
from tritonforge_generator.declared import DeclaredModel, PlacedError
from tritonforge_generator.spec.numbers import Number

if TYPE_CHECKING:
    import pydantic
    from pydantic import Field
else:
    pydantic = require_extra("pydantic", "generator")
    Field = pydantic.Field

PrecisionType = Literal["FP32", "TF32", "FP16", "BF16", "INT8", "FP8"]
CalibrationMethod = Literal["MinMax", "Entropy", "Percentile"]


class CalibrationOptions(DeclaredModel):
    """Which inputs show the ranges that numbers take inside the graph."""

    samples: str | None = Field(
        default=None,
        description="An .npz file, a folder with one .npy per input, or python:package.module:function, which yields "
        "mappings of input name to array; by default drawn samples.",
    )
    method: CalibrationMethod = Field(
        default="MinMax", description="How a range is chosen for INT8; FP8's holds all values."
    )
    percentile: Annotated[Number, Field(gt=50, le=100)] = Field(
        default=99.99, description="Share of values inside the range, for the method Percentile."
    )


class RepairOptions(DeclaredModel):
    """What happens when the accuracy gate fails: the layers that cause it are kept in FP32."""

    enable: bool = Field(default=True, description="Look for the layers and try again.")
    max_layer_share: Annotated[Number, Field(gt=0, le=1)] = Field(
        default=0.1, description="Largest share of the layers that may be kept; more fails the gate."
    )


class PrecisionOptions(DeclaredModel):
    """The types a graph computes in. Its inputs and outputs keep theirs."""

    type: PrecisionType = Field(
        default="TF32",
        description="FP32 computes as exported; TF32 lets the GPU round factors to 10 bits; FP16 and BF16 store and "
        "compute in 16 bits; INT8 and FP8 quantise convolutions and matrix products and leave the rest in FP32.",
    )
    keep_fp32: tuple[str, ...] = Field(
        default=(), description="Nodes that stay in FP32: names with * and ?, or operator types."
    )
    calibration: CalibrationOptions = Field(default=CalibrationOptions(), description="Where ranges come from.")
    repair: RepairOptions = Field(default=RepairOptions(), description="What to do when the accuracy gate fails.")
    max_relative_error: Annotated[Number, Field(gt=0)] | None = Field(
        default=None,
        description="The accuracy gate: largest |answer - reference| / |reference| of any sample, as vectors, of any "
        "output; by default the precision's.",
    )
    min_top1: Annotated[Number, Field(ge=0, le=1)] | None = Field(
        default=None, description="The accuracy gate: least share of samples whose largest element keeps its place."
    )

    @pydantic.model_validator(mode="after")
    def _percentile_has_its_method(self) -> PrecisionOptions:
        changed = self.calibration.percentile != CalibrationOptions().percentile
        if changed and self.calibration.method != "Percentile":
            raise PlacedError(
                at=("calibration", "percentile"),
                expected="the method Percentile",
                got=self.calibration.method,
                action="Set calibration.method to Percentile, or leave the percentile out.",
            )
        return self

    def resolved(self, folder: Path) -> PrecisionOptions:
        """The same options with their paths relative to a folder."""
        samples = self.calibration.samples
        if samples is None or samples.startswith("python:"):
            return self
        calibration = self.calibration.model_copy(update={"samples": str(folder / samples)})
        return self.model_copy(update={"calibration": calibration})
