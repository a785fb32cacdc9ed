"""A trtexec line means a spec, or is refused with every flag that stands in the way."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tritonforge_generator.cli.main import group
from tritonforge_generator.declared import json_schema
from tritonforge_generator.errors import SpecError, TritonforgeError
from tritonforge_generator.spec import (
    ModelOptions,
    TensorRTOptions,
    forge_spec_from_file,
    forge_spec_from_flags,
    text_from_forge_spec,
)
from tritonforge_generator.spec.trtexec import options_from_trtexec
from tritonforge_generator.spec.trtexec_flags import FLAGS, Flag

DOCUMENT = (Path(__file__).parents[3] / "docs" / "trtexec.md").read_text("utf-8")

TAKEN: dict[str, tuple[str, dict[str, Any]]] = {
    "--onnx": ("", {"source": "m.onnx", "name": "m", "platform": "tensorrt"}),
    "--minShapes": ("--minShapes=x:1x4 --optShapes=x:2x4 --maxShapes=x:8x4", {"max_batch_size": 8}),
    "--optShapes": ("--optShapes=x:2x4", {"tensorrt.profiles": [{"x": {"min": [2, 4], "opt": [2, 4], "max": [2, 4]}}]}),
    "--maxShapes": ("--minShapes=x:1x4 --optShapes=x:2x4 --maxShapes=x:8x4", {"max_batch_size": 8}),
    "--shapes": ("--shapes=x:2x4", {"tensorrt.profiles": [{"x": {"min": [2, 4], "opt": [2, 4], "max": [2, 4]}}]}),
    "--profile": (
        "--profile=0 --optShapes=x:1 --profile=1 --optShapes=x:2",
        {
            "tensorrt.profiles": [{"x": {"min": [n], "opt": [n], "max": [n]}} for n in (1, 2)],
            "max_batch_size": 2,
        },
    ),
    "--fp16": ("--fp16", {"precision.type": "FP16"}),
    "--bf16": ("--bf16", {"precision.type": "BF16"}),
    "--int8": ("--int8", {"precision.type": "INT8"}),
    "--fp8": ("--fp8", {"precision.type": "FP8"}),
    "--best": ("--best", {"precision.type": "INT8"}),
    "--noTF32": ("--noTF32", {"precision.type": "FP32"}),
    "--stronglyTyped": ("--stronglyTyped", {"precision": None}),
    "--memPoolSize": (
        "--memPoolSize=workspace:1.5G,tacticSharedMem:48K,dlaSRAM:1,dlaLocalDRAM:2M,dlaGlobalDRAM:512B",
        {
            "tensorrt.workspace_bytes": 3 << 29,
            "tensorrt.memory_pool_bytes": {
                "TACTIC_SHARED_MEMORY": 48 << 10,
                "DLA_MANAGED_SRAM": 1 << 20,
                "DLA_LOCAL_DRAM": 2 << 20,
                "DLA_GLOBAL_DRAM": 512,
            },
        },
    ),
    "--workspace": ("--workspace=64", {"tensorrt.workspace_bytes": 64 << 20}),
    "--builderOptimizationLevel": ("--builderOptimizationLevel=5", {"tensorrt.builder_optimization_level": 5}),
    "--heuristic": ("--heuristic", {"tensorrt.builder_optimization_level": 2}),
    "--avgTiming": ("--avgTiming=16", {"tensorrt.avg_timing_iterations": 16}),
    "--maxTactics": ("--maxTactics=7", {"tensorrt.max_num_tactics": 7}),
    "--maxAuxStreams": ("--maxAuxStreams=0", {"tensorrt.max_aux_streams": 0}),
    "--tilingOptimizationLevel": ("--tilingOptimizationLevel=3", {"tensorrt.tiling_optimization_level": "FULL"}),
    "--l2LimitForTiling": ("--l2LimitForTiling=1000000", {"tensorrt.l2_limit_for_tiling": 1_000_000}),
    "--tacticSources": (
        "--tacticSources=-EDGE_MASK_CONVOLUTIONS,+CUBLASLT,-cudnn",
        {"tensorrt.tactic_sources": ["JIT_CONVOLUTIONS", "CUBLAS_LT"]},
    ),
    "--preview": (
        "--preview=+aliasedPluginIO1003,-profileSharing0806",
        {"tensorrt.preview_features": {"ALIASED_PLUGIN_IO_10_03": True, "PROFILE_SHARING_0806": False}},
    ),
    "--sparsity": ("--sparsity=enable", {"tensorrt.sparse_weights": True}),
    "--distributiveIndependence": ("--distributiveIndependence", {"tensorrt.distributive_independence": True}),
    "--timingCacheFile": ("--timingCacheFile=caches/t.cache", {"tensorrt.timing_cache": "caches"}),
    "--noBuilderCache": ("--noBuilderCache", {"tensorrt.timing_cache": False}),
    "--errorOnTimingCacheMiss": ("--errorOnTimingCacheMiss", {"tensorrt.error_on_timing_cache_miss": True}),
    "--noCompilationCache": ("--noCompilationCache", {"tensorrt.disable_compilation_cache": True}),
    "--versionCompatible": ("--versionCompatible", {"tensorrt.version_compatible": True}),
    "--vc": ("--vc", {"tensorrt.version_compatible": True}),
    "--excludeLeanRuntime": ("--vc --excludeLeanRuntime", {"tensorrt.exclude_lean_runtime": True}),
    "--hardwareCompatibilityLevel": (
        "--hardwareCompatibilityLevel=ampere+",
        {"tensorrt.hardware_compatibility_level": "AMPERE_PLUS"},
    ),
    "--refit": ("--refit", {"tensorrt.refit": True}),
    "--useDLACore": ("--useDLACore=1", {"tensorrt.dla_core": 1, "tensorrt.gpu_fallback": False}),
    "--allowGPUFallback": ("--useDLACore=0 --allowGPUFallback", {"tensorrt.gpu_fallback": True}),
    "--device": ("--device=1", {"tensorrt.device_id": 1}),
    "--plugins": ("--plugins=a.so --plugins=b/c.so", {"tensorrt.plugins": ["a.so", "b/c.so"]}),
    "--staticPlugins": ("--staticPlugins=a.so", {"tensorrt.plugins": ["a.so"]}),
    "--streams": ("--streams=2", {"instance_group": [{"count": 2}]}),
    "--infStreams": ("--infStreams=3 --useProfile=1", {"instance_group": [{"count": 3, "profile": [1]}]}),
    "--useProfile": ("--useProfile=1", {"instance_group": [{"profile": [1]}]}),
    "--useCudaGraph": ("--useCudaGraph", {"optimization.cuda.graphs": True}),
    "--noCudaGraph": ("--noCudaGraph", {"optimization.cuda.graphs": False}),
    "--useSpinWait": ("--useSpinWait", {"optimization.cuda.busy_wait_events": True}),
    "--noSpinWait": ("--noSpinWait", {"optimization.cuda.busy_wait_events": False}),
    "--allocationStrategy": (
        "--allocationStrategy=profile",
        {"parameters.execution_context_allocation_strategy": "ON_PROFILE_CHANGE"},
    ),
    "--saveEngine": ("--saveEngine=out/m.plan", {}),
    "--explicitBatch": ("--explicitBatch", {}),
    "--explicitPrecision": ("--explicitPrecision", {}),
    "--skipInference": ("--skipInference", {}),
    "--buildOnly": ("--buildOnly", {}),
    "--profilingVerbosity": ("--profilingVerbosity=detailed", {}),
    "--useRuntime": ("--useRuntime=full", {}),
    "--verbose": ("--verbose", {}),
}
STRIPPING = {"--stripWeights", "--weightless", "--stripAllWeights"}


def value_at(options: Any, key: str) -> Any:
    for part in key.split("."):
        options = options.get(part) if isinstance(options, dict) else None
    return options


def options_of(line: str) -> dict[str, Any]:
    return dict(options_from_trtexec(f"trtexec --onnx=m.onnx {line}").options)


def test_every_flag_is_there_once() -> None:
    names = [flag.name for flag in FLAGS]
    assert len(names) == len(set(names))
    assert {flag.name for flag in FLAGS if flag.take is not None} == TAKEN.keys() | STRIPPING


@pytest.mark.parametrize("name", TAKEN)
def test_flag_becomes_an_option_that_the_spec_takes(name: str) -> None:
    words, expected = TAKEN[name]
    options = options_of(words)
    assert {key: value_at(options, key) for key in expected} == expected
    if not expected:
        assert options == options_of("")
    (model,) = forge_spec_from_flags(options, repository=Path("repo")).models
    assert model.platform == "tensorrt"


@pytest.mark.parametrize("flag", [flag for flag in FLAGS if flag.spec], ids=lambda flag: flag.name)
def test_option_exists(flag: Flag) -> None:
    schema = json_schema(ModelOptions)
    for key in re.split(", ", flag.spec.split(":")[0]):
        place: Any = schema
        for part in key.split("."):
            if part == "execution_context_allocation_strategy":
                break
            inner = (place, *place.get("anyOf", []), *place.get("allOf", []), place.get("items", {}))
            nested = [one for one in inner if "$ref" in one]
            if nested:
                place = schema["$defs"][nested[0]["$ref"].rpartition("/")[2]]
            assert part in place["properties"], f"{key} of {flag.name}"
            place = place["properties"][part]


@pytest.mark.parametrize("flag", [flag for flag in FLAGS if flag.take is None], ids=lambda flag: flag.name)
def test_other_flags_are_refused_by_name(flag: Flag) -> None:
    with pytest.raises(SpecError, match=f"^{flag.name} of trtexec is not taken") as caught:
        options_of(f"{flag.name}=x")
    assert caught.value.action == flag.note != ""


@pytest.mark.parametrize("name", sorted(STRIPPING))
def test_stripped_plans_are_refused_by_the_spec(name: str) -> None:
    with pytest.raises(SpecError, match="Triton cannot put the weights back"):
        forge_spec_from_flags(options_of(name), repository=Path("repo"))


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("--int8 --fp16", "INT8"),
        ("--fp8 --fp16", "FP8"),
        ("--best --fp16 --int8", "INT8"),
        ("--stronglyTyped --noTF32", "FP32"),
        ("", None),
    ],
)
def test_precision_flags_settle_on_one_type(flags: str, precision: str | None) -> None:
    assert value_at(options_of(flags), "precision.type") == precision


@pytest.mark.parametrize(
    "flags",
    ["--fp16 --bf16", "--int8 --fp8", "--fp16 --noTF32", "--int8 --bf16", "--best --noTF32", "--fp16 --stronglyTyped"],
)
def test_precision_flags_that_contradict_are_refused(flags: str) -> None:
    with pytest.raises(SpecError) as caught:
        options_of(flags)
    assert all(flag in str(caught.value) for flag in flags.split())


@pytest.mark.parametrize(
    ("low", "high", "batch"),
    [
        ("x:1x4", "x:8x4", 8),
        ("x:1x4,y:1", "x:8x4,y:8", 8),
        ("x:1x4", "x:1x9", 0),
        ("x:2x4", "x:8x4", 0),
        ("x:1x4,y:1", "x:8x4,y:4", 0),
        ("x:1x4,y:", "x:8x4,y:", 0),
        ("x:scalar", "x:scalar", 0),
    ],
)
def test_max_batch_size_follows_the_shapes(low: str, high: str, batch: int) -> None:
    options = options_of(f"--minShapes={low} --optShapes={high} --maxShapes={high}")
    assert options["max_batch_size"] == batch


@pytest.mark.parametrize(("second", "batch"), [("3x1", 8), ("2x1", 8), ("4x1", 0)])
def test_batches_need_a_profile_each(second: str, batch: int) -> None:
    line = "--profile=0 --minShapes=x:1x1 --optShapes=x:2x1 --maxShapes=x:2x1 --profile=1"
    assert options_of(f"{line} --minShapes=x:{second} --optShapes=x:8x1 --maxShapes=x:8x1")["max_batch_size"] == batch


def test_names_may_hold_colons_and_quotes() -> None:
    (profile,) = options_of(r"--optShapes=\'in:0\':2x3,b:1")["tensorrt"]["profiles"]
    assert set(profile) == {"in:0", "b"}


@pytest.mark.parametrize(
    ("flags", "refusal"),
    [
        ("--minShapes=x:1 --maxShapes=x:2", "incomplete: expected --optShapes alone"),
        ("--minShapes=x:1 --optShapes=x:1,y:1 --maxShapes=x:1,y:2", "input 'y'"),
        ("--optShapes=x:1 --optShapes=x:2", "expected the opt of 'x' once a profile"),
        ("--optShapes=x:1 --shapes=x:1", "about a measurement"),
        ("--optShapes=*:1", "expected full names"),
        ("--optShapes=x:1xb", "expected a whole number, got 'b'"),
        ("--profile=1", "expected 0, as profiles are counted from 0"),
        ("--memPoolSize=workspace:1T", "expected a number with B, K, M"),
        ("--memPoolSize=scratch:1", "expected one of workspace, dlaSRAM"),
        ("--sparsity=force", "got force, which overwrites weights"),
        ("--useRuntime=lean", "expected full, which is what builds"),
        ("--hardwareCompatibilityLevel=hopper", "expected one of none, ampere"),
        ("--tacticSources=CUBLAS", "expected names with . or - in front"),
        ("--preview=+later", "expected one of fasterDynamicShapes0805"),
        ("--allocationStrategy=runtime", "expected one of static, profile"),
        ("--allowGPUFallback", "expected --useDLACore beside it"),
        ("--fp16=true", "--fp16 of trtexec: expected no value, got 'true'"),
        ("--saveEngin=m.plan", "Did you mean --saveEngine?"),
        ("m.onnx", "is no flag of trtexec"),
        ("--optShapes", "expected a value behind '='"),
        ("--onnx='", "expected balanced quotes"),
    ],
)
def test_what_cannot_be_read_is_refused(flags: str, refusal: str) -> None:
    with pytest.raises(SpecError, match=refusal):
        options_of(flags)


def test_a_line_needs_a_model() -> None:
    with pytest.raises(SpecError, match=r"expected --onnx=model.onnx"):
        options_from_trtexec("/usr/src/tensorrt/bin/trtexec --fp16")


def test_all_refusals_come_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        options_of("--iterations=1 --fp17 --avgTiming=x")
    assert [line.split()[0] for line in str(caught.value).splitlines()[1:]] == ["--iterations", "--fp17", "--avgTiming"]


def test_line_means_the_same_as_a_file(tmp_path: Path) -> None:
    line = "trtexec --onnx=m.onnx --fp16 --minShapes=x:1x4 --optShapes=x:4x4 --maxShapes=x:8x4 --refit --infStreams=2"
    by_line = forge_spec_from_flags(options_from_trtexec(line).options, repository=Path("repo")).resolved(tmp_path)
    (tmp_path / "tritonforge.yaml").write_text("""
        repository: repo
        models:
          - name: m
            source: m.onnx
            platform: tensorrt
            precision: {type: FP16}
            max_batch_size: 8
            instance_group: [{count: 2}]
            tensorrt: {refit: true, profiles: [{x: {min: [1, 4], opt: [4, 4], max: [8, 4]}}]}
        """)
    assert by_line == forge_spec_from_file(tmp_path / "tritonforge.yaml")


@pytest.mark.parametrize("name", TAKEN)
def test_printed_spec_reads_back_as_the_same(tmp_path: Path, name: str) -> None:
    spec = forge_spec_from_flags(options_of(TAKEN[name][0]), repository=Path("repo"))
    (tmp_path / "printed.yaml").write_text(text_from_forge_spec(spec))
    assert forge_spec_from_file(tmp_path / "printed.yaml") == spec.resolved(tmp_path)


@pytest.mark.parametrize("name", ["1e3", "010", "0x1f", "3d", "null", "off", "12"])
def test_printed_names_stay_text(tmp_path: Path, name: str) -> None:
    spec = forge_spec_from_flags({"name": name, "source": "m.onnx"}, repository=Path("repo"))
    (tmp_path / "printed.yaml").write_text(text_from_forge_spec(spec))
    assert forge_spec_from_file(tmp_path / "printed.yaml").models[0].name == name


def rows_of(flags: list[Flag]) -> list[str]:
    rows = []
    for flag in flags:
        until = f" (until {flag.last})" if flag.last else ""
        spec = ", ".join(f"`{key}`" for key in flag.spec.split(", ") if key)
        cells = [f"`{flag.name}`{until}", *([] if flag.take is None else [spec]), flag.note]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def test_document_holds_every_flag() -> None:
    sections = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL))
    expected = {
        "Flags that become options": rows_of([flag for flag in FLAGS if flag.take is not None and flag.spec]),
        "Flags that need none": rows_of([flag for flag in FLAGS if flag.take is not None and not flag.spec]),
        "Flags that are refused": rows_of([flag for flag in FLAGS if flag.take is None]),
    }
    for title, rows in expected.items():
        assert re.findall(r"^\| `.*\|$", sections[title], re.MULTILINE) == rows


@pytest.mark.parametrize("example", re.findall(r"^```console\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL))
def test_examples_print_what_they_show(example: str) -> None:
    match = re.match(r"\$ tritonforge (.*?)\n(?=\S)", example, re.DOTALL)
    assert match is not None
    shown = example[match.end() :]
    runner = CliRunner()
    result = runner.invoke(group, shlex.split(match[1]))
    if isinstance(result.exception, TritonforgeError):
        assert f"error: {result.exception}\n" == shown
    else:
        assert result.exit_code == 0, result.output
        assert result.stderr + result.stdout == shown


def test_tactics_default_to_tensorrts_own() -> None:
    assert TensorRTOptions().tactic_sources == ("EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS")
