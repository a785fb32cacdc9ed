"""What rules look at: one model of a repository, as written and as the server completes it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tritonforge_generator.lint.completion import complete_backend, normalise
from tritonforge_generator.lint.host import Host, resolved_kind
from tritonforge_generator.lint.onnx_io import OnnxGraph, UnreadableModelError, graph_from_file
from tritonforge_generator.lint.parsing import ParseFailure, parse_config
from tritonforge_generator.lint.plan_completion import completed_by_tensorrt
from tritonforge_generator.lint.plan_io import PlanIo, UnreadablePlanError, plan_from_file
from tritonforge_generator.lint.positions import Place, place_of, positions_from_text
from tritonforge_generator.lint.proto import Message, ModelConfig, enum_name, schema
from tritonforge_generator.lint.python_completion import PythonCompletion, completed_by_python
from tritonforge_generator.python_syntax import PythonSlip, PythonSource, python_from_file

if TYPE_CHECKING:
    from tritonforge_generator.lint.repositories import Repositories

CONFIG_FILENAME: Final = "config.pbtxt"
NOT_VERSIONS: Final = frozenset({"warmup", "initial_state", "configs"})
"""Sub-directories of a model that the server never takes for versions."""
_INTEGER_PREFIX: Final = re.compile(r"\s*([+-]?\d+)", re.ASCII)
_INT64_MAX: Final = 2**63 - 1
_DEFAULT_MAX_BATCH_SIZE: Final = 4


@dataclass(frozen=True)
class Model:
    """One model directory.

    Attributes:
        directory: The model's directory.
        strict: Whether the back-end's completion is off (``--disable-auto-complete-config``).
        written: The config as written; empty when there is none.
        config: The config after the server's own completion by names and files, with its defaults.
        text: Content of ``config.pbtxt``; ``None`` when there is none or it cannot be opened.
        open_failure: Why it cannot be opened, in the system's words; empty when it can or does not exist.
        parse_failure: Why it is no config; ``written`` and ``config`` are then empty.
        config_filename: Path of the config from the model's directory.
        roots: Real paths of the repositories; what leads out of them is not read.
        is_outside: Whether the directory or its config leads out of the repositories, so that nothing was read.
        repositories: The repositories that it is in; ``None`` when the model is looked at alone.
        host: Where it is to be served; ``None`` when nothing was declared.
        reads_files: Whether model files may be opened; otherwise nothing is known of them.
    """

    directory: Path
    strict: bool
    written: ModelConfig
    config: ModelConfig
    text: str | None = None
    open_failure: str = ""
    parse_failure: ParseFailure | None = None
    config_filename: str = CONFIG_FILENAME
    roots: tuple[str, ...] = ()
    is_outside: bool = False
    repositories: Repositories | None = field(default=None, repr=False)
    host: Host | None = None
    reads_files: bool = True

    @property
    def name(self) -> str:
        """Name of the directory, which is the name that the server loads the model by."""
        return self.directory.name

    @property
    def path(self) -> Path:
        """Path of the config, whether it exists or not."""
        return self.directory / self.config_filename

    def with_text(self, text: str) -> Model:
        """Return the model as it would be with another text in its config."""
        written, config, failure = _understood(self.directory, text, self.host)
        return replace(self, text=text, written=written, config=config, parse_failure=failure, open_failure="")

    def reaches(self, path: Path) -> bool:
        """Whether a path leads, with links followed, to something inside the repositories, which may be read."""
        return _is_inside(path, self.roots)

    @property
    def is_ensemble(self) -> bool:
        """Whether the model is an ensemble."""
        return bool(self.config.platform == "ensemble" or self.config.HasField("ensemble_scheduling"))

    @cached_property
    def positions(self) -> Mapping[str, Place]:
        """Place of every written field by its path."""
        return {} if self.text is None else positions_from_text(self.text)

    def place(self, path: str) -> Place | None:
        """Return the place of a field, or of the nearest written one around it."""
        return place_of(self.positions, path)

    def is_written(self, path: str) -> bool:
        """Whether a field stands in the text, whatever its value."""
        return path.replace("[0]", "") in self.positions

    @cached_property
    def subdirectories(self) -> tuple[str, ...]:
        """Names of all sub-directories in alphabetical order, hidden ones included."""
        return subdirectories_of(self.directory)

    @cached_property
    def existing_versions(self) -> Mapping[int, str]:
        """Version directories by number, as the server reads their names: ``1abc`` is 1, ``01`` is none."""
        found: dict[int, str] = {}
        for name in self.subdirectories:
            match = _INTEGER_PREFIX.match(name)
            if match is not None and name not in NOT_VERSIONS and not (len(name) > 1 and name.startswith("0")):
                number = int(match.group(1))
                if abs(number) <= _INT64_MAX:
                    found[number] = name
        return found

    @cached_property
    def versions(self) -> tuple[int, ...]:
        """Versions that the version policy loads, oldest first."""
        policy = self.config.version_policy
        existing = sorted(self.existing_versions)
        choice = policy.WhichOneof("policy_choice")
        if choice == "specific":
            return tuple(version for version in sorted(set(policy.specific.versions)) if version in existing)
        if choice == "latest":
            count = policy.latest.num_versions
            return tuple(existing[-count:]) if count > 0 else ()
        return tuple(existing)

    def tensors(self) -> Iterator[tuple[str, int, Message]]:
        """Yield the config's tensors as ``("input" | "output", index, message)``, in the server's order.

        Those that a Python model adds come last.
        """
        config = self.served if self.is_python and self.served is not None else self.config
        for kind in ("input", "output"):
            for index, tensor in enumerate(getattr(config, kind)):
                yield kind, index, tensor

    @property
    def batches(self) -> bool:
        """Whether a batch dimension is put in front of every ``dims``."""
        return bool(self.config.max_batch_size > 0)

    @property
    def is_onnxruntime(self) -> bool:
        """Whether the ONNX Runtime back-end serves it."""
        return bool(self.config.backend == "onnxruntime")

    @property
    def completes_onnx(self) -> bool:
        """Whether the ONNX Runtime back-end opens the model to complete the config: only without inputs or outputs."""
        given = len(self.config.input) + len(self.config.batch_input) > 0 and len(self.config.output) > 0
        return self.is_onnxruntime and not self.strict and not given

    @cached_property
    def model_filename(self) -> tuple[str, str] | None:
        """The field that names the file that every instance opens, and the name, empty for the back-end's own default.

        ``None`` where ``cc_model_filenames`` leaves it open: only instances on a GPU look there, by its compute
        capability. Source: ``BackendModelInstance`` in the server's ``backend_model_instance.cc``.
        """
        default = ("default_model_filename", self.config.default_model_filename)
        names = self.config.cc_model_filenames
        groups = self.config.instance_group or [schema().ModelInstanceGroup()]
        kinds = {resolved_kind(group, self.host) for group in groups}
        if len(names) == 0 or kinds <= {"KIND_CPU", "KIND_MODEL"}:
            return default
        capability = None if self.host is None else self.host.compute_capability
        # A server whose GPUs are declared has some.
        if capability is None or not kinds <= {"KIND_GPU", "KIND_AUTO"}:
            return None
        key = "{}.{}".format(*capability)
        chosen = (f'cc_model_filenames["{key}"]', names[key]) if key in names else default
        # To complete a config the ONNX Runtime back-end opens the default one.
        return None if self.completes_onnx and chosen != default else chosen

    @cached_property
    def model_files(self) -> Mapping[int, Path]:
        """Path of the ONNX file of every loaded version; a directory stands for the ``model.onnx`` inside it.

        None where the file depends on a GPU that was not declared.
        """
        return {} if self.model_filename is None else self._onnx_files(self.model_filename[1])

    def _onnx_files(self, name: str) -> dict[int, Path]:
        files = self._files(name, "model.onnx").items()
        found = {version: path / "model.onnx" if path.is_dir() else path for version, path in files}
        return {version: path for version, path in found.items() if self.reaches(path)}

    def _files(self, name: str, default: str) -> dict[int, Path]:
        """Name the model file of every loaded version; one that leads out of the repositories is left out."""
        # The server joins names as text: a leading slash does not lead out of the directory.
        name = name.lstrip("/") or default
        paths = {version: self.directory / str(version) / name for version in self.versions}
        return {version: path for version, path in paths.items() if self.reaches(path)}

    @cached_property
    def graphs(self) -> Mapping[int, OnnxGraph | UnreadableModelError]:
        """The ONNX graph of every loaded version whose file exists; read on first use, without weights."""
        return self._read_graphs(self.model_files)

    @property
    def _completing_graphs(self) -> Mapping[int, OnnxGraph | UnreadableModelError]:
        """Likewise of the files that the back-end completes the config from: always the default ones."""
        if self.model_filename is not None:  # then they are the same, and read once
            return self.graphs
        return self._read_graphs(self._onnx_files(self.config.default_model_filename))

    def _read_graphs(self, files: Mapping[int, Path]) -> dict[int, OnnxGraph | UnreadableModelError]:
        found: dict[int, OnnxGraph | UnreadableModelError] = {}
        for version, path in files.items() if self.is_onnxruntime and self.reads_files else ():
            if not path.exists():
                continue
            try:
                found[version] = graph_from_file(path)
            except UnreadableModelError as error:
                found[version] = error
        return found

    @property
    def is_tensorrt(self) -> bool:
        """Whether the TensorRT back-end serves it."""
        return bool(self.config.backend == "tensorrt")

    @property
    def completes_plan(self) -> bool:
        """Whether the TensorRT back-end opens the plan to complete the config: only if it will run on a GPU."""
        groups = self.config.instance_group
        kind = enum_name(groups[0], "kind") if len(groups) > 0 else "KIND_AUTO"
        # Without a declared host, a plan is taken to be meant for a GPU.
        has_gpu = self.host is None or self.host.supported_gpus != ()
        runs_on_gpu = kind == "KIND_GPU" or (kind == "KIND_AUTO" and has_gpu)
        return self.is_tensorrt and not self.strict and runs_on_gpu

    @cached_property
    def plan_files(self) -> Mapping[int, Path]:
        """Path of the plan of every loaded version; none where the file depends on a GPU that was not declared."""
        if not self.is_tensorrt or "multi_device_per_rank_engines" in self.config.parameters:
            return {}
        return {} if self.model_filename is None else self._files(self.model_filename[1], "model.plan")

    @cached_property
    def plans(self) -> Mapping[int, PlanIo | UnreadablePlanError | None]:
        """What is known of the plan of every loaded version whose file exists; read on first use."""
        found: dict[int, PlanIo | UnreadablePlanError | None] = {}
        for version, path in self.plan_files.items():
            if not path.exists() or not self.reads_files:
                continue
            try:
                found[version] = plan_from_file(path)
            except UnreadablePlanError as error:
                found[version] = error
        return found

    @property
    def is_python(self) -> bool:
        """Whether the Python back-end serves it."""
        return bool(self.config.backend == "python")

    @cached_property
    def python_files(self) -> Mapping[int, Path]:
        """Path of the Python file of every loaded version."""
        return self._files(self.config.default_model_filename, "model.py") if self.is_python else {}

    @cached_property
    def pythons(self) -> Mapping[int, PythonSource | PythonSlip | None]:
        """What the Python file of every loaded version says; ``None`` where it cannot be known."""
        files = self.python_files if self.reads_files else {}
        return {version: python_from_file(files.get(version)) for version in self.versions}

    @cached_property
    def python_completions(self) -> Mapping[int, PythonCompletion | None]:
        """What ``auto_complete_config`` of every loaded version does; ``None`` where only running it would tell."""
        return {
            version: completed_by_python(self.config, source)
            for version, source in self.pythons.items()
            if isinstance(source, PythonSource) and source.completes and not self.strict
        }

    @cached_property
    def io_is_final(self) -> bool:
        """Whether no back-end will fill in what the config leaves out of its inputs, outputs and batch size."""
        if self.strict or self.is_ensemble:
            return True
        if self.is_onnxruntime:
            return not self.completes_onnx
        if self.is_tensorrt:
            return not self.completes_plan
        if self.is_python:
            return all(isinstance(source, PythonSource) and not source.completes for source in self.pythons.values())
        return False

    @cached_property
    def served(self) -> ModelConfig | None:
        """The config as the back-end completes it; ``None`` when that cannot be known without running it."""
        if self.io_is_final:
            return self.config
        if self.is_tensorrt:
            plans = [plan for plan in self.plans.values() if isinstance(plan, PlanIo)]
            return completed_by_tensorrt(self.config, plans[-1]) if plans else None
        if self.is_python:
            completed = [*self.python_completions.values()]
            return completed[-1].config if completed and completed[-1] is not None else None
        graphs = [graph for graph in self._completing_graphs.values() if isinstance(graph, OnnxGraph)]
        if not self.is_onnxruntime or not graphs:
            return None
        return _completed_by_onnxruntime(self.config, graphs[-1])


def _completed_by_onnxruntime(config: ModelConfig, graph: OnnxGraph) -> ModelConfig:
    """Complete as the back-end's ``AutoCompleteConfig`` does."""
    served = schema().ModelConfig()
    served.CopyFrom(config)
    if graph.batches and served.max_batch_size == 0:
        served.max_batch_size = _DEFAULT_MAX_BATCH_SIZE
    if graph.batches and served.max_batch_size > 1 and served.WhichOneof("scheduling_choice") is None:
        served.dynamic_batching.SetInParent()
    for existing, tensors in ((served.input, graph.inputs), (served.output, graph.outputs)):
        if len(existing) > 0:
            continue
        for name in sorted(tensors):
            dims = tensors[name].dims[1:] if served.max_batch_size > 0 else tensors[name].dims
            entry = existing.add(name=name, data_type=tensors[name].data_type, dims=dims or (1,))
            if not dims and served.max_batch_size > 0:
                entry.reshape.SetInParent()
    return served


def text_of(name: str) -> str:
    """Return a file's name as a config can hold it: bytes that are no UTF-8 are replaced."""
    return os.fsencode(name).decode(errors="replace")


def leads_out(path: Path, directory: Path) -> bool:
    """Whether the server takes a path to lead out of a directory: links are followed, and names compared by letters.

    Source: ``IsChildPathEscapingParentPath`` in the server's ``filesystem/api.cc``.
    """
    try:
        return not os.path.realpath(path).startswith(os.path.realpath(directory))
    except ValueError:  # no file has a NUL in its name
        return False


def subdirectories_of(directory: Path) -> tuple[str, ...]:
    """Return the names of a directory's sub-directories in alphabetical order; none when it cannot be read."""
    try:
        return tuple(sorted(entry.name for entry in directory.iterdir() if entry.is_dir()))
    except OSError:
        return ()


def model_from_directory(
    directory: Path,
    *,
    strict: bool,
    roots: tuple[str, ...],
    repositories: Repositories | None = None,
    host: Host | None = None,
    config_name: str = "",
    reads_files: bool = True,
) -> Model:
    """Read one model directory; whatever is wrong with it is for the rules to say.

    Args:
        directory: The model's directory.
        strict: See ``Model``.
        roots: See ``Model``.
        repositories: See ``Model``.
        host: See ``Model``.
        config_name: See ``lint_repository``.
        reads_files: See ``Model``.
    """
    text, open_failure = None, ""
    filename = _config_filename(directory, config_name)
    is_outside = not _is_inside(directory, roots) or not _is_inside(directory / filename, roots)
    written, config, parse_failure = schema().ModelConfig(), schema().ModelConfig(), None
    if not is_outside:
        text, open_failure = _read(directory / filename)
        written, config, parse_failure = _understood(directory, text, host)
    return Model(
        directory=directory,
        strict=strict,
        written=written,
        config=config,
        text=text,
        open_failure=open_failure,
        parse_failure=parse_failure,
        config_filename=filename,
        roots=roots,
        is_outside=is_outside,
        repositories=repositories,
        host=host,
        reads_files=reads_files,
    )


def _understood(
    directory: Path, text: str | None, host: Host | None
) -> tuple[ModelConfig, ModelConfig, ParseFailure | None]:
    """Return the config as written, as the server completes it by names and files, and why it is none."""
    written, config, failure = schema().ModelConfig(), schema().ModelConfig(), None
    if text is not None:
        failure = parse_config(text, written, host)
    config.CopyFrom(written)
    names = subdirectories_of(directory)
    complete_backend(config, text_of(directory.name), directory / names[0] if names else None)
    normalise(config)
    return written, config, failure


def _is_inside(path: Path, roots: tuple[str, ...]) -> bool:
    try:
        path.exists()
        real = os.path.realpath(path)
    except (OSError, ValueError):  # no file has such a name: it is too long, or there is a NUL in it
        return False
    return any(real == root or real.startswith(root.rstrip(os.sep) + os.sep) for root in roots)


def _config_filename(directory: Path, config_name: str) -> str:
    """Choose the variant of the config; a model without that variant is served by its ``config.pbtxt``."""
    variant = f"configs/{config_name}.pbtxt"
    return variant if config_name != "" and (directory / variant).exists() else CONFIG_FILENAME


def _read(path: Path) -> tuple[str | None, str]:
    """Return a config's text, or ``None`` and why it cannot be opened; no reason when it does not exist."""
    try:
        # The server takes bytes; a comment or a label in another encoding is none of its business.
        return path.read_bytes().decode("utf-8", errors="replace"), ""
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return None, error.strerror or str(error)
