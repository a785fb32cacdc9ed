"""Builds a plan in this process; ``builder.py`` runs it in a child."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from tritonforge_generator.errors import PlanBuildError, PlanError
from tritonforge_generator.hashing import sha256_of_file
from tritonforge_generator.plan import tensorrt_api, timing_cache
from tritonforge_generator.plan.cuda import Gpu, Stream, call, gpu_from_device_id
from tritonforge_generator.plan.diagnosis import diagnosis_of
from tritonforge_generator.plan.engine import Engine
from tritonforge_generator.plan.flops import flops_by_node
from tritonforge_generator.plan.layers import layers_from_inspector, precision_proof
from tritonforge_generator.plan.network import check_opset, node_types, parsed_network, set_types
from tritonforge_generator.plan.plan import Plan, TimingCacheUse
from tritonforge_generator.plan.profiles import Profile
from tritonforge_generator.plan.progress import LogProgress, OnProgress, monitor
from tritonforge_generator.plan.recipe import KnownPlan, recipe_sha256
from tritonforge_generator.source.onnx_file import onnx_skeleton_from_path
from tritonforge_generator.spec import PrecisionType, TensorRTOptions

_NO_CACHE: Final = TimingCacheUse(path=None, read_bytes=0, written_bytes=0, note="")
_SHAPE_BYTES: Final = 4096
"""Largest constants that may be shapes; larger ones are weights, which only their dims are needed of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """All that a build depends on.

    Attributes:
        network: The ONNX file, already in the types it is to compute in.
        destination: Where the plan goes.
        precision: What the graph was typed for.
        profiles: Optimisation profiles with the shapes of every input.
        options: The rest.
        known: By recipe, plans that were built before; one of the same recipe is taken instead of a new build.
    """

    network: Path
    destination: Path
    precision: PrecisionType
    profiles: tuple[Profile, ...]
    options: TensorRTOptions
    known: Mapping[str, KnownPlan] = field(default_factory=dict)


class _Log:
    """Keeps what matters of TensorRT's log."""

    def __init__(self, on_progress: OnProgress) -> None:
        self.errors: list[str] = []
        self.notes: list[str] = []
        self._progress = LogProgress(on_progress)

    def take(self, severity: tensorrt_api.Severity, message: str) -> None:
        if severity in {"ERROR", "INTERNAL_ERROR"}:
            self.errors.append(message)
        elif "timing cache will not be used" in message.lower():
            self.notes.append(message.strip())
        elif severity == "VERBOSE":
            self._progress.take(message)


def build_plan(request: BuildRequest, on_progress: OnProgress) -> Plan:
    """Build, write and examine a plan; or take a known one of the same recipe.

    Raises:
        PlanBuildError: TensorRT refuses the graph or finds no plan.
        PlanError: An option is not available, or the plan does not load again.
    """
    trt = tensorrt_api.tensorrt()
    gpu = gpu_from_device_id(request.options.device_id)
    call("cudaSetDevice", gpu.device_id)
    tensorrt_api.load_plugins(request.options.plugins)
    skeleton = onnx_skeleton_from_path(request.network, keep_bytes=_SHAPE_BYTES)
    recipe = recipe_sha256(
        request.network, request.options, gpu, precision=request.precision, profiles=request.profiles
    )
    if _known_plan_taken(request, recipe):
        on_progress(1.0, "the published plan was made from the same; examining it")
        return _examined(request, gpu, skeleton, recipe=recipe)
    check_opset(request.network, max(o.version for o in skeleton.opset_import if o.domain in {"", "ai.onnx"}))
    _refuse_types(skeleton)
    log = _Log(on_progress)
    handle = tensorrt_api.logger(log.take)
    trt.init_libnvinfer_plugins(handle, "")
    on_progress(None, "reading the network")
    builder = trt.Builder(handle)
    if builder is None:
        raise PlanBuildError("TensorRT's builder does not start", got="; ".join(log.errors))
    network, _parser = parsed_network(builder, handle, request.network, skeleton, log.errors)
    config = builder.create_builder_config()
    set_types(network, config, request.precision, node_types(skeleton))
    _set_options(config, request.options)
    _add_profiles(builder, config, network, request.profiles)
    if (progress := monitor(on_progress)) is not None:
        config.progress_monitor = progress
    cache, read_bytes = _timing_cache(config, request.options, gpu)
    start = time.perf_counter()
    serialized = builder.build_serialized_network(network, config)
    build_s = time.perf_counter() - start
    if serialized is None:
        raise _refused(request, log.errors)
    request.destination.write_bytes(serialized)
    written_bytes = timing_cache.save_from(config, cache) if cache is not None else 0
    use = TimingCacheUse(
        path=str(cache) if cache is not None else None,
        read_bytes=read_bytes,
        written_bytes=written_bytes,
        note=log.notes[0] if log.notes else "",
    )
    on_progress(1.0, "examining the plan")
    return _examined(request, gpu, skeleton, recipe=recipe, build_s=build_s, use=use)


def _known_plan_taken(request: BuildRequest, recipe: str) -> bool:
    """Put a known plan of the recipe in place; who wants no timing cache wants everything measured anew."""
    known = request.known.get(recipe)
    if known is None or request.options.timing_cache is False or not known.path.is_file():
        return False
    shutil.copyfile(known.path, request.destination)
    return sha256_of_file(request.destination) == known.sha256


def _examined(
    request: BuildRequest,
    gpu: Gpu,
    skeleton: Any,
    *,
    recipe: str,
    build_s: float | None = None,
    use: TimingCacheUse = _NO_CACHE,
) -> Plan:
    """Load a plan, which was built in so many seconds or is a known one, and read its facts."""
    path = request.destination
    size_bytes = path.stat().st_size
    with Engine(path, gpu.device_id) as engine, Stream() as stream:
        layers = layers_from_inspector(_inspected(engine, stream), _flops(skeleton, request.profiles))
        return Plan(
            path=path,
            sha256=sha256_of_file(path),
            size_bytes=size_bytes,
            recipe_sha256=recipe,
            precision=request.precision,
            tensorrt_version=tensorrt_api.version(),
            gpu=gpu,
            tensors=engine.tensors,
            profiles=engine.profiles,
            device_memory_bytes=tuple(engine.device_memory_bytes(index) for index in range(len(engine.profiles))),
            layers=layers,
            proof=precision_proof(
                layers, request.precision, size_bytes=size_bytes, parameter_count=_parameter_count(skeleton)
            ),
            newly_built=build_s is not None,
            build_s=round(build_s or 0.0, 3),
            timing_cache=use,
        )


def _inspected(engine: Engine, stream: Stream) -> str:
    """The inspector's text at the optimum shapes of the first profile; without a context it leaves the types out."""
    trt = tensorrt_api.tensorrt()
    context = tensorrt_api.context_for_profile(engine.handle, 0, stream)
    for name, shapes in engine.profiles[0].items():
        context.set_input_shape(name, shapes.opt)
    inspector = engine.handle.create_engine_inspector()
    inspector.execution_context = context
    return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def _refuse_types(skeleton: Any) -> None:
    """TensorRT computes DOUBLE in FLOAT without a word, so it is refused here."""
    from onnx import TensorProto

    taken = {"FLOAT", "FLOAT16", "BFLOAT16", "INT8", "UINT8", "INT32", "INT64", "BOOL"}
    for value in (*skeleton.graph.input, *skeleton.graph.output):
        kind = TensorProto.DataType.Name(value.type.tensor_type.elem_type)
        if kind not in taken:
            raise PlanError(
                f"tensor '{value.name}' has a type that TensorRT does not have",
                expected=", ".join(sorted(taken)),
                got=kind,
                action="Cast it in the model, or use platform: onnxruntime.",
            )


def _set_options(config: Any, options: TensorRTOptions) -> None:
    trt = tensorrt_api.tensorrt()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.set_tactic_sources(tensorrt_api.tactic_sources(options.tactic_sources))
    config.builder_optimization_level = options.builder_optimization_level
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    for pool, size_bytes in options.memory_pool_bytes.items():
        kind = tensorrt_api.member(
            "MemoryPoolType", pool, option=f"tensorrt.memory_pool_bytes {pool}", since="TensorRT 10 or later"
        )
        config.set_memory_pool_limit(kind, size_bytes)
    for name, since in {
        "avg_timing_iterations": "any version",
        "max_aux_streams": "any version",
        "max_num_tactics": "TensorRT 10.4 or later",
        "l2_limit_for_tiling": "TensorRT 10.8 or later",
    }.items():
        value = getattr(options, name)
        if value is not None:
            if not hasattr(config, name):
                raise tensorrt_api.lacking(f"tensorrt.{name}", since)
            setattr(config, name, value)
    if options.tiling_optimization_level != "NONE":
        config.tiling_optimization_level = tensorrt_api.member(
            "TilingOptimizationLevel",
            options.tiling_optimization_level,
            option="tensorrt.tiling_optimization_level",
            since="TensorRT 10.8 or later",
        )
    config.hardware_compatibility_level = tensorrt_api.member(
        "HardwareCompatibilityLevel",
        options.hardware_compatibility_level,
        option=f"tensorrt.hardware_compatibility_level {options.hardware_compatibility_level}",
        since="TensorRT 10.9 or later",
    )
    _set_flags(config, options)
    if options.dla_core is not None:
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = options.dla_core


def _set_flags(config: Any, options: TensorRTOptions) -> None:
    wanted = {
        "SPARSE_WEIGHTS": options.sparse_weights,
        "VERSION_COMPATIBLE": options.version_compatible,
        "EXCLUDE_LEAN_RUNTIME": options.exclude_lean_runtime,
        "REFIT": options.refit,
        "STRIP_PLAN": options.strip_plan,
        "DISTRIBUTIVE_INDEPENDENCE": options.distributive_independence,
        "ERROR_ON_TIMING_CACHE_MISS": options.error_on_timing_cache_miss,
        "DISABLE_COMPILATION_CACHE": options.disable_compilation_cache,
        "GPU_FALLBACK": options.dla_core is not None and options.gpu_fallback,
    }
    for flag in (name for name, is_wanted in wanted.items() if is_wanted):
        since = "TensorRT 10.12 or later" if flag == "DISTRIBUTIVE_INDEPENDENCE" else "TensorRT 10 or later"
        config.set_flag(tensorrt_api.member("BuilderFlag", flag, option=f"tensorrt.{flag.lower()}", since=since))
    for feature, is_on in options.preview_features.items():
        option = f"tensorrt.preview_features {feature}"
        config.set_preview_feature(
            tensorrt_api.member("PreviewFeature", feature, option=option, since="a version that has it"), is_on
        )


def _add_profiles(builder: Any, config: Any, network: Any, profiles: tuple[Profile, ...]) -> None:
    inputs = {network.get_input(index).name for index in range(network.num_inputs)}
    for index, shapes in enumerate(profiles):
        profile = builder.create_optimization_profile()
        for name in inputs & set(shapes):
            profile.set_shape(name, shapes[name].min, shapes[name].opt, shapes[name].max)
        if config.add_optimization_profile(profile) < 0:
            raise PlanBuildError(
                f"TensorRT refuses profile {index}", got=str({name: str(shapes[name]) for name in sorted(inputs)})
            )


def _timing_cache(config: Any, options: TensorRTOptions, gpu: Gpu) -> tuple[Path | None, int]:
    if options.timing_cache is False:
        config.set_flag(tensorrt_api.tensorrt().BuilderFlag.DISABLE_TIMING_CACHE)
        return None, 0
    folder = timing_cache.default_folder() if options.timing_cache is True else options.timing_cache
    path = timing_cache.cache_path(folder, gpu, tensorrt_api.version())
    return path, timing_cache.load_into(config, path)


def _refused(request: BuildRequest, errors: list[str]) -> PlanBuildError:
    known = diagnosis_of(errors)
    return PlanBuildError(
        f"TensorRT {tensorrt_api.version()} finds no plan for {request.network.name}"
        + (f": {known.meaning}" if known is not None else ""),
        got=errors[-1] if errors else "no reason in its log",
        action=known.action if known is not None else "See TensorRT's words, or use platform: onnxruntime.",
    )


def _flops(skeleton: Any, profiles: tuple[Profile, ...]) -> dict[str, int]:
    shapes = {name: shape.opt for name, shape in profiles[0].items()} if profiles else {}
    return flops_by_node(skeleton, shapes)


def _parameter_count(skeleton: Any) -> int:
    total = 0
    for tensor in skeleton.graph.initializer:
        count = 1
        for size in tensor.dims:
            count *= size
        total += count
    return total


def request_to_json(request: BuildRequest) -> dict[str, Any]:
    """Plain data of a request."""
    return {
        "network": str(request.network),
        "destination": str(request.destination),
        "precision": request.precision,
        "profiles": [
            {name: shapes.model_dump(mode="json") for name, shapes in profile.items()} for profile in request.profiles
        ],
        "options": request.options.model_dump(mode="json"),
        "known": {recipe: [str(plan.path), plan.sha256] for recipe, plan in request.known.items()},
    }


def plan_facts(plan: Plan) -> dict[str, Any]:
    """Plain data of a plan, complete."""
    facts = asdict(plan)
    facts["path"] = str(plan.path)
    return facts
