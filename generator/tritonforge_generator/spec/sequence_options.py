"""Options of models that see requests as steps of sequences."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tritonforge_client.extras import require_extra
from tritonforge_generator.declared import DeclaredModel, PlacedError
from tritonforge_generator.spec.numbers import Count, Microseconds, Number, OpenSize, Size
from tritonforge_generator.spec.tensor_options import DataType

if TYPE_CHECKING:
    import pydantic
    from pydantic import Field
else:
    pydantic = require_extra("pydantic", "generator")
    Field = pydantic.Field

ControlKind = Literal["START", "READY", "END", "CORRID"]
DEFAULT_IDLE_MICROSECONDS = 1_000_000


class ControlInput(DeclaredModel):
    """``ModelSequenceBatching.ControlInput``: an input that the server fills."""

    name: str = Field(min_length=1, description="The graph's input.")
    false_true: tuple[Number, Number] = Field(
        default=(0, 1), description="What is sent for no and for yes, in the input's own type; not for CORRID."
    )

    @pydantic.field_validator("false_true")
    @classmethod
    def _two_values(cls, false_true: tuple[float, float]) -> tuple[float, float]:
        if false_true[0] == false_true[1]:
            raise PlacedError(expected="one value for no and another for yes", got=str(list(false_true)))
        return false_true


class InitialState(DeclaredModel):
    """``ModelSequenceBatching.InitialState``: what a state is when a sequence starts."""

    name: str | None = Field(default=None, min_length=1, description="Name in messages; by default the input's.")
    dims: tuple[Size, ...] | None = Field(
        default=None, description="Its sizes, without the batch; needed where the graph's vary."
    )
    zero_data: Literal[True] | None = Field(default=None, description="Zeros, also when nothing is said.")
    data_file: Path | None = Field(
        default=None, description="An .npy file, or the raw bytes of the tensor; copied into initial_state/."
    )

    @pydantic.model_validator(mode="after")
    def _one_content(self) -> InitialState:
        if self.zero_data and self.data_file is not None:
            raise PlacedError(at=("zero_data",), expected="one of zero_data and data_file", got="both")
        return self


class State(DeclaredModel):
    """``ModelSequenceBatching.State``: an output that comes back as an input in the sequence's next step."""

    input_name: str = Field(min_length=1, description="The graph's input.")
    output_name: str = Field(min_length=1, description="The graph's output.")
    dims: tuple[OpenSize, ...] | None = Field(default=None, description="By default the graph's; checked against it.")
    data_type: DataType | None = Field(default=None, description="By default the graph's; checked against it.")
    initial_state: InitialState = Field(
        default=InitialState(), description="By default zeros; without any, the first step would see garbage."
    )
    use_same_buffer_for_input_output: bool | None = Field(
        default=None, description="One buffer for both, for backends that read and write it in place."
    )
    use_growable_memory: bool | None = Field(
        default=None, description="The buffer grows without being copied; KIND_GPU only."
    )

    @pydantic.model_validator(mode="after")
    def _grows_in_place(self) -> State:
        if self.use_growable_memory and not self.use_same_buffer_for_input_output:  # rule S23
            raise PlacedError(
                at=("use_growable_memory",), expected="use_same_buffer_for_input_output: true beside it", got="none"
            )
        return self


class Direct(DeclaredModel):
    """``ModelSequenceBatching.StrategyDirect``: a sequence keeps one slot of one instance."""

    max_queue_delay_microseconds: Microseconds = Field(default=0, description="How long to wait for other slots.")
    minimum_slot_utilization: Annotated[float, Field(ge=0, le=1)] = Field(  # rule S13
        default=0.0, description="Share of the slots that must be ready before the delay is over."
    )


class Oldest(DeclaredModel):
    """``ModelSequenceBatching.StrategyOldest``: steps of many sequences are gathered into batches."""

    max_candidate_sequences: Count = Field(description="Sequences that each instance keeps at the same time.")
    preferred_batch_size: tuple[Count, ...] = Field(default=(), description="Batch sizes worth waiting for.")
    max_queue_delay_microseconds: Microseconds = Field(default=0, description="How long to wait for a fuller batch.")
    preserve_ordering: bool | None = Field(default=None, description="Answer in the order of arrival.")


class SequenceBatching(DeclaredModel):
    """``ModelSequenceBatching``: requests of one sequence reach the same instance, in order."""

    max_sequence_idle_microseconds: Annotated[Microseconds, Field(gt=0)] = Field(
        default=DEFAULT_IDLE_MICROSECONDS, description="A sequence that is silent for so long loses its slot."
    )
    control_input: dict[ControlKind, str | ControlInput] = Field(
        default_factory=dict,
        description="By kind, the graph's input that the server fills: START, READY and END with no or yes, CORRID "
        "with the sequence's id. Types come from the graph.",
    )
    direct: Direct | None = Field(default=None, description="One slot a sequence; the default strategy.")
    oldest: Oldest | None = Field(default=None, description="Batches from many sequences.")
    state: tuple[State, ...] = Field(default=(), description="Implicit state, kept by the server.")
    iterative_sequence: bool | None = Field(
        default=None, description="The backend sends a request back until its sequence is done."
    )

    @property
    def controls(self) -> Mapping[ControlKind, ControlInput]:
        """By kind, the input that the server fills."""
        return {
            kind: ControlInput(name=one) if isinstance(one, str) else one for kind, one in self.control_input.items()
        }

    @property
    def server_inputs(self) -> frozenset[str]:
        """Inputs that requests do not carry: the server fills them."""
        return frozenset(one.name for one in self.controls.values()) | {one.input_name for one in self.state}

    @property
    def server_outputs(self) -> frozenset[str]:
        """Outputs that replies do not carry: the server keeps them."""
        return frozenset(one.output_name for one in self.state)

    @pydantic.model_validator(mode="after")
    def _one_strategy(self) -> SequenceBatching:
        if self.direct is not None and self.oldest is not None:
            raise PlacedError(at=("oldest",), expected="one of direct and oldest", got="both")
        if self.oldest is not None:
            above = [size for size in self.oldest.preferred_batch_size if size > self.oldest.max_candidate_sequences]
            if above:
                raise PlacedError(
                    at=("oldest", "preferred_batch_size"),
                    expected=f"sizes of at most {self.oldest.max_candidate_sequences}, as many as there are sequences",
                    got=str(above),
                )
        return self

    @pydantic.model_validator(mode="after")
    def _each_tensor_once(self) -> SequenceBatching:
        corrid = self.controls.get("CORRID")
        if corrid is not None and corrid.false_true != (0, 1):  # rule S9
            raise PlacedError(
                at=("control_input", "CORRID", "false_true"), expected="none for CORRID", got=str(corrid.false_true)
            )
        seen: set[str] = set()
        for kind, control in self.controls.items():
            if control.name in seen:  # rule S2
                raise PlacedError(at=("control_input", kind), expected="an input of its own", got=f"'{control.name}'")
            seen.add(control.name)
        written: set[str] = set()
        for index, state in enumerate(self.state):
            for key, name, taken in (
                ("input_name", state.input_name, seen),
                ("output_name", state.output_name, written),
            ):
                if name in taken:  # rules S17, S25 and S26
                    raise PlacedError(at=("state", index, key), expected="a tensor of its own", got=f"'{name}'")
                taken.add(name)
        return self

    def resolved(self, folder: Path) -> SequenceBatching:
        """The same options with their paths relative to a folder."""
        return self.model_copy(update={"state": tuple(_resolved(state, folder) for state in self.state)})


def _resolved(state: State, folder: Path) -> State:
    path = state.initial_state.data_file
    if path is None:
        return state
    initial = state.initial_state.model_copy(update={"data_file": folder / path})
    return state.model_copy(update={"initial_state": initial})
