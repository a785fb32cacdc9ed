"""Which broken rules can be mended safely, and how: the change has one meaning and loses nothing that had an effect.

What the owner has to decide is left alone: whether to batch, which of two entries counts, whether a name or a graph is
the one that is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tritonforge_generator.lint import edits
from tritonforge_generator.lint.edits import Edit
from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.rule import Hit

Mend = Callable[[Model, Hit], list[Edit]]
"""Returns the edits that mend one broken place; none when it is not safe there."""

# Back-ends that are often written as platforms.
_BACKENDS: Final = frozenset({"dali", "fil", "onnxruntime", "openvino", "python", "pytorch", "tensorrt", "vllm"})
# Back-ends that are known not to read `optimization.cuda`.
_WITHOUT_CUDA_SETTINGS: Final = frozenset({"onnxruntime", "openvino", "python", "pytorch"})


def _cut(model: Model, path: str) -> list[Edit]:
    """Cut out every occurrence of a field at one place."""
    places = model.positions
    path = path.replace("[0]", "")
    found = [places[path]] if path in places else []
    while f"{path}[{len(found)}]" in places and found:
        found.append(places[f"{path}[{len(found)}]"])
    return [edit for place in found for edit in edits.without_field(model.text or "", place)]


def _cut_field(model: Model, hit: Hit) -> list[Edit]:
    """Cut the field itself out."""
    return _cut(model, hit.field)


def _cut_parent(model: Model, hit: Hit) -> list[Edit]:
    """Cut the field's message out."""
    return _cut(model, hit.field.rpartition(".")[0])


def _cut_element(model: Model, hit: Hit) -> list[Edit]:
    """Cut one element out of a list, and the list when nothing is left of it."""
    places, text = model.positions, model.text or ""
    name, _, index = hit.field.removesuffix("]").rpartition("[")
    number = int(index)
    place = places.get(name if number == 0 else hit.field)
    if place is None:
        return []
    before = places.get(name if number == 1 else f"{name}[{number - 1}]") if number > 0 else None
    after = places.get(f"{name}[{number + 1}]")
    shares = [other for other in (before, after) if other is not None and other.start == place.start]
    if not shares:
        return edits.without_field(text, place)
    return edits.without_element(text, place, before if before in shares else None)


def _platform_to_backend(model: Model, _: Hit) -> list[Edit]:
    """``platform: "onnxruntime"`` means the back-end of that name."""
    place = model.positions.get("platform")
    if place is None or model.written.backend != "" or model.written.platform not in _BACKENDS:
        return []
    return [Edit(place.start, place.start + len("platform"), "backend")]


def _cut_backend_of_ensemble(model: Model, _: Hit) -> list[Edit]:
    """With steps written, an ensemble is meant, which has neither back-end nor model file."""
    if not model.written.HasField("ensemble_scheduling"):
        return []
    return _cut(model, "backend") + _cut(model, "default_model_filename")


def _cut_cuda_settings(model: Model, hit: Hit) -> list[Edit]:
    return _cut_field(model, hit) if model.config.backend in _WITHOUT_CUDA_SETTINGS else []


def _name_of_directory(model: Model, _: Hit) -> list[Edit]:
    from google.protobuf.text_encoding import CEscape

    place = model.positions.get("name")
    name = CEscape(model.name.encode(errors="surrogateescape"), as_utf8=False)
    return [] if place is None else edits.with_value(place, f'"{name}"')


def _latest_version(model: Model, hit: Hit) -> list[Edit]:
    """Ask for the latest version where the step's author said nothing and version 0 is not there."""
    step = model.written.ensemble_scheduling.step[int(hit.values["step"])]
    composing = model.repositories.model(step.model_name) if model.repositories is not None else None
    place = model.positions.get(f"{hit.field.replace('[0]', '')}.model_name")
    if place is None or (composing is not None and 0 in composing.versions):
        return []
    return edits.with_field_behind(model.text or "", place, "model_version: -1")


def _type_of_file(model: Model, hit: Hit) -> list[Edit]:
    """Write the data type that the model file has: the file is the truth."""
    place = model.positions.get(hit.field.replace("[0]", ""))
    known = str(hit.values["mended"])
    return [] if place is None or known == "TYPE_INVALID" else edits.with_value(place, known)


def _shape_of_file(model: Model, hit: Hit) -> list[Edit]:
    """Write the shape that the model file has; with ``reshape`` it is not known which of the two shapes is wrong."""
    sizes = str(hit.values.get("mended", "[1]")).strip("[]")
    if not hit.field.endswith(".dims") or sizes == "":
        return []
    values = [size.strip() for size in sizes.split(",")]
    return edits.with_elements(model.text or "", model.positions, hit.field.replace("[0]", ""), values)


MENDS: Final[Mapping[str, Mend]] = {
    "C1": _platform_to_backend,
    "C2": _cut_backend_of_ensemble,
    "C3": _cut_field,
    "C5": _cut_element,
    "C6": _cut_element,
    "C11": _cut_parent,
    "S11": _cut_element,
    "S12": _cut_element,
    "E2": _cut_field,
    "E3": _cut_field,
    "E4": _cut_field,
    "R1": _name_of_directory,
    "G9": _cut_field,
    "I10": _cut_field,
    "I11": _cut_field,
    "O16": _type_of_file,
    "O17": _type_of_file,
    "O19": _shape_of_file,
    "O21": _shape_of_file,
    "O22": _shape_of_file,
    "T35": _type_of_file,
    "T36": _type_of_file,
    "T38": _shape_of_file,
    "T39": _shape_of_file,
    "L2": _latest_version,
    "L8": _cut_cuda_settings,
    "L9": _cut_field,
}
"""How to mend what can be mended, by rule."""
