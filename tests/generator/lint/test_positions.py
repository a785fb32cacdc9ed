from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge_generator.lint.positions import place_of, positions_from_text

TEXT = """\
name: "m" # name: "comment"
max_batch_size: 8#MAX
input [
  { name: 'x' dims: [ -1, 3 ] },
  { name: "a" "b", dims: 4; dims: 5 }
]
output: { name: "y" }
output < name: "z" >
parameters { key: "a.b[c]" value: { string_value: "1" } }
parameters: { value { string_value: "2" } key: "q" }
dynamic_batching { priority_queue_policy { key: 3 value { max_queue_size: 1 } } }
"""


@pytest.mark.parametrize(
    ("path", "line", "column", "value"),
    [
        ("name", 1, 1, '"m"'),
        ("max_batch_size", 2, 1, "8"),
        ("input", 3, 1, ""),
        ("input[0].name", 4, 5, "'x'"),
        ("input[0].dims[0]", 4, 15, "-1"),
        ("input[0].dims[1]", 4, 27, "3"),
        ("input[1]", 5, 3, ""),
        ("input[1].name", 5, 5, '"a""b"'),
        ("input[1].dims[1]", 5, 29, "5"),
        ("output[0].name", 7, 11, '"y"'),
        ("output[1].name", 8, 10, '"z"'),
        ('parameters["a.b[c]"].value.string_value', 9, 37, '"1"'),
        ('parameters["q"].value.string_value', 10, 23, '"2"'),
        ('dynamic_batching.priority_queue_policy["3"].value.max_queue_size', 11, 59, "1"),
    ],
)
def test_fields_are_found(path: str, line: int, column: int, value: str) -> None:
    place = place_of(positions_from_text(TEXT), path)
    assert place is not None
    assert (place.line, place.column, place.value) == (line, column, value)


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        ("name", 'name: "m"', '"m"'),
        ("input[0].dims[1]", "dims: [ -1, 3 ]", "3"),
        ("input[1].name", 'name: "a" "b"', '"a" "b"'),
        ("input[1].dims[1]", "dims: 5", "5"),
        ("output[0]", 'output: { name: "y" }', '{ name: "y" }'),
        ("output[1]", 'output < name: "z" >', '< name: "z" >'),
    ],
)
def test_a_field_and_its_value_can_be_cut_out(path: str, field: str, value: str) -> None:
    place = place_of(positions_from_text(TEXT), path)
    assert place is not None
    assert TEXT[place.start : place.end] == field
    assert TEXT[place.value_start : place.value_end] == value


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("input[1].data_type", "input[1]"),
        ("input[0].reshape.shape[2]", "input[0]"),
        ('parameters["a.b[c]"].value.missing', 'parameters["a.b[c]"].value'),
        ('parameters["none"].value', "parameters"),
        ("dynamic_batching.preferred_batch_size[4]", "dynamic_batching"),
    ],
)
def test_a_field_that_is_not_written_is_found_where_it_belongs(path: str, nearest: str) -> None:
    places = positions_from_text(TEXT)
    assert place_of(places, path) == place_of(places, nearest)


def test_nothing_on_the_way_is_written() -> None:
    assert place_of(positions_from_text(TEXT), "version_policy.latest") is None


@given(st.text(alphabet="ab:;,[]{}<>\"'#\\ \n0-", max_size=60))
def test_any_text_is_read_without_failing(text: str) -> None:
    for place in positions_from_text(text).values():
        assert place.line <= text.count("\n") + 1
        assert text.split("\n")[place.line - 1][place.column - 1 : place.column] != ""
        assert 0 <= place.start <= place.value_start <= place.value_end <= place.end <= len(text)
