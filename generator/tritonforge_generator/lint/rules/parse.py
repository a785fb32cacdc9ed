"""P: reading ``config.pbtxt``."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.rule import Hit, rule


@rule(
    "P1",
    text="failed to read text proto from {path}",
    fix="The parser stopped there: {problem} Fields are written `name: value` or `name {{ ... }}`, enum names in full "
    "and in capitals (TYPE_FP32), lists with commas between the elements and none at the end.",
)
def text_is_a_config(model: Model) -> Iterator[Hit]:
    """The text is a valid ``ModelConfig`` in protobuf's text format.

    Unknown fields, unknown enum names, a value of another type, a scalar given twice, two schedulers, and placeholders
    of a template that nobody filled in end here. The server says where only in its log.
    """
    if model.parse_failure is not None:
        problem = model.parse_failure.message.rstrip()
        yield Hit(values={"path": model.path, "problem": problem if problem.endswith(".") else problem + "."})


@rule(
    "P2",
    needs="dir",
    text="failed to open text file for read {path}: {reason}",
    fix="Make it readable for the server's user, or write it: without completion the server needs a config.",
)
def config_can_be_opened(model: Model) -> Iterator[Hit]:
    """The config can be opened; without completion (``--disable-auto-complete-config``) it must exist."""
    reason = model.open_failure
    if reason == "" and model.text is None and model.strict:
        reason = os.strerror(errno.ENOENT)
    if reason != "":
        yield Hit(values={"path": model.path, "reason": reason}, file=model.path)
