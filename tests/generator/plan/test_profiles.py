from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from tritonforge_generator.errors import PlanError
from tritonforge_generator.graph import GraphTensor
from tritonforge_generator.plan import Profile, profiles_from_options
from tritonforge_generator.spec import ProfileShapes, TensorRTOptions

IMAGE = GraphTensor(name="image", datatype="FP32", shape=("batch", 3, 8, 8))
TOKENS = GraphTensor(name="tokens", datatype="INT64", shape=("batch", "length"))
MASK = GraphTensor(name="mask", datatype="BOOL", shape=("batch", "length"))
FIXED = GraphTensor(name="fixed", datatype="FP32", shape=(1, 4))


def shapes(low: Sequence[int], middle: Sequence[int], high: Sequence[int]) -> ProfileShapes:
    return ProfileShapes(min=tuple(low), opt=tuple(middle), max=tuple(high))


def derived(
    *inputs: GraphTensor,
    max_batch_size: int = 8,
    opt_batch_size: int = 4,
    sample_shapes: Mapping[str, Sequence[int]] | None = None,
    opt: int | None = None,
    profiles: tuple[dict[str, ProfileShapes], ...] = (),
) -> tuple[Profile, ...]:
    return profiles_from_options(
        inputs,
        TensorRTOptions(profiles=profiles, opt_batch_size=opt),
        max_batch_size=max_batch_size,
        opt_batch_size=opt_batch_size,
        sample_shapes=sample_shapes or {},
    )


def test_one_profile_from_1_to_max_batch_size() -> None:
    assert derived(IMAGE) == ({"image": shapes((1, 3, 8, 8), (4, 3, 8, 8), (8, 3, 8, 8))},)


@pytest.mark.parametrize(("opt", "given", "expected"), [(None, 4, 4), (2, 4, 2), (None, 99, 8), (99, 1, 8)])
def test_the_best_batch_is_the_users_within_max_batch_size(opt: int | None, given: int, expected: int) -> None:
    (profile,) = derived(IMAGE, opt=opt, opt_batch_size=given)
    assert profile["image"].opt[0] == expected


def test_without_batching_shapes_are_full() -> None:
    assert derived(FIXED, max_batch_size=0) == ({"fixed": shapes((1, 4), (1, 4), (1, 4))},)


def test_samples_settle_dynamic_axes() -> None:
    (profile,) = derived(TOKENS, sample_shapes={"tokens": (16,)})
    assert profile["tokens"] == shapes((1, 16), (4, 16), (8, 16))


@pytest.mark.parametrize(("max_batch_size", "axis"), [(8, 1), (0, 0)])
def test_an_axis_that_nothing_settles_must_be_declared(max_batch_size: int, axis: int) -> None:
    with pytest.raises(PlanError, match=rf"axis {axis} of input 'tokens' is dynamic.*tensorrt\.profiles"):
        derived(TOKENS, max_batch_size=max_batch_size)


def test_declared_profiles_are_completed_with_static_inputs() -> None:
    static = GraphTensor(name="table", datatype="FP32", shape=(2, 4))
    declared = {"tokens": shapes((1, 1), (1, 8), (1, 16))}
    (profile,) = derived(TOKENS, static, max_batch_size=0, profiles=(declared,))
    assert profile == {**declared, "table": shapes((2, 4), (2, 4), (2, 4))}


def test_several_profiles_together_cover_the_batches() -> None:
    small = {"image": shapes((1, 3, 8, 8), (1, 3, 8, 8), (2, 3, 8, 8))}
    large = {"image": shapes((3, 3, 8, 8), (8, 3, 8, 8), (8, 3, 8, 8))}
    assert derived(IMAGE, profiles=(large, small)) == (large, small)


@pytest.mark.parametrize(
    ("ranges", "missing"),
    [([(1, 7)], 8), ([(2, 8)], 1), ([(1, 2), (4, 8)], 3), ([(4, 8), (1, 1)], 2)],
)
def test_a_batch_that_no_profile_holds_is_named(ranges: list[tuple[int, int]], missing: int) -> None:
    profiles = tuple({"image": shapes((low, 3, 8, 8), (low, 3, 8, 8), (high, 3, 8, 8))} for low, high in ranges)
    with pytest.raises(PlanError, match=f"do not cover every batch size.*no profile for {missing} rows"):
        derived(IMAGE, profiles=profiles)


def test_a_batch_must_be_inside_one_profile_with_all_inputs() -> None:
    both = {"tokens": shapes((1, 4), (4, 4), (8, 4)), "mask": shapes((2, 4), (4, 4), (8, 4))}
    with pytest.raises(PlanError, match="no profile for 1 rows"):
        derived(TOKENS, MASK, profiles=(both,))


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"picture": shapes((1,), (1,), (1,))}, "names an input that the graph lacks: expected image, tokens"),
        (
            {"image": shapes((1, 3, 8, 8), (4, 3, 8, 8), (8, 3, 8, 8))},
            r"profile 0 leaves out input 'tokens'.*got shape \['batch', 'length'\]",
        ),
        (
            {"image": shapes((1, 3, 8), (4, 3, 8), (8, 3, 8)), "tokens": shapes((1, 1), (4, 1), (8, 1))},
            "has the wrong number of axes: expected 4, the batch included",
        ),
        (
            {"image": shapes((1, 1, 8, 8), (4, 3, 8, 8), (8, 3, 8, 8)), "tokens": shapes((1, 1), (4, 1), (8, 1))},
            "outside what the graph allows: expected 3 on axis 1, which is fixed in the graph, got 1 to 3",
        ),
        (
            {"image": shapes((1, 3, 8, 8), (4, 3, 8, 8), (9, 3, 8, 8)), "tokens": shapes((1, 1), (4, 1), (8, 1))},
            "is above max_batch_size: expected at most 8 rows, got 9",
        ),
    ],
)
def test_profiles_outside_the_limits_are_refused(declared: dict[str, ProfileShapes], words: str) -> None:
    with pytest.raises(PlanError, match=words):
        derived(IMAGE, TOKENS, profiles=(declared,))
