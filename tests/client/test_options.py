import math
from typing import Any

import pytest

from tritonforge_client import InvalidInput, Options


def test_defaults() -> None:
    options = Options()
    assert (options.timeout_s, options.headers, options.writable) == (30.0, {}, False)


@pytest.mark.parametrize("timeout_s", [0, -1, math.nan, math.inf, 2e6, True, "1", None])
def test_a_timeout_that_is_no_deadline_is_refused(timeout_s: Any) -> None:
    with pytest.raises(InvalidInput, match="timeout_s: expected seconds above 0") as caught:
        Options(timeout_s=timeout_s)
    assert caught.value.field == "timeout_s"


def test_headers_are_copied_and_lowered() -> None:
    headers = {"Authorization": "Bearer x"}
    options = Options(headers=headers)
    headers["late"] = "1"
    assert options.headers == {"authorization": "Bearer x"}


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"Content-Length": "3"}, "transport does not set itself"),
        ({"grpc-timeout": "3"}, "transport does not set itself"),
        ({"trace-bin": "x"}, "-bin"),
        ({"a b": "x"}, "header name"),
        ({"": "x"}, "header name"),
        ({"a": "x\r\nb: y"}, "printable ASCII"),
        ({"a": 3}, "printable ASCII"),
        ({3: "a"}, "header name"),
    ],
)
def test_headers_that_cannot_be_sent_are_refused(headers: Any, text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        Options(headers=headers)


def test_a_refused_header_value_is_not_shown() -> None:
    with pytest.raises(InvalidInput) as caught:
        Options(headers={"authorization": "secret\n"})
    assert "secret" not in str(caught.value)
