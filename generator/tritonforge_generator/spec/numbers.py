"""Numbers of the spec, bounded like the fields of ``model_config.proto`` that they become."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from tritonforge_client.extras import require_extra
from tritonforge_generator.declared import PlacedError

if TYPE_CHECKING:
    import pydantic
    from pydantic import Field
else:
    pydantic = require_extra("pydantic", "generator")
    Field = pydantic.Field

_INT32: Final = 2**31 - 1
LARGEST_INT64: Final = 2**63 - 1


def _no_zero(size: int) -> int:
    if size == 0:
        raise PlacedError(expected="a size of at least 1, or -1 for any", got="0")
    return size


Count = Annotated[int, Field(ge=1, le=_INT32)]
"""How many there are, at least one."""

Natural = Annotated[int, Field(ge=0, le=_INT32)]
"""A place counted from 0, or a number of things that may be none."""

Microseconds = Annotated[int, Field(ge=0, le=LARGEST_INT64)]

VersionNumber = Annotated[int, Field(ge=1, le=LARGEST_INT64)]
"""The name of a version folder; some people write dates."""

Size = Annotated[int, Field(ge=1, le=LARGEST_INT64)]
"""A size of a shape, or of memory in bytes."""

OpenSize = Annotated[int, Field(ge=-1, le=LARGEST_INT64), pydantic.AfterValidator(_no_zero)]
"""A size of ``dims``; -1 for any (rules I5 and I6)."""

Number = Annotated[float, Field(allow_inf_nan=False)]
"""A finite number: an endless tolerance would let everything pass."""
