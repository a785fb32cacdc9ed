"""S14 to S26: implicit state of sequence models."""

from __future__ import annotations

from collections.abc import Iterator

from tritonforge_generator.lint.model import Model
from tritonforge_generator.lint.proto import Message
from tritonforge_generator.lint.rule import Hit, rule
from tritonforge_generator.lint.rules.warmup import data_file_problem


def _initials(model: Model) -> Iterator[tuple[int, str, Message, Message]]:
    """Yield ``(index, path, state, its initial state)`` of every state that has exactly one."""
    for index, state in enumerate(model.config.sequence_batching.state):
        if len(state.initial_state) == 1:
            yield index, f"sequence_batching.state[{index}].initial_state", state, state.initial_state[0]


@rule(
    "S14",
    text="initial_state field for state input '{state}' must contain exactly one or zero element. Found '{count}' "
    "elements.",
    fix="Keep one `initial_state`.",
)
def state_starts_once(model: Model) -> Iterator[Hit]:
    """A ``state`` has at most one ``initial_state``."""
    for index, state in enumerate(model.config.sequence_batching.state):
        if len(state.initial_state) > 1:
            values = {"state": state.input_name, "count": len(state.initial_state)}
            yield Hit(f"sequence_batching.state[{index}].initial_state[1]", values, at=(index, 0))


@rule(
    "S15",
    text="The data type used for 'initial_state' field of state '{state}' does not match the state data type.",
    fix="Give both the same `data_type`.",
)
def initial_type_fits(model: Model) -> Iterator[Hit]:
    """The initial state has the state's ``data_type``."""
    for index, path, state, initial in _initials(model):
        if initial.data_type != state.data_type:
            yield Hit(f"{path}.data_type", {"state": state.input_name}, at=(index, 0))


@rule(
    "S16",
    text="Field 'name' must be set when using initial_state for state input '{state}'.",
    fix="Give the initial state a `name`.",
)
def initial_state_has_a_name(model: Model) -> Iterator[Hit]:
    """The initial state has a ``name``."""
    for index, path, state, initial in _initials(model):
        if initial.name == "":
            yield Hit(path, {"state": state.input_name}, at=(index, 0))


@rule(
    "S17",
    text="State input name '{state}' specified more than once.",
    fix="Keep one state a tensor.",
)
def state_input_is_unique(model: Model) -> Iterator[Hit]:
    """Two states with an initial state do not share their ``input_name``."""
    seen: set[str] = set()
    for index, _, state, _ in _initials(model):
        if state.input_name in seen:
            yield Hit(f"sequence_batching.state[{index}].input_name", {"state": state.input_name}, at=(index, 0))
        seen.add(state.input_name)


@rule(
    "S18",
    text="Number of dimensions in 'initial_state' doesn't match the size of 'state' dimensions for state input "
    "'{state}'. {initial} != {expected}",
    fix="Give both the same number of `dims`.",
)
def initial_rank_fits(model: Model) -> Iterator[Hit]:
    """The initial state has as many ``dims`` as the state."""
    for index, path, state, initial in _initials(model):
        if len(initial.dims) != len(state.dims):
            values = {"state": state.input_name, "initial": len(initial.dims), "expected": len(state.dims)}
            yield Hit(f"{path}.dims", values, at=(index, 0))


@rule(
    "S19",
    text="'initial_state' field for state input name '{state}' contains variable dimensions.",
    fix="Write sizes: the initial state is a tensor that exists.",
)
def initial_dims_are_fixed(model: Model) -> Iterator[Hit]:
    """The initial state has no -1 in its ``dims``."""
    for index, path, state, initial in _initials(model):
        if len(initial.dims) == len(state.dims) and -1 in initial.dims:
            yield Hit(f"{path}.dims", {"state": state.input_name}, at=(index, 1, list(initial.dims).index(-1)))


@rule(
    "S20",
    text="'initial_state' dim for input name '{state}' doesn't match 'state' dim description. {initial} != {expected}",
    fix="Give both the same sizes.",
)
def initial_dims_fit(model: Model) -> Iterator[Hit]:
    """Where the state's ``dims`` are fixed, the initial state has the same sizes."""
    for index, path, state, initial in _initials(model):
        if len(initial.dims) != len(state.dims):
            continue
        for number, (size, expected) in enumerate(zip(initial.dims, state.dims, strict=True)):
            if -1 not in {size, expected} and size != expected:
                values = {"state": state.input_name, "initial": size, "expected": expected}
                yield Hit(f"{path}.dims", values, at=(index, 1, number))
                break


@rule(
    "S21",
    needs="dir",
    text="{problem}",
    fix="Put a file with the whole state of one sequence, raw and little-endian, into initial_state/.",
)
def initial_state_file_is_long_enough(model: Model) -> Iterator[Hit]:
    """``data_file`` exists in ``initial_state/`` and holds the whole tensor."""
    for index, path, _, initial in _initials(model):
        if initial.WhichOneof("state_data") == "data_file":
            file = model.directory / "initial_state" / initial.data_file.lstrip("/")
            if not model.reaches(file):
                continue
            problem = data_file_problem(file, initial, "initial_state setting expects", initial.data_file, end=".")
            if problem != "":
                yield Hit(f"{path}.data_file", {"problem": problem}, at=(index, 2))


@rule(
    "S22",
    text="initial_state setting expects state'{state}' to have state_data set",
    fix="Write `zero_data: true`, or `data_file` with the name of a file in initial_state/.",
)
def initial_state_has_data(model: Model) -> Iterator[Hit]:
    """The initial state says where its data comes from."""
    for index, path, state, initial in _initials(model):
        if initial.WhichOneof("state_data") is None:
            yield Hit(path, {"state": state.input_name}, at=(index, 2))


@rule(
    "S23",
    severity="warning",
    text="In order to 'use_growable_memory', you must also enable 'use_single_buffer' for state input name '{state}'.",
    fix="Write `use_same_buffer_for_input_output: true`; the server's text names a field that does not exist.",
)
def growable_memory_has_one_buffer(model: Model) -> Iterator[Hit]:
    """``use_growable_memory`` goes with ``use_same_buffer_for_input_output``.

    The model loads all the same; the server says so to the first request of a sequence.
    """
    for index, state in enumerate(model.config.sequence_batching.state):
        if state.use_growable_memory and not state.use_same_buffer_for_input_output:
            path = f"sequence_batching.state[{index}].use_growable_memory"
            yield Hit(path, {"state": state.input_name}, at=(index,))


@rule(
    "S25",
    severity="warning",
    text="Detected duplicate 'input_name' in the state configuration: '{state}.' This state configuration will be "
    "ignored.",
    fix="Remove one of the two states.",
)
def state_inputs_differ(model: Model) -> Iterator[Hit]:
    """Two states do not share their ``input_name``: the second is dropped."""
    yield from _repeated(model, "input_name")


@rule(
    "S26",
    severity="warning",
    text="Detected duplicate 'output_name' in the state configuration: '{state}'. This state configuration will be "
    "ignored.",
    fix="Remove one of the two states.",
)
def state_outputs_differ(model: Model) -> Iterator[Hit]:
    """Two states do not share their ``output_name``: the second is dropped."""
    yield from _repeated(model, "output_name")


def _repeated(model: Model, field: str) -> Iterator[Hit]:
    seen: set[str] = set()
    for index, state in enumerate(model.config.sequence_batching.state):
        name = getattr(state, field)
        if name in seen:
            yield Hit(f"sequence_batching.state[{index}].{field}", {"state": name}, at=(index,))
        seen.add(name)
