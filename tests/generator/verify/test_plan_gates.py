"""Gates of a plan: those of figures with figures made by hand, those that run it on the stand-in TensorRT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper
from support import graphs
from support.stand_in_plans import Range, stand_in_tensorrt, write_plan

from tritonforge_generator.errors import PlanError
from tritonforge_generator.hashing import sha256_of_file
from tritonforge_generator.plan import Engine, Plan, ShapeRange
from tritonforge_generator.plan.cuda import Gpu
from tritonforge_generator.plan.layers import PrecisionProof
from tritonforge_generator.plan.plan import TimingCacheUse
from tritonforge_generator.spec import InstanceGroup, ModelOptions, PrecisionOptions, VerifyOptions
from tritonforge_generator.verify import Check, plan_checks, plan_datatypes, reference_from_path
from tritonforge_generator.verify.plan_gates import instances_check, memory_check, server_check

GB = 10**9
PROOF = PrecisionProof(
    asked="FP32", layer_share={"FP32": 1.0}, flop_share={"FP32": 1.0}, bytes_per_parameter=4.0, passed=True, summary=""
)
PLAN = Plan(
    path=Path("model.plan"),
    sha256="",
    size_bytes=2 * GB,
    recipe_sha256="",
    precision="FP32",
    tensorrt_version="10.16.1.11",
    gpu=Gpu(device_id=0, name="a GPU", compute_capability="9.0", memory_bytes=16 * GB, driver_cuda_version="13.0"),
    tensors=(),
    profiles=(
        {"x": ShapeRange(min=(1, 4), opt=(8, 4), max=(8, 4))},
        {"x": ShapeRange(min=(2, 4), opt=(4, 4), max=(4, 4))},
    ),
    device_memory_bytes=(GB, 3 * GB),
    layers=(),
    proof=PROOF,
    newly_built=True,
    build_s=1.0,
    timing_cache=TimingCacheUse(path=None, read_bytes=0, written_bytes=0, note=""),
)


@pytest.mark.parametrize(
    ("groups", "passed", "summary"),
    [
        # Two batches in flight, each with 2 GB of weights, 1 GB for profile 0 and 3 GB for profile 1.
        ([{}], True, "1 instances take 12.00 GB of 16.0 GB"),
        ([{"profile": (0,)}], True, "1 instances take 6.00 GB"),
        ([{"profile": (0,), "count": 2}], True, "2 instances take 12.00 GB"),
        ([{"profile": (0,), "count": 3}], False, "3 instances take 18.00 GB of 16.0 GB"),
        ([{"profile": (1,)}, {"profile": (0,)}], True, "2 instances take 16.00 GB of 16.0 GB"),
        ([{}, {"profile": (0,)}], False, "2 instances take 18.00 GB"),
        ([{"gpus": (0,)}, {"gpus": (1,)}], True, "1 instances take 12.00 GB"),
        ([{"gpus": (0, 1)}, {"gpus": (1,)}], False, "2 instances take 24.00 GB"),
        ([{"gpus": (1,)}, {}], False, "2 instances take 24.00 GB"),
    ],
)
def test_all_instances_of_a_gpu_must_fit_it(groups: list[dict[str, Any]], passed: bool, summary: str) -> None:
    check = memory_check(PLAN, [InstanceGroup(**group) for group in groups])
    assert check.passed is passed
    assert check.summary.startswith(summary)


@pytest.mark.parametrize(
    ("profiles", "max_batch_size", "summary"),
    [
        ((), 8, ""),
        ((0,), 8, ""),
        ((1, 0), 8, ""),
        ((0,), 0, ""),
        ((), 9, "no profile of an instance_group (profile: 0, 1) holds 9 rows"),
        ((1,), 4, "no profile of an instance_group (profile: 1) holds 1 rows"),
        ((0, 7), 8, "instance_group asks for profile 7, the plan has 2"),
    ],
)
def test_every_instance_must_take_every_batch(profiles: tuple[int, ...], max_batch_size: int, summary: str) -> None:
    groups = [InstanceGroup(), InstanceGroup(profile=profiles)]
    if not profiles:
        groups = groups[:1]
    check = instances_check(PLAN, groups, max_batch_size=max_batch_size)
    assert check.passed is (summary == "")
    assert summary in check.summary


@pytest.mark.parametrize(
    ("version", "server", "version_compatible", "objection"),
    [
        ((10, 4, 0, 26), "24.10", False, ""),
        ((10, 4, 0, 27), "24.10", False, "Triton 24.10 has TensorRT 10.4.0.26, the plan was built by 10.4.0.27"),
        ((10, 4, 0, 26), "26.08", False, "Triton 26.08 has TensorRT 11.2.1, the plan was built by 10.4.0.26"),
        ((10, 4, 0, 26), "26.08", True, ""),
        ((8, 6, 0, 12), "26.08", True, "the plan was built by 8.6.0.12"),
        ((8, 6, 0, 12), "25.03", True, ""),
    ],
)
def test_the_server_must_have_the_plans_tensorrt(
    tmp_path: Path, version: tuple[int, ...], server: str, version_compatible: bool, objection: str
) -> None:
    path = write_plan(tmp_path / "model.plan", tensors=[], outputs={}, profiles=[], version=version)
    check = server_check(path, server, version_compatible=version_compatible)
    assert check.passed is (objection == "")
    assert objection in check.summary
    assert ".".join(map(str, version)) in check.summary


def test_a_release_that_nobody_knows_is_an_error(tmp_path: Path) -> None:
    path = write_plan(tmp_path / "model.plan", tensors=[], outputs={}, profiles=[])
    with pytest.raises(PlanError, match=r"of Triton 19\.01 is not known: expected a release from 23\.04"):
        server_check(path, "19.01", version_compatible=False)


# ---- gates that run the plan ----


@pytest.fixture
def tensorrt() -> Iterator[None]:
    with stand_in_tensorrt():
        yield


def copying(path: Path, shape: Sequence[int | str] = ("batch", 4), operator: str = "Identity") -> Path:
    """``y`` has the shape of ``x``."""
    node = helper.make_node(operator, ["x"], ["y"])
    return graphs.save(path, [node], [graphs.tensor("x", shape=shape)], [graphs.tensor("y", shape=shape)])


def plan_of(folder: Path, function: str, *profiles: Range, dtype: str = "float32") -> Plan:
    """A plan of one input ``x`` and ``y = function(x)`` on [-1, -1]."""
    axes = [-1] * len(profiles[0][0])
    path = write_plan(
        folder / "model.plan",
        tensors=[("x", dtype, axes), ("y", dtype, axes)],
        outputs={"y": [function, "x"]},
        profiles=[{"x": profile} for profile in profiles],
    )
    with Engine(path) as engine:
        return replace(
            PLAN,
            path=path,
            sha256=sha256_of_file(path),
            size_bytes=path.stat().st_size,
            tensors=engine.tensors,
            profiles=engine.profiles,
            device_memory_bytes=tuple(engine.device_memory_bytes(index) for index in range(len(profiles))),
        )


def checks_of(
    plan: Plan, source: Path, *, max_batch_size: int = 8, server: str | None = None, **options: Any
) -> Mapping[str, Check]:
    """The gates by name."""
    declared = ModelOptions(name="m", source=source, platform="tensorrt", **options)
    precision = declared.precision_options or PrecisionOptions()
    reference = reference_from_path(source, declared.verify, batched=max_batch_size > 0)
    reference = reference.for_precision(precision).in_types(plan_datatypes(plan))
    checks = plan_checks(plan, source, reference, declared, max_batch_size=max_batch_size, server=server)
    return {check.name: check for check in checks}


ANSWERS = "the plan answers like the FP32 graph"
ROWS = "rows are independent of their batch"
UP_TO_8: Range = ([1, 4], [8, 4], [8, 4])


@pytest.mark.usefixtures("tensorrt")
def test_a_right_plan_passes_every_gate(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "negative", UP_TO_8)
    checks = checks_of(plan, copying(tmp_path / "m.onnx", operator="Neg"), server="26.04")
    assert [check.name for check in checks.values() if not check.passed] == []
    assert list(checks) == [
        "the plan computes in what was asked",
        "every instance takes every batch",
        "all instances fit the GPU's memory",
        "the server's TensorRT loads the plan",
        ANSWERS,
        ROWS,
    ]
    assert checks[ROWS].summary == "alone and in every slot of batches of 1, 2, 3, 4, 5, 6, 7, 8"
    assert checks[ANSWERS].figures[0].max_abs == 0.0


@pytest.mark.usefixtures("tensorrt")
def test_a_plan_that_answers_something_else_fails(tmp_path: Path) -> None:
    checks = checks_of(plan_of(tmp_path, "absolute", UP_TO_8), copying(tmp_path / "m.onnx"))
    assert not checks[ANSWERS].passed
    assert checks[ANSWERS].summary.startswith("'y' has a relative error of 2,")
    assert not checks[ROWS].passed


@pytest.mark.usefixtures("tensorrt")
def test_a_plan_that_mixes_rows_fails_only_in_batches(tmp_path: Path) -> None:
    checks = checks_of(plan_of(tmp_path, "flipud", UP_TO_8), copying(tmp_path / "m.onnx"))
    assert checks[ANSWERS].passed
    assert not checks[ROWS].passed
    assert "slot 0 in a batch of 2" in checks[ROWS].summary


@pytest.mark.usefixtures("tensorrt")
def test_a_plan_of_other_types_than_asked_fails(tmp_path: Path) -> None:
    plan = replace(
        plan_of(tmp_path, "copy", UP_TO_8), proof=replace(PROOF, passed=False, summary="12% of the FLOPs are FP16")
    )
    check = checks_of(plan, copying(tmp_path / "m.onnx"))["the plan computes in what was asked"]
    assert (check.passed, check.summary) == (False, "12% of the FLOPs are FP16")


@pytest.mark.usefixtures("tensorrt")
def test_each_profile_is_proven_with_the_batches_that_it_holds(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "copy", ([1, 4], [2, 4], [2, 4]), ([3, 4], [8, 4], [20, 4]))
    checks = checks_of(plan, copying(tmp_path / "m.onnx"), max_batch_size=20)
    assert [name for name in checks if name.startswith((ANSWERS, ROWS))] == [
        f"{ANSWERS} (profile 0)",
        f"{ROWS} (profile 0)",
        f"{ROWS} (profile 1)",
    ]
    assert checks[f"{ROWS} (profile 0)"].summary.endswith("batches of 1, 2")
    assert checks[f"{ROWS} (profile 1)"].summary.endswith("batches of 3, 4, 5, 6, 7, 8, 16, 20")
    assert all(check.passed for check in checks.values())


@pytest.mark.usefixtures("tensorrt")
@pytest.mark.parametrize(("function", "passed"), [("copy", True), ("absolute", False)])
def test_a_profile_of_other_lengths_is_proven_with_samples_of_its_own(
    tmp_path: Path, function: str, passed: bool
) -> None:
    """Drawn samples have 16 elements, which the second profile does not hold."""
    plan = plan_of(tmp_path, function, ([1, 1], [4, 16], [4, 16]), ([1, 17], [4, 64], [4, 128]))
    checks = checks_of(plan, copying(tmp_path / "m.onnx", ("batch", "length")), max_batch_size=4)
    assert checks[f"{ANSWERS} (profile 1)"].passed is passed
    assert checks[f"{ROWS} (profile 1)"].passed is passed
    assert checks[f"{ROWS} (profile 1)"].figures[0].name == "y"


@pytest.mark.usefixtures("tensorrt")
def test_shapes_in_full_are_proven_for_every_profile(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "copy", ([2, 3], [2, 3], [2, 3]), ([5, 3], [5, 3], [5, 3]))
    source = copying(tmp_path / "m.onnx", ("rows", 3))
    checks = checks_of(plan, source, max_batch_size=0, verify=VerifyOptions(shapes={"x": (2, 3)}))
    assert [name for name in checks if name.startswith((ANSWERS, ROWS))] == [
        f"{ANSWERS} (profile 0)",
        f"{ANSWERS} (profile 1)",
    ]
    assert all(check.passed for check in checks.values())


@pytest.mark.usefixtures("tensorrt")
def test_integers_are_given_in_the_plans_type(tmp_path: Path) -> None:
    """TensorRT 8 makes INT32 of INT64."""
    source = graphs.identity(tmp_path / "m.onnx", TensorProto.INT64)
    checks = checks_of(plan_of(tmp_path, "copy", UP_TO_8, dtype="int32"), source)
    assert [check.summary for check in checks.values() if not check.passed] == []


@pytest.mark.usefixtures("tensorrt")
def test_a_profile_that_is_not_there_fails_without_an_exception(tmp_path: Path) -> None:
    groups = (InstanceGroup(profile=(7,)),)
    checks = checks_of(plan_of(tmp_path, "copy", UP_TO_8), copying(tmp_path / "m.onnx"), instance_group=groups)
    assert "asks for profile 7, the plan has 1" in checks["every instance takes every batch"].summary
    assert not checks["every instance takes every batch"].passed
