"""Options of the requests that a server sends to a model before it takes others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tritonforge_client.extras import require_extra
from tritonforge_generator.declared import DeclaredModel, PlacedError
from tritonforge_generator.spec.numbers import Count, Size

if TYPE_CHECKING:
    import pydantic
    from pydantic import Field
else:
    pydantic = require_extra("pydantic", "generator")
    Field = pydantic.Field


class WarmupInput(DeclaredModel):
    """``ModelWarmup.Input``: what one input of a sample holds; zeros when nothing is said."""

    dims: tuple[Size, ...] | None = Field(  # rule W1: none may be open
        default=None,
        description="Sizes without the batch; by default those of the samples that the model is proven with.",
    )
    zero_data: Literal[True] | None = Field(default=None, description="Zeros.")
    random_data: Literal[True] | None = Field(default=None, description="Random values; zeros for strings.")
    input_data_file: Path | None = Field(
        default=None,
        description="An .npy file, or the raw bytes, without the batch: every row holds it; copied into warmup/.",
    )

    @pydantic.model_validator(mode="after")
    def _one_content(self) -> WarmupInput:
        given = [name for name in ("zero_data", "random_data", "input_data_file") if getattr(self, name) is not None]
        if len(given) > 1:
            raise PlacedError(
                at=(given[1],), expected="one of zero_data, random_data and input_data_file", got=" and ".join(given)
            )
        return self


class WarmupSample(DeclaredModel):
    """``ModelWarmup``: one request that every instance answers first."""

    name: str = Field(min_length=1, description="Shown in the server's log.")
    batch_size: Count = Field(default=1, description="Rows of the request; 1 for a model without batches.")
    inputs: dict[str, WarmupInput] = Field(
        default_factory=dict, description="By input; those left out hold zeros of the usual size."
    )
    count: Count | None = Field(default=None, description="How often it is sent; once by default.")

    def resolved(self, folder: Path) -> WarmupSample:
        """The same sample with its paths relative to a folder."""
        inputs = {
            name: one.model_copy(update={"input_data_file": folder / one.input_data_file})
            if one.input_data_file is not None
            else one
            for name, one in self.inputs.items()
        }
        return self.model_copy(update={"inputs": inputs})
