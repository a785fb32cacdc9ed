"""The one place that imports TensorRT. Differences between 8.6, 10 and 11 are found by asking for names.

Enum integers changed between major versions, so members are always taken by name; what a version lacks is an error
that names the option. The names per version were read from the bindings and are tested against them.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from tritonforge_generator.errors import PlanError, TensorRTMissingError

Severity = Literal["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"]
OnMessage = Callable[[Severity, str], None]

DATATYPES: Final = {
    "FLOAT": "FP32",
    "HALF": "FP16",
    "BF16": "BF16",
    "INT8": "INT8",
    "UINT8": "UINT8",
    "INT32": "INT32",
    "INT64": "INT64",
    "BOOL": "BOOL",
}
"""TensorRT's data types to Triton's, those that Triton's backend takes (``tensorrt_utils.cc``)."""


@cache
def tensorrt() -> Any:
    """TensorRT's Python module.

    Raises:
        TensorRTMissingError: It is not installed, or its libraries cannot be loaded.
    """
    try:
        return importlib.import_module("tensorrt")
    except ModuleNotFoundError as error:
        raise TensorRTMissingError(
            "TensorRT is not installed here",
            expected="the package tensorrt",
            got=str(error),
            action="Run: pip install 'tritonforge[tensorrt]' in the version of your Triton server, or use platform: "
            "onnxruntime.",
        ) from error
    except (ImportError, OSError) as error:
        raise TensorRTMissingError(
            "TensorRT cannot be loaded",
            expected="its libraries and those of CUDA on LD_LIBRARY_PATH",
            got=str(error),
            action="Install the CUDA major version that this TensorRT was built for.",
        ) from error


def load_plugins(libraries: Sequence[Path]) -> None:
    """Load plugin libraries, which register themselves; builds and engines of this process can use them then.

    Raises:
        PlanError: One cannot be loaded.
    """
    for library in libraries:
        try:
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise PlanError(
                f"the plugin library {library.name} cannot be loaded",
                expected="a shared library for this machine and TensorRT",
                got=str(error),
                action="Correct tensorrt.plugins.",
            ) from error


def version() -> str:
    """Version of the installed TensorRT."""
    return str(tensorrt().__version__)


def major_version() -> int:
    """Major version of the installed TensorRT."""
    return int(version().split(".")[0])


def member(enum: str, name: str, *, option: str, since: str) -> Any:
    """A member of an enum that not every version has.

    Args:
        enum: Name of the enum, for example ``BuilderFlag``.
        name: Name of the member.
        option: What the user asked for.
        since: The versions that have it, for the message.

    Raises:
        PlanError: The installed version lacks it.
    """
    found = getattr(getattr(tensorrt(), enum, None), name, None)
    if found is None:
        raise lacking(option, since)
    return found


def lacking(option: str, since: str) -> PlanError:
    """The error for an option that the installed version does not have."""
    return PlanError(
        f"{option} needs another TensorRT",
        expected=since,
        got=version(),
        action=f"Leave {option} out, or build with that version.",
    )


def logger(on_message: OnMessage) -> Any:
    """An ``ILogger`` that hands every message on."""
    trt = tensorrt()

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]  # the base is only known at run time
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            on_message(severity.name, message)

    return Logger()


def is_strongly_typed() -> bool:
    """Whether networks take their types from the graph alone: an option from 9.1 on, the rule from 11 on."""
    return hasattr(tensorrt().NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def shares_profiles() -> bool:
    """Whether several contexts may use one profile, as from TensorRT 10 on."""
    return major_version() >= 10


def network_flags() -> int:
    """Flags of ``create_network``: explicit batch where it is still a choice, strong types where they exist."""
    names = tensorrt().NetworkDefinitionCreationFlag
    flags = 0
    for name in ("EXPLICIT_BATCH", "STRONGLY_TYPED"):
        if hasattr(names, name):
            flags |= 1 << int(getattr(names, name))
    return flags


def tactic_sources(names: Sequence[str]) -> int:
    """Bits of tactic sources.

    Raises:
        PlanError: The installed version lacks one.
    """
    bits = 0
    for name in names:
        option = f"tensorrt.tactic_sources {name}"
        bits |= 1 << int(member("TacticSource", name, option=option, since="TensorRT 10 or earlier"))
    return bits


def datatype_of(dtype: Any, tensor: str) -> str:
    """Triton's name of a TensorRT data type.

    Raises:
        PlanError: Triton cannot carry it.
    """
    found = DATATYPES.get(dtype.name)
    if found is None:
        raise PlanError(
            f"tensor '{tensor}' of the plan has a type that Triton cannot serve",
            expected=", ".join(DATATYPES.values()),
            got=dtype.name,
            action="Cast it to one of these in the graph.",
        )
    return found


def engine_from_path(path: Path, log: Any, *, host_code: bool = True) -> Any:
    """Load a plan; ``None`` when TensorRT refuses it, with the reason in the log.

    Args:
        path: The plan.
        log: From ``logger``.
        host_code: Whether the plan may bring code of its own, as version-compatible plans do.

    Returns:
        The ``ICudaEngine`` together with the ``Runtime`` that must outlive it.
    """
    runtime = tensorrt().Runtime(log)
    runtime.engine_host_code_allowed = host_code  # version-compatible plans bring a lean runtime
    return runtime.deserialize_cuda_engine(path.read_bytes()), runtime


def device_memory_bytes(engine: Any, profile: int) -> int:
    """Scratch memory of one execution context on one profile."""
    for name in ("get_device_memory_size_for_profile_v2", "get_device_memory_size_for_profile"):
        if hasattr(engine, name):
            return int(getattr(engine, name)(profile))
    return int(engine.device_memory_size)  # 8.6: the largest of all profiles


def context_for_profile(engine: Any, profile: int, stream: Any) -> Any:
    """An execution context on a profile.

    Raises:
        PlanError: There is not enough memory.
    """
    context = engine.create_execution_context()
    if context is None or not context.set_optimization_profile_async(profile, stream.address):
        raise PlanError(
            f"no execution context for profile {profile}",
            got="out of GPU memory, most likely; TensorRT's log says it",
            action="Lower the number of instances or max_batch_size.",
        )
    stream.synchronize()
    return context
