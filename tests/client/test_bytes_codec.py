import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from tritonforge_client.core.bytes_codec import bytes_from_strings, strings_from_bytes
from tritonforge_client.core.request import ReplyFormatError


@given(st.lists(st.binary(max_size=300)))
def test_agrees_with_tritonclient_and_round_trips(values: list[bytes]) -> None:
    ours = bytes_from_strings(values)
    array = np.empty(len(values), dtype=np.object_)
    array[:] = values
    assert ours == (serialize_byte_tensor(array).item() if values else b"")
    assert strings_from_bytes(memoryview(ours), len(values)).tolist() == values
    assert deserialize_bytes_tensor(ours).tolist() == values


def test_text_is_utf8() -> None:
    assert bytes_from_strings(["\u00e9"]) == b"\x02\0\0\0\xc3\xa9"


@pytest.mark.parametrize("value", [1, None, bytearray(b"a"), 1.5, ["a"]])
def test_other_objects_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match=f"got {type(value).__name__}"):
        bytes_from_strings([b"a", value])


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b"", 1),
        (b"\x01\0\0\0", 1),
        (b"\x01\0\0\0ab", 1),
        (b"\x01\0\0\0a", 2),
        (b"\x05\0\0\0abc\0\0\0\0", 2),
        (b"", 10**15),
    ],
)
def test_data_that_contradicts_its_count_is_refused(data: bytes, count: int) -> None:
    start = time.perf_counter()
    with pytest.raises(ReplyFormatError):
        strings_from_bytes(memoryview(data), count)
    assert time.perf_counter() - start < 1
