"""Options about what is done to an image before the network sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from tritonforge_client.extras import require_extra
from tritonforge_generator.declared import DeclaredModel, PlacedError
from tritonforge_generator.spec.numbers import Number, Size

if TYPE_CHECKING:
    import pydantic
    from pydantic import Field
else:
    pydantic = require_extra("pydantic", "generator")
    Field = pydantic.Field


class PreprocessOptions(DeclaredModel):
    """Preprocessing that is written into the graph, so that clients send pixels as they have them.

    The network's input becomes ``(resized(pixels) * scale - mean) / std``, a channel at a time, in NCHW.
    """

    input: str | None = Field(
        default=None, description="The graph's image input; may be left out when it has one input of four axes."
    )
    layout: Literal["NHWC", "NCHW"] = Field(default="NHWC", description="Axes of what clients send.")
    dtype: Literal["uint8", "float32"] = Field(default="uint8", description="Type of what clients send.")
    scale: Number = Field(default=1 / 255, description="What pixels are multiplied with first.")
    mean: tuple[Number, ...] = Field(default=(), description="Taken off, a value per channel; none means 0.")
    std: tuple[Annotated[Number, Field(gt=0)], ...] = Field(
        default=(), description="Divided by, a value per channel; none means 1."
    )
    resize: tuple[Size, Size] | None = Field(
        default=None,
        description="Height and width of what clients send, where the network's are others (bilinear, half pixels).",
    )
    reverse_channels: bool = Field(default=False, description="Clients send BGR and the network takes RGB, or so.")

    @pydantic.model_validator(mode="after")
    def _as_many_means_as_deviations(self) -> PreprocessOptions:
        if self.mean and self.std and len(self.mean) != len(self.std):
            raise PlacedError(
                at=("std",), expected=f"{len(self.mean)} values, as many as mean has", got=f"{len(self.std)} values"
            )
        return self
