"""A, C, R, M: which back-end serves the model, settings of the whole config, names, labels."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tritonforge_generator.lint.model import Model, leads_out, text_of
from tritonforge_generator.lint.rule import Hit, rule
from tritonforge_generator.lint.rules.decoupled import ensemble_is_decoupled

# Platforms that the server accepts beside the back-ends it knows; every other back-end may have any platform.
_PLATFORMS: Final = {
    "tensorflow": ("tensorflow_graphdef", "tensorflow_savedmodel"),
    "tensorrt": ("tensorrt_plan",),
    "onnxruntime": ("onnxruntime_onnx",),
    "pytorch": ("pytorch_libtorch", "torch_aoti"),
}
_FILES: Final = "model.plan, model.onnx, model.xml, model.pt or model.py"
_LABELS_STAY_INSIDE: Final = "26.06"
# What may follow the underscore of a label: a second one is Prometheus' own.
_LABEL_END: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9_]*)?")


def _undetermined(model: Model) -> bool:
    config = model.config
    return bool(config.backend == config.platform == config.default_model_filename == "")


@rule(
    "A1",
    needs="dir",
    text="Invalid model name: Could not determine backend for model '{name}' with no backend in model configuration. "
    "Expected model name of the form 'model.<backend_name>'.",
    fix=f"Write `backend`, or put {_FILES} into the version directory. The server looks only into '{{first}}', the "
    "alphabetically first sub-directory.",
)
def backend_is_known(model: Model) -> Iterator[Hit]:
    """The config names a back-end or a platform, or the first sub-directory holds a file that tells it."""
    if _undetermined(model):
        first = model.subdirectories[0] if model.subdirectories else "no sub-directory"
        yield Hit("backend", {"name": model.name, "first": first})


@rule(
    "C1",
    text="unexpected platform type '{platform}' for {model}",
    fix="Write `backend` instead; `platform` is one of tensorrt_plan, onnxruntime_onnx, pytorch_libtorch, "
    "torch_aoti or ensemble. A `default_model_filename` of your own switches the guess by file name off.",
)
def platform_is_known(model: Model) -> Iterator[Hit]:
    """Without a ``backend``, ``platform`` stands for one, or is ensemble on a server that was built with ensembles."""
    has_ensembles = model.host is None or "ensemble" not in model.host.without
    is_known = has_ensembles and model.config.platform == "ensemble"
    if model.config.backend == "" and not is_known and not _undetermined(model):
        field = "platform" if model.config.platform != "" else "default_model_filename"
        yield Hit(field, {"platform": model.config.platform})


@rule(
    "C2",
    text="Ensemble model '{model}' must have platform type 'ensemble' and empty backend type",
    fix='Remove `backend: "{backend}"` and `default_model_filename`: an ensemble has neither.',
)
def ensemble_has_no_backend(model: Model) -> Iterator[Hit]:
    """``platform: "ensemble"`` stands alone; a back-end, written or guessed from a file name, contradicts it."""
    if model.config.backend != "" and model.config.platform == "ensemble":
        yield Hit("backend", {"backend": model.config.backend})


@rule(
    "C3",
    text="unexpected 'platform' and 'backend' pair, got:{platform}, {backend}",
    fix="Remove `platform`, or write {expected}.",
)
def platform_fits_backend(model: Model) -> Iterator[Hit]:
    """``platform`` is one of the platforms of the back-ends tensorflow, tensorrt, onnxruntime and pytorch."""
    config = model.config
    expected = _PLATFORMS.get(config.backend)
    if expected is not None and config.platform not in (*expected, "ensemble"):
        values = {"platform": config.platform, "backend": config.backend, "expected": " or ".join(expected)}
        yield Hit("platform", values)


@rule(
    "C4",
    text="'max_batch_size' must be non-negative value for {model}",
    fix="Write 0 for a model that does not batch, otherwise the largest batch.",
)
def batch_size_is_not_negative(model: Model) -> Iterator[Hit]:
    """``max_batch_size`` is 0 or more."""
    if model.config.max_batch_size < 0:
        yield Hit("max_batch_size")


@rule(
    "C11",
    text="Response Cache does not currently support model {model} with sequence batching scheduler. Please disable the "
    "response cache.",
    fix="Remove `response_cache`.",
)
def sequences_are_not_cached(model: Model) -> Iterator[Hit]:
    """A sequence model keeps state, so its responses cannot be cached."""
    if model.config.HasField("sequence_batching") and model.config.response_cache.enable:
        yield Hit("response_cache.enable")


def _is_decoupled(model: Model) -> bool:
    written = bool(model.config.model_transaction_policy.decoupled)
    if written or model.is_ensemble:
        return written or ensemble_is_decoupled(model)
    return model.served is not None and bool(model.served.model_transaction_policy.decoupled)


@rule(
    "C12",
    text="Response Cache does not currently support model {model} with 'decoupled' transaction policy. Please disable "
    "the response cache.",
    fix="Remove `response_cache`, or make the model answer each request once.",
)
def decoupled_models_are_not_cached(model: Model) -> Iterator[Hit]:
    """A decoupled model sends any number of responses, so they cannot be cached.

    An ensemble of decoupled models is one, and a model that completes its config may become one.
    """
    if model.config.response_cache.enable and _is_decoupled(model):
        yield Hit("response_cache.enable")


@rule(
    "C15",
    since="26.06",
    text="metric control must specify 'metric_identifier'",
    fix='Name the metric: `metric_identifier {{ family: "nv_inference_first_response_histogram_ms" }}`.',
)
def metric_has_identifier(model: Model) -> Iterator[Hit]:
    """Each ``metric_control`` says which metric it is about."""
    for index, control in enumerate(model.config.model_metrics.metric_control):
        if not control.HasField("metric_identifier"):
            yield Hit(f"model_metrics.metric_control[{index}]", at=(index,))


@rule(
    "C16",
    since="26.06",
    text="metric identifier must specify non-empty 'family'",
    fix="Name the metric family, for example nv_inference_first_response_histogram_ms.",
)
def metric_has_family(model: Model) -> Iterator[Hit]:
    """Each ``metric_identifier`` names a family."""
    for index, control in enumerate(model.config.model_metrics.metric_control):
        if control.HasField("metric_identifier") and control.metric_identifier.family == "":
            yield Hit(f"model_metrics.metric_control[{index}].metric_identifier.family", at=(index,))


@rule(
    "C17",
    since="26.06",
    text="metric control must specify 'histogram_options'",
    fix="Add `histogram_options {{ buckets: [ ... ] }}`.",
)
def metric_has_options(model: Model) -> Iterator[Hit]:
    """Each ``metric_control`` says what is to be changed: only histograms can be."""
    for index, control in enumerate(model.config.model_metrics.metric_control):
        if not control.HasField("histogram_options"):
            yield Hit(f"model_metrics.metric_control[{index}]", at=(index,))


@rule(
    "C18",
    since="26.06",
    text="histogram options must specify non-empty 'buckets'",
    fix="List the upper bounds of the buckets.",
)
def histogram_has_buckets(model: Model) -> Iterator[Hit]:
    """``histogram_options`` lists at least one bucket."""
    for index, control in enumerate(model.config.model_metrics.metric_control):
        if control.HasField("histogram_options") and len(control.histogram_options.buckets) == 0:
            yield Hit(f"model_metrics.metric_control[{index}].histogram_options.buckets", at=(index,))


@rule(
    "C22",
    text="the key '{key}' of `metric_tags` ends the server: std::invalid_argument: Invalid label name",
    fix="Begin with an ASCII letter or digit; letters, digits and _ may follow.",
)
def metric_tags_are_labels(model: Model) -> Iterator[Hit]:
    """A key of ``metric_tags``, behind the ``_`` that the server puts in front, is a label that Prometheus takes.

    This is a rule of ours: the server does not check it, and one such model ends it with all others.
    """
    has_metrics = model.host is None or "metrics" not in model.host.without
    for key in sorted(model.config.metric_tags) if has_metrics else ():
        if _LABEL_END.fullmatch(key) is None:
            yield Hit(f'metric_tags["{key}"]', {"key": key})


@rule(
    "R1",
    needs="dir",
    text="unexpected directory name '{directory}' for model '{model}', directory name must equal model name",
    fix="Rename the directory or the model, or leave `name` out: the server fills it in.",
)
def name_equals_directory(model: Model) -> Iterator[Hit]:
    """The config's ``name`` is the directory's name."""
    if model.config.name != text_of(model.name):
        yield Hit("name", {"directory": model.name})


def _labels(model: Model) -> Iterator[tuple[int, str, str]]:
    """Yield ``(index, output, path of its label file)``, the path in the server's words."""
    for index, output in enumerate(model.config.output):
        if output.label_filename != "":
            yield index, output.name, f"{model.directory}/{output.label_filename.lstrip('/')}"


@rule(
    "M1",
    needs="dir",
    since=_LABELS_STAY_INSIDE,
    text="label file path '{path}' for output '{output}' in model '{model}' is outside model directory",
    fix="Copy the label file into the model's directory and give its path from there.",
)
def label_file_is_inside(model: Model) -> Iterator[Hit]:
    """``label_filename`` stays inside the model's directory, links followed.

    Release 24.10 does not check this, 26.06 does; which is the first that does is not known.
    """
    for index, output, path in _labels(model):
        if leads_out(Path(path), model.directory):
            yield Hit(f"output[{index}].label_filename", {"path": path, "output": output}, at=(index,))


@rule(
    "M2",
    needs="dir",
    text="failed to open text file for read {path}: {reason}",
    fix="Put the label file there, one label a line, or remove `label_filename`.",
)
def label_file_exists(model: Model) -> Iterator[Hit]:
    """The file that ``label_filename`` names, relative to the model's directory, exists."""
    stays_inside = model.host is None or model.host.has(_LABELS_STAY_INSIDE)
    for index, _, path in _labels(model):
        file = Path(path)
        checked_before = stays_inside and leads_out(file, model.directory)
        if not checked_before and model.reaches(file) and not file.exists():
            values = {"path": path, "reason": os.strerror(errno.ENOENT)}
            yield Hit(f"output[{index}].label_filename", values, at=(index,))
