"""Models that one declared host refuses and another serves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from generator.lint.cases import MODEL_PY, PYTHON, X, Y, write_model

from tritonforge_generator.lint.host import Host, Resource

NO_GPU = Host(gpus=0)
TWO_GPUS = Host(gpus=2, compute_capability=(9, 0))
OLD_GPU = Host(gpus=1, compute_capability=(5, 2))
INSTALLED = Host(backends=frozenset({"python", "onnxruntime"}), backend_directory="/backends")
BARE = Host(backends=frozenset({"onnxruntime"}), backend_directory="/backends")
LISTED = Host(
    backends=frozenset({"python/libtriton_python.so", "foo/model.py", "foo/lib/libtriton_foo.so", "other/note.txt"}),
    backend_directory="/backends",
)
LIMITED = Host(rate_limit=True, resources=(Resource("R", 4), Resource("S", 8, 0)))
RATED = Host(rate_limit=True)
_FOO = 'backend: "foo"\n' + X + Y
_ENSEMBLE_STEP = 'step { model_name: "m" model_version: -1 input_map { key: "x" value: "x" } '
_ENSEMBLE = (
    f'platform: "ensemble"\n{X}{Y}ensemble_scheduling {{ {_ENSEMBLE_STEP} output_map {{ key: "y" value: "y" }} }} }}'
)


def group(settings: str) -> str:
    return PYTHON + f"instance_group {{ {settings} }}\n"


def resource(*settings: str) -> str:
    resources = " ".join(f"resources {{ {each} }}" for each in settings)
    return group(f"kind: KIND_CPU rate_limiter {{ {resources} }}")


@dataclass(frozen=True)
class HostCase:
    """A rule, the host that it is broken on, and one that serves the neighbour.

    Attributes:
        rule: Id of the first finding.
        broken: The config.
        host: Breaks the rule with it.
        text: What the server says, without the model's path.
        valid: The neighbour's config; the same by default.
        serves: Serves the neighbour; the same host by default.
        field: Path that the finding names.
        files: Files of both models beside the config.
    """

    rule: str
    broken: str
    host: Host
    text: str
    valid: str | None = None
    serves: Host | None = None
    field: str = ""
    files: Mapping[str, str | bytes] = dataclasses.field(default_factory=lambda: {"1/model.py": MODEL_PY})

    def write(self, repository: Path, name: str, *, broken: bool) -> None:
        config = self.broken if broken or self.valid is None else self.valid
        write_model(repository / name, config, self.files)


_NO_BACKEND = "unable to find backend library for backend 'foo', try specifying runtime on the model configuration."
_GROUP = "instance group broken_0 of model broken "
_GPUS = "GPUs with at least the minimum required CUDA compute compatibility of 6.000000 are: "
_RESOURCE = "which will prevent scheduling of one or more model instances, the minimum required count is "
_FIELD = "instance_group[0].rate_limiter.resources[{}]"
HOST_CASES = [
    HostCase(
        "C1",
        _ENSEMBLE,
        Host(without=frozenset({"ensemble"})),
        "unexpected platform type 'ensemble' for broken",
        serves=TWO_GPUS,
        field="platform",
        files={"1/": ""},
    ),
    HostCase(
        "C14",
        _ENSEMBLE.replace('platform: "ensemble"', 'backend: "python"'),
        Host(without=frozenset({"ensemble"})),
        "ensemble scheduling not supported",
        valid=_ENSEMBLE,
        serves=TWO_GPUS,
        field="ensemble_scheduling",
        files={"1/": ""},
    ),
    HostCase(
        "C19",
        PYTHON
        + 'model_metrics { metric_control { metric_identifier { family: "f" } histogram_options { buckets: 1 } } }',
        Host(without=frozenset({"metrics"})),
        "metrics not supported",
        serves=TWO_GPUS,
        field="model_metrics",
    ),
    HostCase(
        "G3",
        group("kind: KIND_GPU"),
        Host(gpus=2, without=frozenset({"gpu"})),
        _GROUP + "has kind KIND_GPU but server does not support GPUs",
        serves=TWO_GPUS,
        field="instance_group[0].kind",
    ),
    HostCase(
        "G4",
        group("kind: KIND_GPU"),
        NO_GPU,
        _GROUP + "has kind KIND_GPU but no GPUs are available",
        serves=TWO_GPUS,
        field="instance_group[0].kind",
    ),
    HostCase(
        "G4",
        group("kind: KIND_GPU"),
        OLD_GPU,
        _GROUP + "has kind KIND_GPU but no GPUs are available",
        valid=group("kind: KIND_AUTO"),
    ),
    HostCase(
        "G6",
        group("kind: KIND_GPU gpus: [0]"),
        NO_GPU,
        _GROUP + f"specifies invalid or unsupported gpu id 0. {_GPUS}",
        serves=TWO_GPUS,
        field="instance_group[0].gpus[0]",
    ),
    HostCase(
        "G6",
        group("kind: KIND_GPU gpus: [1, 2, 3]"),
        TWO_GPUS,
        _GROUP + f"specifies invalid or unsupported gpu id 2. {_GPUS}0, 1",
        valid=group("kind: KIND_GPU gpus: [0, 1]"),
        field="instance_group[0].gpus[1]",
    ),
    # KIND_AUTO becomes KIND_CPU, which lists no GPUs.
    HostCase(
        "G7",
        group("gpus: [0]"),
        NO_GPU,
        _GROUP + "has kind KIND_CPU but specifies one or more GPUs",
        serves=TWO_GPUS,
        field="instance_group[0].gpus",
    ),
    HostCase("M5", _FOO, INSTALLED, _NO_BACKEND, valid=PYTHON, field="backend"),
    HostCase("M5", PYTHON, BARE, _NO_BACKEND.replace("foo", "python"), serves=INSTALLED),
    HostCase(
        "M6",
        _FOO + 'runtime: "libtriton_foo.so"',
        INSTALLED,
        "unable to find backend library 'libtriton_foo.so' for model 'broken', searched: '{model}/1' '{model}' "
        "'/backends/foo' ",
        valid=PYTHON + 'runtime: "libtriton_python.so"',
        field="runtime",
    ),
    HostCase(
        "M6",
        _FOO + 'runtime: "../x/libtriton_foo.so"',
        INSTALLED,
        "unable to find backend library '../x/libtriton_foo.so' for model 'broken', searched: '{model}/1' '{model}' "
        "'/backends/foo' ",
        valid=PYTHON,
    ),
    HostCase(
        "M6",
        _FOO + 'runtime: "model.py"',
        BARE,
        "unable to find backend library 'libtriton_python.so' for model 'broken', searched: '{model}/1' '{model}' "
        "'/backends/foo' '/backends/python' ",
        valid='backend: "other"',
        serves=Host(),
        files={"1/": ""},
    ),
    HostCase(
        "M8",
        _FOO + 'runtime: "model.py"',
        INSTALLED,
        "unable to find Python backend based backend library 'model.py' for model 'broken', searched: "
        "'/backends/foo/model.py'",
        valid='backend: "other" runtime: "model.py"',
        serves=Host(backends=frozenset({"python", "other"})),
        field="runtime",
        files={"1/": ""},
    ),
    HostCase(
        "M8",
        PYTHON + 'runtime: "model.py"',
        INSTALLED,
        "unable to find Python backend based backend library 'model.py' for model 'broken', searched: "
        "'/backends/python/model.py'",
        valid=PYTHON,
    ),
    # With its files declared, what an installed back-end lacks is known.
    HostCase("M5", 'backend: "other"\n' + X + Y, LISTED, _NO_BACKEND.replace("foo", "other"), valid=PYTHON),
    HostCase(
        "M6",
        PYTHON + 'runtime: "libtriton_other.so"',
        LISTED,
        "unable to find backend library 'libtriton_other.so' for model 'broken', searched: '{model}/1' '{model}' "
        "'/backends/python' ",
        valid=PYTHON + 'runtime: "./libtriton_python.so"',
        field="runtime",
    ),
    HostCase(
        "M6",
        PYTHON + 'runtime: "../foo/none.so"',
        LISTED,
        "unable to find backend library '../foo/none.so' for model 'broken', searched: '{model}/1' '{model}' "
        "'/backends/python' ",
        valid=_FOO,
    ),
    HostCase(
        "M6",
        _FOO,
        Host(backends=frozenset({"foo/model.py", "onnxruntime"}), backend_directory="/backends"),
        "unable to find backend library 'libtriton_python.so' for model 'broken', searched: '{model}/1' '{model}' "
        "'/backends/foo' '/backends/python' ",
        serves=LISTED,
    ),
    HostCase(
        "M8",
        PYTHON + 'runtime: "model.py"',
        LISTED,
        "unable to find Python backend based backend library 'model.py' for model 'broken', searched: "
        "'/backends/python/model.py'",
        valid=_FOO + 'runtime: "model.py"',
    ),
    HostCase(
        "W8",
        resource('name: "R" count: 5'),
        LIMITED,
        f'Resource count for "R" is limited to 4 {_RESOURCE}5',
        # A passive instance takes no requests, so that nothing is counted for it.
        valid=resource('name: "R" count: 4', 'name: "S" count: 8')
        + group('kind: KIND_CPU passive: true rate_limiter { resources { name: "R" count: 5 } }').removeprefix(PYTHON),
        field=_FIELD.format(0) + ".count",
    ),
    HostCase(
        "W8",
        resource('name: "T" count: 2', 'name: "T" global: true count: 3'),
        LIMITED,
        f'Resource count for "T" is limited to 0 {_RESOURCE}3',
        valid=resource('name: "S" global: true count: 8'),
        field=_FIELD.format(1) + ".count",
    ),
    HostCase(
        "W7",
        resource('name: "R" count: 2', 'name: "R" global: true count: 3'),
        RATED,
        'Resource "R" is present as both global and device-specific resource in the model configuration.',
        valid=resource('name: "R" count: 2', 'name: "S" global: true count: 3'),
        field=_FIELD.format(1),
    ),
    HostCase(
        "W9",
        PYTHON + 'model_repository_agents { agents { name: "nope" } }',
        Host(agents=frozenset({"checksum"})),
        "unable to find 'libtritonrepoagent_nope.so' for repo agent 'nope', searched: /opt/tritonserver/repoagents",
        valid=PYTHON + 'model_repository_agents { agents { name: "checksum" } }',
        field="model_repository_agents.agents[0].name",
    ),
]
