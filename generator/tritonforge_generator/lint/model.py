"""What rules look at: one model of a repository, as written and as the server completes it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from tritonforge_generator.lint.completion import complete_backend, normalise
from tritonforge_generator.lint.onnx_io import OnnxGraph, UnreadableModelError, graph_from_file
from tritonforge_generator.lint.positions import Place, place_of, positions_from_text
from tritonforge_generator.lint.proto import Message, ModelConfig, schema

CONFIG_FILENAME: Final = "config.pbtxt"
# Sub-directories of a model that the server never takes for versions.
_NOT_VERSIONS: Final = frozenset({"warmup", "initial_state", "configs"})
_INTEGER_PREFIX: Final = re.compile(r"\s*([+-]?\d+)")
_UNKNOWN_ESCAPE: Final = re.compile(r"(?<!\\)(?:\\\\)*\\[^abfnrtv\\'\"?xXuU0-7]")
_INT64_MAX: Final = 2**63 - 1
_DEFAULT_MAX_BATCH_SIZE: Final = 4


@dataclass(frozen=True, slots=True)
class ParseFailure:
    """Why the text is no ``ModelConfig``.

    Attributes:
        message: What the parser says, without the place.
        line: 1-based line.
        column: 1-based column.
    """

    message: str
    line: int
    column: int


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
        siblings: The other models of the repository by name; ``None`` when the model is looked at alone.
    """

    directory: Path
    strict: bool
    written: ModelConfig
    config: ModelConfig
    text: str | None = None
    open_failure: str = ""
    parse_failure: ParseFailure | None = None
    siblings: Mapping[str, Path] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Name of the directory, which is the name that the server loads the model by."""
        return self.directory.name

    @property
    def path(self) -> Path:
        """Path of the config, whether it exists or not."""
        return self.directory / CONFIG_FILENAME

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
            if match is not None and name not in _NOT_VERSIONS and not (len(name) > 1 and name.startswith("0")):
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
        """Yield the config's tensors as ``("input" | "output", index, message)``, in the server's order."""
        for kind in ("input", "output"):
            for index, tensor in enumerate(getattr(self.config, kind)):
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
    def model_files(self) -> Mapping[int, Path]:
        """Path of the ONNX file of every loaded version; a directory stands for the ``model.onnx`` inside it."""
        found = {}
        for version in self.versions:
            path = self._file(version, "model.onnx")
            found[version] = path / "model.onnx" if path.is_dir() else path
        return found

    def _file(self, version: int, default: str) -> Path:
        # The server joins names as text: a leading slash does not lead out of the directory.
        name = self.config.default_model_filename.lstrip("/") or default
        return self.directory / str(version) / name

    @cached_property
    def graphs(self) -> Mapping[int, OnnxGraph | UnreadableModelError]:
        """The ONNX graph of every loaded version whose file exists; read on first use, without weights."""
        if not self.is_onnxruntime:
            return {}
        found: dict[int, OnnxGraph | UnreadableModelError] = {}
        for version, path in self.model_files.items():
            if not path.exists():
                continue
            try:
                found[version] = graph_from_file(path)
            except UnreadableModelError as error:
                found[version] = error
        return found

    @cached_property
    def io_is_final(self) -> bool:
        """Whether no back-end will fill in what the config leaves out of its inputs, outputs and batch size."""
        if self.strict or self.is_ensemble:
            return True
        if self.is_onnxruntime:
            return not self.completes_onnx
        if self.config.backend == "python":
            return not any(self._defines_completion(version) for version in self.versions)
        return False

    def _defines_completion(self, version: int) -> bool:
        path = self._file(version, "model.py")
        try:
            return "auto_complete_config" in path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return True

    @cached_property
    def served(self) -> ModelConfig | None:
        """The config as the back-end completes it; ``None`` when that cannot be known without running it."""
        if self.io_is_final:
            return self.config
        graphs = [graph for graph in self.graphs.values() if isinstance(graph, OnnxGraph)]
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


def subdirectories_of(directory: Path) -> tuple[str, ...]:
    """Return the names of a directory's sub-directories in alphabetical order; none when it cannot be read."""
    try:
        return tuple(sorted(entry.name for entry in directory.iterdir() if entry.is_dir()))
    except OSError:
        return ()


def model_from_directory(directory: Path, *, strict: bool, siblings: Mapping[str, Path] | None = None) -> Model:
    """Read one model directory; whatever is wrong with it is for the rules to say.

    Args:
        directory: The model's directory.
        strict: See ``Model``.
        siblings: See ``Model``.
    """
    written = schema().ModelConfig()
    text, open_failure, parse_failure = None, "", None
    try:
        # The server takes bytes; a comment or a label in another encoding is none of its business.
        text = (directory / CONFIG_FILENAME).read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        pass
    except OSError as error:
        open_failure = error.strerror or str(error)
    if text is not None:
        parse_failure = _parse(text, written)
    config = schema().ModelConfig()
    config.CopyFrom(written)
    names = subdirectories_of(directory)
    complete_backend(config, directory.name, directory / names[0] if names else None)
    normalise(config)
    return Model(
        directory=directory,
        strict=strict,
        written=written,
        config=config,
        text=text,
        open_failure=open_failure,
        parse_failure=parse_failure,
        siblings=siblings,
    )


def _parse(text: str, config: ModelConfig) -> ParseFailure | None:
    from google.protobuf import text_format

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            text_format.Parse(text, config)
    except DeprecationWarning:
        # Python takes an unknown escape sequence as it stands; the server's parser refuses it.
        config.Clear()
        found = _UNKNOWN_ESCAPE.search(text)
        before = text[: found.end() - 2] if found is not None else ""
        place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"), "")
        return ParseFailure("Invalid escape sequence in string literal.", place.line, place.column)
    except text_format.ParseError as error:
        config.Clear()
        line, column = error.GetLine() or 1, error.GetColumn() or 1
        message = str(error).partition(" : ")[2] or str(error)
        return ParseFailure(message, line, column)
    except ValueError as error:
        # An enum number that is too large: the parser tells the value but not the place.
        config.Clear()
        value = str(error).rpartition(" ")[2]
        places = (place for place in positions_from_text(text).values() if place.value == value)
        place = next(places, Place(1, 1, ""))
        return ParseFailure(str(error), place.line, place.column)
    return None
