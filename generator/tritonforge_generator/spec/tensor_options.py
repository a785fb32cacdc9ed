"""Options of single tensors: how they are sent, and what the server makes of a batch of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tritonforge_client.extras import require_extra
from tritonforge_generator.declared import DeclaredModel, PlacedError
from tritonforge_generator.spec.numbers import OpenSize

if TYPE_CHECKING:
    import pydantic
    from pydantic import Field
else:
    pydantic = require_extra("pydantic", "generator")
    Field = pydantic.Field

DataType = Literal[
    "TYPE_BOOL",
    "TYPE_UINT8",
    "TYPE_UINT16",
    "TYPE_UINT32",
    "TYPE_UINT64",
    "TYPE_INT8",
    "TYPE_INT16",
    "TYPE_INT32",
    "TYPE_INT64",
    "TYPE_FP16",
    "TYPE_FP32",
    "TYPE_FP64",
    "TYPE_STRING",
    "TYPE_BF16",
]


class Reshape(DeclaredModel):
    """``ModelTensorReshape``."""

    shape: tuple[OpenSize, ...] = Field(description="What the model takes or gives, without the batch; the graph's.")


class TensorOptions(DeclaredModel):
    """What ``ModelInput`` and ``ModelOutput`` have in common. What is left out comes from the graph."""

    name: str = Field(min_length=1, description="The tensor.")
    data_type: DataType | None = Field(default=None, description="By default the graph's; checked against it.")
    dims: tuple[OpenSize, ...] | None = Field(  # rule I3
        default=None, min_length=1, description="What clients send or get, without the batch; by default the graph's."
    )
    reshape: Reshape | None = Field(
        default=None, description="The graph's shape, where dims have another one of the same number of elements."
    )

    @pydantic.model_validator(mode="after")
    def _reshaped_from_something(self) -> TensorOptions:
        if self.reshape is not None and self.dims is None:
            raise PlacedError(at=("reshape",), expected="dims beside it: what clients send or get", got="none")
        return self


class InputOptions(TensorOptions):
    """``ModelInput``."""

    format: Literal["FORMAT_NONE", "FORMAT_NHWC", "FORMAT_NCHW"] | None = Field(
        default=None, description="What the axes of an image mean, for clients that ask; nothing is transposed."
    )
    allow_ragged_batch: bool | None = Field(
        default=None, description="Requests of several sizes share a batch: their elements follow each other."
    )
    optional: bool | None = Field(default=None, description="Requests may leave it out; Python models only.")


class OutputOptions(TensorOptions):
    """``ModelOutput``."""


class BatchInput(DeclaredModel):
    """``BatchInput``: an input that the server fills from the requests of a batch."""

    kind: Literal[
        "BATCH_ELEMENT_COUNT",
        "BATCH_ACCUMULATED_ELEMENT_COUNT",
        "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO",
        "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE",
        "BATCH_ITEM_SHAPE",
        "BATCH_ITEM_SHAPE_FLATTEN",
    ] = Field(description="What is counted.")
    target_name: tuple[str, ...] = Field(min_length=1, description="The graph's inputs that get it.")
    data_type: Literal["TYPE_INT32", "TYPE_FP32"] | None = Field(  # rule B2
        default=None, description="By default the graph's; checked against it."
    )
    source_input: tuple[str, ...] = Field(  # rule B1
        min_length=1, max_length=1, description="The input whose elements are counted."
    )


class BatchOutput(DeclaredModel):
    """``BatchOutput``: outputs that are cut into the replies by another measure than a row each."""

    target_name: tuple[str, ...] = Field(min_length=1, description="The outputs.")
    kind: Literal["BATCH_SCATTER_WITH_INPUT_SHAPE"] = Field(
        default="BATCH_SCATTER_WITH_INPUT_SHAPE", description="Each reply gets as much as its request's input holds."
    )
    source_input: tuple[str, ...] = Field(  # rule B4
        min_length=1, max_length=1, description="The input whose shape decides."
    )
