"""The one table of Triton's tensor data types.

Triton has two vocabularies for the same types: ``datatype`` in requests (``"FP32"``) and ``data_type`` in
``config.pbtxt`` (``TYPE_FP32``; ``TYPE_STRING`` is ``BYTES`` on the wire). Source: ``model_config.proto`` (enum
``DataType``) and the KServe v2 protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class DataType:
    """One tensor data type.

    Attributes:
        datatype: Name in requests and replies, for example ``"FP32"``.
        data_type: Name in ``config.pbtxt``, for example ``"TYPE_FP32"``.
        number: Value of the enum ``inference.DataType``.
        itemsize_bytes: Bytes per element; ``None`` for BYTES, whose elements vary in length.
        numpy_name: Name of the numpy dtype that holds it; ``None`` for BF16, which numpy lacks.
    """

    datatype: str
    data_type: str
    number: int
    itemsize_bytes: int | None
    numpy_name: str | None

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The numpy dtype (BF16: the ``ml_dtypes`` one).

        Raises:
            TypeError: BF16 was asked for and ``ml_dtypes`` is not installed.
        """
        if self.numpy_name is not None:
            return np.dtype(self.numpy_name)
        try:
            import ml_dtypes
        except ImportError as error:
            raise TypeError("BF16 arrays need the package ml_dtypes; run: pip install ml_dtypes") from error
        return np.dtype(ml_dtypes.bfloat16)


_TABLE: Final = (
    DataType("BOOL", "TYPE_BOOL", 1, 1, "bool"),
    DataType("UINT8", "TYPE_UINT8", 2, 1, "uint8"),
    DataType("UINT16", "TYPE_UINT16", 3, 2, "uint16"),
    DataType("UINT32", "TYPE_UINT32", 4, 4, "uint32"),
    DataType("UINT64", "TYPE_UINT64", 5, 8, "uint64"),
    DataType("INT8", "TYPE_INT8", 6, 1, "int8"),
    DataType("INT16", "TYPE_INT16", 7, 2, "int16"),
    DataType("INT32", "TYPE_INT32", 8, 4, "int32"),
    DataType("INT64", "TYPE_INT64", 9, 8, "int64"),
    DataType("FP16", "TYPE_FP16", 10, 2, "float16"),
    DataType("FP32", "TYPE_FP32", 11, 4, "float32"),
    DataType("FP64", "TYPE_FP64", 12, 8, "float64"),
    DataType("BYTES", "TYPE_STRING", 13, None, "object"),
    DataType("BF16", "TYPE_BF16", 14, 2, None),
)
BY_DATATYPE: Final = {entry.datatype: entry for entry in _TABLE}
BY_DATA_TYPE: Final = {entry.data_type: entry for entry in _TABLE}
BY_NUMBER: Final = {entry.number: entry for entry in _TABLE}
_BY_DTYPE: Final = {np.dtype(entry.numpy_name): entry for entry in _TABLE if entry.numpy_name is not None}


def datatype_from_dtype(dtype: npt.DTypeLike) -> DataType:
    """Return the Triton type of a numpy dtype.

    Args:
        dtype: Anything ``numpy.dtype`` accepts. ``object``, ``bytes`` and ``str`` dtypes are BYTES.

    Raises:
        TypeError: Triton has no such type (complex numbers, dates, structures).
    """
    resolved = np.dtype(dtype)
    if resolved.kind in "SU":
        return BY_DATATYPE["BYTES"]
    if resolved.name == "bfloat16":
        return BY_DATATYPE["BF16"]
    found = _BY_DTYPE.get(resolved.newbyteorder("="))
    if found is None:
        raise TypeError(f"expected a numpy dtype that Triton can carry ({', '.join(BY_DATATYPE)}), got {resolved}")
    return found
