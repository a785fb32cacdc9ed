"""Sequences: requests that a model answers in order, with a state of its own for each (``sequence_batching``)."""

from __future__ import annotations

from dataclasses import dataclass

from tritonforge_client.core.request import Parameter


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceStep:
    """One request of a sequence.

    Attributes:
        id: Id of the sequence: a number above 0 or a text.
        start: Whether it is the first.
        end: Whether it is the last.
    """

    id: int | str
    start: bool
    end: bool

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The request parameters of the sequence extension."""
        return {"sequence_id": self.id, "sequence_start": self.start, "sequence_end": self.end}
