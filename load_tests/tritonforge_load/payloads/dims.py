"""Shapes of tensors: the model's, with what the campaign says of dimensions that it leaves open."""

from __future__ import annotations

from tritonforge_client.spec import ModelSpec, TensorSpec
from tritonforge_generator.errors import SpecError
from tritonforge_load.campaign import InputSource


def closed_dims(tensor: TensorSpec, source: InputSource, *, place: str) -> tuple[int, ...]:
    """Give every dimension of an input a size.

    Args:
        tensor: The input.
        source: Sizes of open dimensions.
        place: Start of error messages.

    Returns:
        Shape without the batch dimension, without -1.

    Raises:
        SpecError: A dimension is open and ``source.shape`` does not close it, or contradicts the model.
    """
    dims = source.shape if source.shape is not None else tensor.dims
    fits = len(dims) == len(tensor.dims) and all(dim in {-1, size} for dim, size in zip(tensor.dims, dims, strict=True))
    if not fits:
        raise SpecError(f"{place}: {tensor.name}.shape", expected=f"sizes for {tensor.dims}", got=str(dims))
    if -1 in dims:
        raise SpecError(f"{place}: {tensor.name} has open dimensions {tensor.dims}", action="Give the input a shape")
    return dims


def request_shape(dims: tuple[int, ...], rows: int, spec: ModelSpec) -> tuple[int, ...]:
    """The shape of a tensor in a request.

    Args:
        dims: Shape of one row.
        rows: Rows of the request.
        spec: The model's contract.

    Returns:
        ``(rows, *dims)``, or ``dims`` for a model without a batch dimension.
    """
    return dims if spec.max_batch_size == 0 else (rows, *dims)
