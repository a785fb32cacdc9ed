"""What the server fills in before it checks: the back-end by names and files, then defaults.

Source: ``AutoCompleteBackendFields`` and ``NormalizeModelConfig`` in the server's ``model_config_utils.cc``. The first
always runs, even with ``--disable-auto-complete-config``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tritonforge_generator.lint.proto import ModelConfig


@dataclass(frozen=True, slots=True)
class Backend:
    """How the server recognises a back-end.

    Attributes:
        name: Value of ``backend``.
        platforms: Values of ``platform`` that stand for it; the first is filled in.
        filenames: Default file names in the version directory; the first is filled in.
        directories: Whether a directory of that name counts: ``None`` for both.
    """

    name: str
    platforms: tuple[str, ...]
    filenames: tuple[str, ...]
    directories: bool | None


# In the order in which the server tries them.
_TENSORRT: Final = Backend("tensorrt", ("tensorrt_plan",), ("model.plan",), directories=False)
_ONNXRUNTIME: Final = Backend("onnxruntime", ("onnxruntime_onnx",), ("model.onnx",), directories=None)
_OPENVINO: Final = Backend("openvino", (), ("model.xml",), directories=None)
_PYTORCH: Final = Backend(
    "pytorch", ("pytorch_libtorch", "libtorch", "torch_aoti"), ("model.pt", "model.pt2"), directories=False
)
_PYTHON: Final = Backend("python", (), ("model.py",), directories=None)
_BACKENDS: Final = (_TENSORRT, _ONNXRUNTIME, _OPENVINO, _PYTORCH, _PYTHON)
_SAVEDMODEL: Final = ("tensorflow_savedmodel", "model.savedmodel")
_GRAPHDEF: Final = ("tensorflow_graphdef", "model.graphdef")


def complete_backend(config: ModelConfig, name: str, version_directory: Path | None) -> None:
    """Fill ``name``, ``backend``, ``platform`` and ``default_model_filename`` as the server does.

    Args:
        config: Changed in place.
        name: Name of the model's directory.
        version_directory: The alphabetically first sub-directory, whatever it is; ``None`` without any.
    """
    if config.name == "":
        config.name = name
    if _complete_tensorflow(config, version_directory):
        return
    for backend in _BACKENDS:
        if config.backend == "" and _recognised(backend, config, version_directory):
            config.backend = backend.name
        if config.backend == backend.name:
            _fill(backend, config, version_directory)
            return
    if config.backend == config.platform == config.default_model_filename == "" and "." in name:
        config.backend = name.partition(".")[2]
        config.default_model_filename = f"model.{config.backend}"


def _complete_tensorflow(config: ModelConfig, version_directory: Path | None) -> bool:
    """TensorFlow is told by its platform, which is therefore completed first."""
    if config.platform == "" and config.backend in {"", "tensorflow"}:
        for platform, filename in (_SAVEDMODEL, _GRAPHDEF):
            path = None if version_directory is None else version_directory / filename
            if config.default_model_filename == filename or (
                config.default_model_filename == ""
                and path is not None
                and (path.is_dir() if platform == _SAVEDMODEL[0] else path.is_file())
            ):
                config.platform = platform
    if config.platform not in {_SAVEDMODEL[0], _GRAPHDEF[0]}:
        return False
    config.backend = config.backend or "tensorflow"
    default = _SAVEDMODEL[1] if config.platform == _SAVEDMODEL[0] else _GRAPHDEF[1]
    config.default_model_filename = config.default_model_filename or default
    return True


def _recognised(backend: Backend, config: ModelConfig, version_directory: Path | None) -> bool:
    if config.platform in backend.platforms or config.default_model_filename in backend.filenames:
        return True
    if config.platform != "" or config.default_model_filename != "" or version_directory is None:
        return False
    return any(_present(version_directory / filename, backend.directories) for filename in backend.filenames)


def _present(path: Path, directories: bool | None) -> bool:
    return path.exists() and (directories is None or path.is_dir() == directories)


def _fill(backend: Backend, config: ModelConfig, version_directory: Path | None) -> None:
    filename = backend.filenames[0]
    if backend is _PYTORCH:
        if config.platform == "" and version_directory is not None and config.default_model_filename == "":
            aoti = not (version_directory / "model.pt").exists() and (version_directory / "model.pt2").is_file()
            config.platform = "torch_aoti" if aoti else ""
        if config.platform == "torch_aoti" or config.default_model_filename == "model.pt2":
            config.platform = config.platform or "torch_aoti"
            filename = "model.pt2"
    if config.platform == "" and backend.platforms != ():
        config.platform = backend.platforms[0]
    if config.default_model_filename == "":
        config.default_model_filename = filename


def normalise(config: ModelConfig) -> None:
    """Fill the defaults that later checks look at: version policy, preferred batch sizes, names of instance groups.

    Args:
        config: Changed in place.
    """
    if not config.HasField("version_policy"):
        config.version_policy.latest.num_versions = 1
    for scheduler in ("dynamic_batching", "sequence_batching"):
        if not config.HasField(scheduler):
            continue
        batcher = getattr(config, scheduler)
        if scheduler == "sequence_batching":
            if not batcher.HasField("oldest"):
                continue
            batcher = batcher.oldest
        if len(batcher.preferred_batch_size) == 0 and config.max_batch_size > 0:
            batcher.preferred_batch_size.append(config.max_batch_size)
    for index, group in enumerate(config.instance_group):
        if group.name == "":
            group.name = f"{config.name}_{index}"
