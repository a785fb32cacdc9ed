"""Every flag of trtexec and what it means here: an option of the spec, nothing to say, or a refusal with what to do.

The flags are those of TensorRT 8.6, 10 and 11 (``samples/common/sampleOptions.cpp`` of NVIDIA/TensorRT).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from tritonforge_generator.errors import SpecError

Bound = Literal["min", "opt", "max"]
Shape = tuple[int, ...]
_UNITS: Final = {"B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_POOLS: Final = {
    "dlaSRAM": "DLA_MANAGED_SRAM",
    "dlaLocalDRAM": "DLA_LOCAL_DRAM",
    "dlaGlobalDRAM": "DLA_GLOBAL_DRAM",
    "tacticSharedMem": "TACTIC_SHARED_MEMORY",
}
_PREVIEW_FEATURES: Final = {
    "fasterDynamicShapes0805": "FASTER_DYNAMIC_SHAPES_0805",
    "disableExternalTacticSourcesForCore0805": "DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805",
    "profileSharing0806": "PROFILE_SHARING_0806",
    "aliasedPluginIO1003": "ALIASED_PLUGIN_IO_10_03",
    "runtimeActivationResize": "RUNTIME_ACTIVATION_RESIZE_10_10",
}
_HARDWARE: Final = {"none": "NONE", "ampere+": "AMPERE_PLUS", "samecomputecapability": "SAME_COMPUTE_CAPABILITY"}
_TILING: Final = ("NONE", "FAST", "MODERATE", "FULL")


@dataclass(slots=True)
class Line:
    """What a line has said so far.

    Attributes:
        options: Options of a model, nested like the spec.
        notes: What differs from trtexec.
        profiles: By profile, input and bound, the shapes.
        shapes: By input, the shapes of ``--shapes``.
        precisions: Names of precision flags.
        switches: Names of other flags that only count together.
        instance: Fields of the one instance group.
    """

    options: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    profiles: list[dict[str, dict[Bound, Shape]]] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    precisions: list[str] = field(default_factory=list)
    switches: set[str] = field(default_factory=set)
    instance: dict[str, Any] = field(default_factory=dict)

    def put(self, key: str, value: Any) -> None:
        """Set an option by its dotted name."""
        *above, last = key.split(".")
        target = self.options
        for part in above:
            target = target.setdefault(part, {})
        target[last] = value

    def get(self, key: str, default: Any) -> Any:
        """An option by its dotted name."""
        value: Any = self.options
        for part in key.split("."):
            value = value.get(part, {})
        return default if value == {} else value


Take: TypeAlias = Callable[[Line, str], None]


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag.

    Attributes:
        name: As it is typed.
        spec: The option that it becomes; empty where there is none.
        note: What is done without an option, or what to do instead.
        take: Reads its value into a line; ``None`` refuses the flag.
        last: The last major version of TensorRT whose trtexec has it; empty for those that still do.
    """

    name: str
    spec: str
    note: str
    take: Take | None
    last: Literal["", "8", "10"] = ""


def _set(key: str, read: Callable[[str], Any]) -> Take:
    def take(line: Line, text: str) -> None:
        line.put(key, read(text))

    return take


def _fixed(key: str, value: Any) -> Take:
    def take(line: Line, text: str) -> None:
        _no_value(text)
        line.put(key, value)

    return take


def _precision(name: str) -> Take:
    def take(line: Line, text: str) -> None:
        _no_value(text)
        line.precisions.append(name)

    return take


def _switch(name: str) -> Take:
    def take(line: Line, text: str) -> None:
        _no_value(text)
        line.switches.add(name)

    return take


def _nothing(_line: Line, _text: str) -> None:
    """The flag asks for what is always so."""


def _no_value(text: str) -> None:
    if text != "":
        raise SpecError("", expected="no value", got=repr(text))


def _text(text: str) -> str:
    if text == "":
        raise SpecError("", expected="a value behind '='", got="none")
    return text


def _count(text: str) -> int:
    if re.fullmatch(r"-?\d+", text) is None:
        raise SpecError("", expected="a whole number", got=repr(text))
    return int(text)


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([BKMG]?)", text.upper())
    if match is None:
        raise SpecError("", expected="a number with B, K, M (the default) or G behind it", got=repr(text))
    return int(float(match[1]) * _UNITS[match[2] or "M"])


def _choice(choices: Mapping[str, Any]) -> Callable[[str], Any]:
    lowered = {name.lower(): value for name, value in choices.items()}

    def read(text: str) -> Any:
        if text.lower() not in lowered:
            raise SpecError("", expected=f"one of {', '.join(choices)}", got=repr(text))
        return lowered[text.lower()]

    return read


def _named(text: str) -> list[tuple[str, str]]:
    """``name:value`` pairs; a name may hold colons, and single quotes around it are taken off."""
    pairs = []
    for word in _text(text).split(","):
        name, colon, value = word.strip().rpartition(":")
        name = name.replace("\\'", "").replace("'", "")
        if colon == "" or name == "" or "*" in name:
            raise SpecError("", expected="full names with a value behind ':'", got=repr(word))
        pairs.append((name, value))
    return pairs


def _dims(text: str) -> Shape:
    if text in {"", "scalar"}:
        return ()
    return tuple(_count(size) for size in text.split("x"))


def _shapes(bound: Bound) -> Take:
    def take(line: Line, text: str) -> None:
        if not line.profiles:
            line.profiles.append({})
        for name, dims in _named(text):
            shapes = line.profiles[-1].setdefault(name, {})
            if bound in shapes:
                raise SpecError("", expected=f"the {bound} of '{name}' once a profile", got="twice")
            shapes[bound] = _dims(dims)

    return take


def _fixed_shapes(line: Line, text: str) -> None:
    line.shapes.update({name: _dims(dims) for name, dims in _named(text)})


def _profile(line: Line, text: str) -> None:
    if _count(text) != len(line.profiles):
        raise SpecError("", expected=f"{len(line.profiles)}, as profiles are counted from 0", got=text)
    line.profiles.append({})


def _pools(line: Line, text: str) -> None:
    for name, size in _named(text):
        if name == "workspace":
            line.put("tensorrt.workspace_bytes", _bytes(size))
        else:
            pool = _choice({"workspace": None, **_POOLS})(name)
            line.put(f"tensorrt.memory_pool_bytes.{pool}", _bytes(size))


def _signed(text: str) -> list[tuple[str, bool]]:
    words = [word.strip() for word in _text(text).split(",")]
    if any(word[:1] not in {"+", "-"} for word in words):
        raise SpecError("", expected="names with + or - in front", got=repr(text))
    return [(word[1:], word[0] == "+") for word in words]


def _tactic_sources(line: Line, text: str) -> None:
    sources = ["EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"]
    for name, wanted in _signed(text):
        source = {"CUBLASLT": "CUBLAS_LT"}.get(name.upper(), name.upper())
        sources = [one for one in sources if one != source] + ([source] if wanted else [])
    line.put("tensorrt.tactic_sources", sources)


def _preview(line: Line, text: str) -> None:
    for name, wanted in _signed(text):
        line.put(f"tensorrt.preview_features.{_choice(_PREVIEW_FEATURES)(name)}", wanted)


def _plugins(line: Line, text: str) -> None:
    line.put("tensorrt.plugins", [*line.get("tensorrt.plugins", []), _text(text)])
    line.notes.append(f"the server needs {text} too: --backend-config=tensorrt,plugins={text}")


def _timing_cache(line: Line, text: str) -> None:
    folder = _text(text).rpartition("/")[0] or "."
    line.put("tensorrt.timing_cache", folder)
    line.notes.append(f"the timing cache is a file a GPU and TensorRT version in {folder}; {text} itself is not read")


def _strip_all(line: Line, text: str) -> None:
    _no_value(text)
    line.put("tensorrt.refit", True)
    line.put("tensorrt.strip_plan", True)


def _sparsity(line: Line, text: str) -> None:
    if text == "force":
        raise SpecError("", expected="disable or enable", got="force, which overwrites weights")
    line.put("tensorrt.sparse_weights", _choice({"disable": False, "enable": True})(text))


def _tiling(text: str) -> str:
    return str(_choice({str(index): name for index, name in enumerate(_TILING)})(text))


def _instance(key: str, read: Callable[[str], Any]) -> Take:
    def take(line: Line, text: str) -> None:
        line.instance[key] = read(text)

    return take


def _full_runtime(_line: Line, text: str) -> None:
    if text != "full":
        raise SpecError("", expected="full, which is what builds", got=repr(text))


_BENCH: Final = "Measure with tritonforge bench, or a load-testing campaign."
_INSPECT: Final = "See tritonforge inspect model.plan."
_ANSWERS: Final = "Call the served model with a client."
_SAMPLES: Final = "Give samples with precision.calibration.samples."
_KEEP: Final = "Name the nodes in precision.keep_fp32; all others take precision.type."
_DEBUG: Final = "Mark the tensors as outputs of the graph."
_SAFETY: Final = "Build with trtexec: Triton does not serve such plans."
_CAFFE: Final = "Export the model to ONNX."
_SHAPES: Final = "Use --minShapes, --optShapes and --maxShapes."

FLAGS: Final[tuple[Flag, ...]] = (
    Flag("--onnx", "source", "", _set("source", _text)),
    Flag("--minShapes", "tensorrt.profiles", "", _shapes("min")),
    Flag("--optShapes", "tensorrt.profiles", "alone it is the one shape of its inputs", _shapes("opt")),
    Flag("--maxShapes", "tensorrt.profiles", "also max_batch_size, where batches start at 1", _shapes("max")),
    Flag("--shapes", "tensorrt.profiles", "where no other shapes are given", _fixed_shapes),
    Flag("--profile", "tensorrt.profiles", "the shapes behind it are the next profile", _profile),
    Flag("--fp16", "precision.type: FP16", "written into the graph", _precision("FP16"), "10"),
    Flag("--bf16", "precision.type: BF16", "written into the graph", _precision("BF16"), "10"),
    Flag("--int8", "precision.type: INT8", "quantised in the graph", _precision("INT8"), "10"),
    Flag("--fp8", "precision.type: FP8", "quantised in the graph", _precision("FP8"), "10"),
    Flag("--best", "precision.type: INT8", "as --int8 --fp16", _precision("best"), "10"),
    Flag("--noTF32", "precision.type: FP32", "", _precision("FP32")),
    Flag("--stronglyTyped", "", "no precision: the graph's own types, which is the default", _switch("strongly typed")),
    Flag("--memPoolSize", "tensorrt.workspace_bytes, tensorrt.memory_pool_bytes", "", _pools),
    Flag("--workspace", "tensorrt.workspace_bytes", "", _set("tensorrt.workspace_bytes", _bytes), "8"),
    Flag(
        "--builderOptimizationLevel",
        "tensorrt.builder_optimization_level",
        "",
        _set("tensorrt.builder_optimization_level", _count),
    ),
    Flag(
        "--heuristic",
        "tensorrt.builder_optimization_level: 2",
        "",
        _fixed("tensorrt.builder_optimization_level", 2),
        "8",
    ),
    Flag("--avgTiming", "tensorrt.avg_timing_iterations", "", _set("tensorrt.avg_timing_iterations", _count)),
    Flag("--maxTactics", "tensorrt.max_num_tactics", "", _set("tensorrt.max_num_tactics", _count)),
    Flag("--maxAuxStreams", "tensorrt.max_aux_streams", "", _set("tensorrt.max_aux_streams", _count)),
    Flag(
        "--tilingOptimizationLevel",
        "tensorrt.tiling_optimization_level",
        "",
        _set("tensorrt.tiling_optimization_level", _tiling),
    ),
    Flag("--l2LimitForTiling", "tensorrt.l2_limit_for_tiling", "", _set("tensorrt.l2_limit_for_tiling", _count)),
    Flag("--tacticSources", "tensorrt.tactic_sources", "cuBLAS and cuDNN are off unless added", _tactic_sources),
    Flag("--preview", "tensorrt.preview_features", "", _preview),
    Flag("--sparsity", "tensorrt.sparse_weights", "force is refused: it overwrites weights", _sparsity),
    Flag(
        "--distributiveIndependence",
        "tensorrt.distributive_independence",
        "",
        _fixed("tensorrt.distributive_independence", True),
    ),
    Flag("--timingCacheFile", "tensorrt.timing_cache", "its folder", _timing_cache),
    Flag("--noBuilderCache", "tensorrt.timing_cache: false", "", _fixed("tensorrt.timing_cache", False)),
    Flag(
        "--errorOnTimingCacheMiss",
        "tensorrt.error_on_timing_cache_miss",
        "",
        _fixed("tensorrt.error_on_timing_cache_miss", True),
    ),
    Flag(
        "--noCompilationCache",
        "tensorrt.disable_compilation_cache",
        "",
        _fixed("tensorrt.disable_compilation_cache", True),
    ),
    Flag("--versionCompatible", "tensorrt.version_compatible", "", _fixed("tensorrt.version_compatible", True)),
    Flag("--vc", "tensorrt.version_compatible", "", _fixed("tensorrt.version_compatible", True)),
    Flag("--excludeLeanRuntime", "tensorrt.exclude_lean_runtime", "", _fixed("tensorrt.exclude_lean_runtime", True)),
    Flag(
        "--hardwareCompatibilityLevel",
        "tensorrt.hardware_compatibility_level",
        "",
        _set("tensorrt.hardware_compatibility_level", _choice(_HARDWARE)),
    ),
    Flag("--refit", "tensorrt.refit", "", _fixed("tensorrt.refit", True)),
    Flag("--stripWeights", "tensorrt.strip_plan", "refused by the spec", _fixed("tensorrt.strip_plan", True)),
    Flag("--weightless", "tensorrt.strip_plan", "refused by the spec", _fixed("tensorrt.strip_plan", True), "10"),
    Flag("--stripAllWeights", "tensorrt.refit, tensorrt.strip_plan", "refused by the spec", _strip_all),
    Flag("--useDLACore", "tensorrt.dla_core", "", _set("tensorrt.dla_core", _count)),
    Flag("--allowGPUFallback", "tensorrt.gpu_fallback", "", _switch("GPU fallback")),
    Flag("--device", "tensorrt.device_id", "", _set("tensorrt.device_id", _count)),
    Flag("--plugins", "tensorrt.plugins", "", _plugins),
    Flag("--staticPlugins", "tensorrt.plugins", "", _plugins),
    Flag("--streams", "instance_group.count", "", _instance("count", _count)),
    Flag("--infStreams", "instance_group.count", "", _instance("count", _count)),
    Flag("--useProfile", "instance_group.profile", "", _instance("profile", lambda text: [_count(text)])),
    Flag("--useCudaGraph", "optimization.cuda.graphs", "", _fixed("optimization.cuda.graphs", True)),
    Flag("--noCudaGraph", "optimization.cuda.graphs: false", "", _fixed("optimization.cuda.graphs", False)),
    Flag("--useSpinWait", "optimization.cuda.busy_wait_events", "", _fixed("optimization.cuda.busy_wait_events", True)),
    Flag(
        "--noSpinWait",
        "optimization.cuda.busy_wait_events: false",
        "",
        _fixed("optimization.cuda.busy_wait_events", False),
    ),
    Flag(
        "--allocationStrategy",
        "parameters.execution_context_allocation_strategy",
        "static or profile; runtime is refused",
        _set(
            "parameters.execution_context_allocation_strategy",
            _choice({"static": "STATIC", "profile": "ON_PROFILE_CHANGE"}),
        ),
    ),
    Flag("--saveEngine", "", "the plan is <repository>/<name>/<version>/model.plan", _nothing),
    Flag("--explicitBatch", "", "always so", _nothing, "8"),
    Flag("--explicitPrecision", "", "of no effect", _nothing, "8"),
    Flag("--skipInference", "", "always so: a plan is run to prove it, not to time it", _nothing),
    Flag("--buildOnly", "", "always so: a plan is run to prove it, not to time it", _nothing, "8"),
    Flag("--profilingVerbosity", "", "always detailed, which the proof of precision reads", _nothing),
    Flag("--useRuntime", "", "full, which is what builds; others are refused", _full_runtime),
    Flag("--verbose", "", "progress is shown, and TensorRT's own words after a failure", _nothing),
    # What follows is refused.
    Flag("--model", "", _CAFFE, None, "8"),
    Flag("--deploy", "", _CAFFE, None, "8"),
    Flag("--output", "", _CAFFE, None, "8"),
    Flag("--uff", "", _CAFFE, None, "8"),
    Flag("--uffInput", "", _CAFFE, None, "8"),
    Flag("--uffNHWC", "", _CAFFE, None, "8"),
    Flag("--batch", "", _SHAPES, None, "8"),
    Flag("--maxBatch", "", _SHAPES, None, "8"),
    Flag("--minTiming", "", "Use --avgTiming.", None, "8"),
    Flag("--nvtxMode", "", "Leave it out.", None, "8"),
    Flag("--int4", "", "Quantise the weights in the graph, and use --stronglyTyped.", None, "10"),
    Flag("--calib", "", _SAMPLES, None, "10"),
    Flag("--calibProfile", "", _SAMPLES, None, "10"),
    Flag("--minShapesCalib", "", _SAMPLES, None, "10"),
    Flag("--optShapesCalib", "", _SAMPLES, None, "10"),
    Flag("--maxShapesCalib", "", _SAMPLES, None, "10"),
    Flag("--precisionConstraints", "", _KEEP, None, "10"),
    Flag("--layerPrecisions", "", _KEEP, None, "10"),
    Flag("--layerOutputTypes", "", _KEEP, None, "10"),
    Flag("--layerDeviceTypes", "", "Use --useDLACore with --allowGPUFallback for the whole model.", None),
    Flag("--decomposableAttentions", "", "Leave it out: the graph's attention is built as it is.", None),
    Flag("--inputIOFormats", "", "Inputs keep the graph's types, in linear layout; preprocess takes uint8.", None),
    Flag("--outputIOFormats", "", "Outputs keep the graph's types, in linear layout; add a Cast to the graph.", None),
    Flag("--directIO", "", "Leave it out: inputs and outputs are in linear layout.", None),
    Flag("--pluginInstanceNorm", "", "Leave it out: TensorRT's own is used.", None),
    Flag("--pi", "", "Leave it out: TensorRT's own is used.", None),
    Flag("--uint8AsymmetricQuantizationDLA", "", "Quantise symmetrically, to int8.", None),
    Flag("--allowWeightStreaming", "", "Leave it out: weights stay on the GPU.", None),
    Flag("--weightStreamingBudget", "", "Leave it out: weights stay on the GPU.", None),
    Flag("--runtimePlatform", "", "Build where it is served: a plan is run before it is published.", None),
    Flag("--monitorMemory", "", "See the plan's device memory in tritonforge inspect model.plan.", None),
    Flag("--dynamicPlugins", "", "Use --staticPlugins.", None),
    Flag("--setPluginsToSerialize", "", "Use --staticPlugins; the server loads the library itself.", None),
    Flag("--ignoreParsedPluginLibs", "", "Use --staticPlugins; the server loads the library itself.", None),
    Flag("--safetyPlugins", "", _SAFETY, None),
    Flag("--safe", "", _SAFETY, None),
    Flag("--consistency", "", _SAFETY, None),
    Flag("--restricted", "", _SAFETY, None),
    Flag("--dumpKernelText", "", _SAFETY, None),
    Flag("--buildDLAStandalone", "", _SAFETY, None),
    Flag("--remoteAutoTuningConfig", "", _SAFETY, None),
    Flag("--markDebug", "", _DEBUG, None),
    Flag("--markUnfusedTensorsAsDebugTensors", "", _DEBUG, None),
    Flag("--saveDebugTensors", "", _DEBUG, None),
    Flag("--saveAllDebugTensors", "", _DEBUG, None),
    Flag("--loadEngine", "", "Plans are built from ONNX; tritonforge inspect shows one that is there.", None),
    Flag("--asyncFileReader", "", "Leave it out: it is about --loadEngine.", None),
    Flag("--getPlanVersionOnly", "", _INSPECT, None),
    Flag("--leanDLLPath", "", "Give it to the server that loads the plan.", None),
    Flag("--tempdir", "", "Set TMPDIR where the plan is loaded.", None),
    Flag("--tempfileControls", "", "Leave it out: it is about loading.", None),
    Flag("--refitFromOnnx", "", "Generate the model again from the other ONNX file.", None),
    Flag("--loadInputs", "", "Give an .npz file with verify.samples.", None),
    Flag("--iterations", "", _BENCH, None),
    Flag("--duration", "", _BENCH, None),
    Flag("--warmUp", "", _BENCH, None),
    Flag("--sleepTime", "", _BENCH, None),
    Flag("--idleTime", "", _BENCH, None),
    Flag("--exposeDMA", "", _BENCH, None),
    Flag("--noDataTransfers", "", _BENCH, None),
    Flag("--includeDataTransfers", "", _BENCH, None),
    Flag("--useManagedMemory", "", _BENCH, None),
    Flag("--threads", "", _BENCH, None),
    Flag("--timeDeserialize", "", _BENCH, None),
    Flag("--timeRefit", "", _BENCH, None),
    Flag("--separateProfileRun", "", _BENCH, None),
    Flag("--persistentCacheRatio", "", "Leave it out: Triton has no setting for it.", None),
    Flag("--avgRuns", "", _BENCH, None),
    Flag("--percentile", "", _BENCH, None),
    Flag("--exportTimes", "", _BENCH, None),
    Flag("--dumpProfile", "", _BENCH, None),
    Flag("--exportProfile", "", _BENCH, None),
    Flag("--dumpRefit", "", _INSPECT, None),
    Flag("--dumpLayerInfo", "", _INSPECT, None),
    Flag("--exportLayerInfo", "", _INSPECT, None),
    Flag("--dumpOptimizationProfile", "", _INSPECT, None),
    Flag("--dumpOutput", "", _ANSWERS, None),
    Flag("--exportOutput", "", _ANSWERS, None),
    Flag("--dumpRawBindingsToFile", "", _ANSWERS, None),
    Flag("--help", "", "See docs/trtexec.md.", None),
    Flag("-h", "", "See docs/trtexec.md.", None),
)
"""In the order of the documentation: what becomes an option, what is always so, what is refused."""
