"""A trtexec line as options of a model: every flag becomes an option, is always so, or is refused by name."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tritonforge_generator.errors import SpecError
from tritonforge_generator.spec.trtexec_flags import FLAGS, Bound, Flag, Line, Shape

_BY_NAME: Final[Mapping[str, Flag]] = {flag.name: flag for flag in FLAGS}
_BOUNDS: Final[tuple[Bound, ...]] = ("min", "opt", "max")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrtexecLine:
    """What a line means.

    Attributes:
        options: Options of a model, nested like the spec.
        notes: What differs from what trtexec would do.
    """

    options: Mapping[str, Any]
    notes: tuple[str, ...]


def options_from_trtexec(line: str) -> TrtexecLine:
    """Read a trtexec line.

    Args:
        line: As it is typed in a shell, with or without ``trtexec`` in front.

    Returns:
        The options of one model. ``name`` is the ONNX file's, and ``max_batch_size`` follows the shapes.

    Raises:
        SpecError: Something in it is unknown, refused or contradictory; every such flag is in the message.
    """
    read, refusals = Line(), []
    for word in _words(line):
        try:
            _take(read, word)
        except SpecError as error:
            refusals.append(error)
    if len(refusals) > 1:
        raise SpecError("the trtexec line cannot be taken as it is:" + "".join(f"\n  {one}" for one in refusals))
    if refusals:
        raise refusals[0]
    return _finished(read)


def _words(line: str) -> list[str]:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise SpecError("the trtexec line cannot be read", expected="balanced quotes", got=str(error)) from error
    return words[1:] if words and Path(words[0]).name in {"trtexec", "trtexec.exe"} else words


def _take(read: Line, word: str) -> None:
    name, _, value = word.partition("=")
    flag = _BY_NAME.get(name)
    if flag is None:
        near = difflib.get_close_matches(name, _BY_NAME, n=1)
        hint = f"Did you mean {near[0]}?" if near else "See docs/trtexec.md for those that are."
        raise SpecError(f"{name} is no flag of trtexec that is known here", expected="--flag=value", action=hint)
    if flag.take is None:
        raise SpecError(f"{name} of trtexec is not taken", action=flag.note)
    try:
        flag.take(read, value)
    except SpecError as error:
        raise SpecError(f"{name} of trtexec", expected=error.expected, got=error.got, action=error.action) from error


def _finished(read: Line) -> TrtexecLine:
    if "source" not in read.options:
        raise SpecError("the trtexec line names no model", expected="--onnx=model.onnx", got="none")
    read.options = {"name": Path(read.options["source"]).stem, "platform": "tensorrt", **read.options}
    _settle_precision(read)
    _settle_shapes(read)
    if read.instance:
        read.put("instance_group", [read.instance])
    if read.get("tensorrt.dla_core", None) is not None:
        read.put("tensorrt.gpu_fallback", "GPU fallback" in read.switches)
    elif "GPU fallback" in read.switches:
        raise SpecError("--allowGPUFallback of trtexec", expected="--useDLACore beside it", got="none")
    return TrtexecLine(options=read.options, notes=tuple(read.notes))


def _settle_precision(read: Line) -> None:
    """One type for the graph from flags that each allow TensorRT one more."""
    asked = set(read.precisions)
    given = ", ".join(dict.fromkeys("--best" if one == "best" else f"--{one.lower()}" for one in read.precisions))
    given = given.replace("--fp32", "--noTF32")
    if asked and "strongly typed" in read.switches and asked != {"FP32"}:
        raise SpecError("--stronglyTyped of trtexec", expected="no other precision flag", got=given)
    if "strongly typed" in read.switches and asked:
        read.put("precision.type", "FP32")
        return
    asked = {"INT8" if one == "best" else one for one in asked if "best" not in asked or one in {"best", "FP32"}}
    if {"INT8", "FP8"} & asked and "FP16" in asked:
        asked -= {"FP16"}
        read.notes.append("--fp16 changes nothing beside --int8, --fp8 or --best")
    if len(asked) > 1:
        raise SpecError(
            "the precision flags of the trtexec line contradict each other",
            expected="one type: --fp16, --bf16, --int8, --fp8 or --noTF32",
            got=given,
        )
    for precision in asked:
        read.put("precision.type", precision)
        if precision in {"INT8", "FP8"}:
            read.notes.append("ranges come from drawn samples unless precision.calibration.samples is given")


def _settle_shapes(read: Line) -> None:
    profiles = [{name: _bounds(name, shapes) for name, shapes in profile.items()} for profile in read.profiles]
    if read.shapes and any(profiles):
        raise SpecError(
            "--shapes of trtexec is about a measurement where --minShapes, --optShapes and --maxShapes are given",
            action="Leave it out, and measure with tritonforge bench --batch-sizes.",
        )
    if read.shapes:
        profiles = [{name: dict.fromkeys(_BOUNDS, shape) for name, shape in read.shapes.items()}]
    if not any(profiles):
        return
    listed = [
        {name: {bound: list(shape) for bound, shape in shapes.items()} for name, shapes in profile.items()}
        for profile in profiles
    ]
    read.put("tensorrt.profiles", listed)
    read.put("max_batch_size", _largest_batch(profiles))


def _bounds(name: str, shapes: Mapping[Bound, Shape]) -> dict[Bound, Shape]:
    if set(shapes) == {"opt"}:
        return dict.fromkeys(_BOUNDS, shapes["opt"])
    if len(shapes) < len(_BOUNDS):
        raise SpecError(
            f"the shapes of input '{name}' in the trtexec line are incomplete",
            expected="--optShapes alone, or --minShapes, --optShapes and --maxShapes",
            got=", ".join(f"--{bound}Shapes" for bound in shapes),
        )
    return {bound: shapes[bound] for bound in _BOUNDS}


def _largest_batch(profiles: Sequence[Mapping[str, Mapping[Bound, Shape]]]) -> int:
    """The batch up to which every size from 1 has a profile; 0, for shapes in full, where first axes are no batch."""
    ranges = set()
    for profile in profiles:
        firsts = {(shapes["min"][:1], shapes["max"][:1]) for shapes in profile.values()}
        if len(firsts) != 1 or firsts == {((), ())}:
            return 0
        ((low, high),) = firsts
        ranges.add((low[0], high[0]))
    reached = 0
    for low_size, high_size in sorted(ranges):
        if low_size > reached + 1:
            return 0
        reached = max(reached, high_size)
    return reached if reached > 1 else 0
