"""Random ensembles: a chain of steps over models that are there, in which a few things are changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from agreement.drawing import Drawn
from hypothesis import strategies as st

_MOST_CHANGES: Final = 3
_FP32: Final = "data_type: TYPE_FP32 dims: [4]"
_MODELS: Final = ("first", "second", "lenient", "inner")
_ODD_MODELS: Final = (
    "other", "longer", "pair", "streaming", "misfit", "unloadable", "unparsable", "absent", "SELF",
)  # fmt: skip


@dataclass
class _Step:
    model: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    version: str = "model_version: -1"

    def text(self) -> str:
        maps = [
            f'{kind} {{ key: "{key}" value: "{value}" }}'
            for kind, mapping in (("input_map", self.inputs), ("output_map", self.outputs))
            for key, value in mapping.items()
        ]
        name = f'model_name: "{self.model}"' if self.model != "" else ""
        return f"  step {{ {' '.join([name, self.version, *maps])} }}"


@dataclass
class _Ensemble:
    """An ensemble in parts; tensor ``t0`` goes in and ``t<n>`` comes out of n steps."""

    steps: list[_Step]
    head: list[str] = field(default_factory=lambda: ['platform: "ensemble"', "max_batch_size: 4"])
    tensors: list[str] = field(default_factory=list)
    folder: str = "1/"
    is_scheduled: bool = True

    def text(self) -> str:
        steps = "\n".join(step.text() for step in self.steps)
        scheduling = f"ensemble_scheduling {{\n{steps}\n}}" if self.is_scheduled else ""
        return "\n".join([*self.head, *self.tensors, scheduling]) + "\n"


_Change = Callable[[_Ensemble, _Step], None]


def _change(**values: object) -> _Change:
    """Set attributes of the step."""

    def change(_: _Ensemble, step: _Step) -> None:
        for name, value in values.items():
            setattr(step, name, value)

    return change


def _map(kind: str, **entries: str) -> _Change:
    """Add entries to a map of the step."""
    return lambda _, step: getattr(step, kind).update(entries)


def _head(*lines: str) -> _Change:
    return lambda ensemble, _: ensemble.head.extend(lines)


def _without_head(line: str) -> _Change:
    return lambda ensemble, _: ensemble.head.__setitem__(
        slice(None), [one for one in ensemble.head if not one.startswith(line)]
    )


def _tensor(text: str) -> _Change:
    return lambda ensemble, _: ensemble.tensors.append(text)


def _with_tensors(old: str, new: str) -> _Change:
    return lambda ensemble, _: ensemble.tensors.__setitem__(
        slice(None), [text.replace(old, new) for text in ensemble.tensors]
    )


def _folder(name: str) -> _Change:
    return lambda ensemble, _: setattr(ensemble, "folder", name)


def _unscheduled(ensemble: _Ensemble, _: _Step) -> None:
    ensemble.is_scheduled = False


_CHANGES: Final[tuple[_Change, ...]] = (
    *(_change(model=name) for name in _ODD_MODELS),
    _change(model=""),
    _change(version=""),
    _change(version="model_version: 3"),
    _change(version="model_version: 1"),
    _change(inputs={}),
    _change(outputs={}),
    _change(outputs={"y": "t1"}),
    _change(inputs={"x": "lost"}),
    _change(inputs={"q": "t0"}),
    _change(outputs={"q": "t1"}),
    _map("inputs", z="t0"),
    _map("inputs", z="lost"),
    _map("outputs", z="spare"),
    _head("instance_group { }"),
    _head("optimization { }"),
    _head('model_warmup { name: "w" }'),
    _head('backend: "python"'),
    _head("version_policy { all { } }"),
    _head("response_cache { enable: true }"),
    _without_head("platform"),
    _without_head("max_batch_size"),
    _with_tensors("dims: [4]", "dims: [-1]"),
    _with_tensors("dims: [4]", "dims: [-1, 4]"),
    _with_tensors("dims: [4]", "dims: [5]"),
    _with_tensors("dims: [4]", ""),
    _with_tensors("TYPE_FP32", "TYPE_INT32"),
    _with_tensors("dims: [4]", "dims: [2, 2] reshape { shape: [4] }"),
    _tensor(f'input {{ name: "unused" {_FP32} }}'),
    _tensor(f'output {{ name: "unwritten" {_FP32} }}'),
    _tensor(f'output {{ name: "t1" {_FP32} }}'),
    _folder("01/"),
    _folder("2/"),
    _folder("first/"),
    _unscheduled,
)


@st.composite
def ensembles(draw: st.DrawFn) -> Drawn:
    """Draw an ensemble of one to three steps with up to three changes."""
    count = draw(st.integers(1, 3))
    steps = [_Step(draw(st.sampled_from(_MODELS)), {"x": f"t{i}"}, {"y": f"t{i + 1}"}) for i in range(count)]
    ensemble = _Ensemble(steps)
    ensemble.tensors = [f'input {{ name: "t0" {_FP32} }}', f'output {{ name: "t{count}" {_FP32} }}']
    for change in draw(st.lists(st.sampled_from(_CHANGES), max_size=_MOST_CHANGES)):
        change(ensemble, draw(st.sampled_from(ensemble.steps)))
    return ensemble.text(), {ensemble.folder: ""}
