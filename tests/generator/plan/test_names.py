"""Every name of TensorRT that the product writes exists in the versions that it is written for."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from support import stand_in_plans
from support.stand_in_plans import TENSORRT_VERSIONS, stand_in_tensorrt

import tritonforge_generator.plan

PLAN = Path(tritonforge_generator.plan.__file__).parent
NAMES = Path(stand_in_plans.__file__).with_name("tensorrt_names")
RECEIVERS = {  # by file, what holds an object of TensorRT, and its class
    "build.py": {
        "builder": "Builder",
        "config": "IBuilderConfig",
        "network": "INetworkDefinition",
        "context": "IExecutionContext",
        "inspector": "EngineInspector",
        "engine.handle": "ICudaEngine",
    },
    "network.py": {
        "builder": "Builder",
        "config": "IBuilderConfig",
        "network": "INetworkDefinition",
        "parser": "OnnxParser",
        "first": "ParserError",
        "error": "ParserError",
        "layer": "ILayer",
        "tensor": "ITensor",
    },
    "engine.py": {"self.handle": "ICudaEngine"},
    "runner.py": {"lane.context": "IExecutionContext", "self.context": "IExecutionContext"},
    "tensorrt_api.py": {"engine": "ICudaEngine", "context": "IExecutionContext", "runtime": "Runtime"},
    "timing_cache.py": {"config": "IBuilderConfig", "cache": "ITimingCache"},
}
# What is only reached in versions that have it: behind a question, or where the network is weakly typed.
ONLY_IN = {
    "IProgressMonitor": {"10.16.1.11", "11.4.0.106"},
    "IBuilderConfig.progress_monitor": {"10.16.1.11", "11.4.0.106"},
    "IBuilderConfig.tiling_optimization_level": {"10.16.1.11", "11.4.0.106"},
    "ParserError.node_name": {"10.16.1.11", "11.4.0.106"},
    "ParserError.node_operator": {"10.16.1.11", "11.4.0.106"},
    "BuilderFlag.FP16": {"8.6.0", "10.16.1.11"},
    "BuilderFlag.INT8": {"8.6.0", "10.16.1.11"},
    "BuilderFlag.OBEY_PRECISION_CONSTRAINTS": {"8.6.0", "10.16.1.11"},
    "ILayer.precision": {"8.6.0", "10.16.1.11"},
    "ILayer.set_output_type": {"8.6.0", "10.16.1.11"},
    "ICudaEngine.device_memory_size": {"8.6.0", "10.16.1.11"},
}


def names_of(version: str) -> set[str]:
    """Every name of a version, dotted; members of a base class under its subclasses too."""
    data: dict[str, Any] = json.loads((NAMES / f"{version}.json").read_text("utf-8"))
    found = {"__version__", *data["functions"], *data["constants"], *data["enums"], *data["classes"]}
    found |= {f"{enum}.{member}" for enum, members in data["enums"].items() for member in members}
    for name in data["classes"]:
        base = name
        while base in data["classes"]:
            for kind in ("methods", "properties", "attributes"):
                found |= {f"{name}.{one}" for one in data["classes"][base][kind]}
            base = data["classes"][base]["base"]
    return found


def used_names() -> Iterator[tuple[str, str]]:
    """Each use of a name of TensorRT in the product, dotted as in ``names_of``, with its place."""
    for path in sorted(PLAN.glob("*.py")):
        receivers = RECEIVERS.get(path.name, {})
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Attribute):
                continue
            place = f"{path.name}:{node.lineno}"
            owner, _, name = ast.unparse(node).rpartition(".")
            if name == "__init__":
                continue
            if owner in {"trt", "tensorrt()"}:
                yield name, place
            elif owner.startswith(("trt.", "tensorrt().", "tensorrt_api.tensorrt().")):
                yield f"{owner.rpartition('.')[2]}.{name}", place
            elif owner in receivers:
                yield f"{receivers[owner]}.{name}", place


def test_the_product_uses_no_name_that_a_version_lacks() -> None:
    known = {version: names_of(version) for version in TENSORRT_VERSIONS}
    found = dict(used_names())
    assert len(found) > 60, "the search finds what it looks for"
    wrong = []
    for name, place in found.items():
        have = {version for version in TENSORRT_VERSIONS if name in known[version]}
        if have != ONLY_IN.get(name, set(TENSORRT_VERSIONS)):
            wrong.append(f"{place}: {name} exists in {', '.join(sorted(have)) or 'no version'}")
    assert wrong == []
    assert set(ONLY_IN) <= set(found), "nothing in the list is unused"


@pytest.mark.parametrize("version", TENSORRT_VERSIONS)
def test_the_stand_in_has_the_names_of_the_version(version: str) -> None:
    with stand_in_tensorrt(version):
        module = import_module("tensorrt")
        expected = names_of(version)
        found = {name for name in vars(module) if not name.startswith("_")} | {"__version__"}
        assert found == {name for name in expected if "." not in name}
        for name in expected:
            owner, _, member = name.rpartition(".")
            if owner != "":
                holder: Any = module
                for part in owner.split("."):
                    holder = getattr(holder, part)
                assert hasattr(holder, member), name
        for kind in ("IBuilderConfig", "ICudaEngine", "Builder"):
            members = {name for name in dir(getattr(module, kind)) if not name.startswith("_")}
            assert members == {name.partition(".")[2] for name in expected if name.startswith(f"{kind}.")}
    assert "tensorrt" not in sys.modules


def test_what_a_version_lacks_cannot_be_set_in_the_stand_in() -> None:
    with stand_in_tensorrt("8.6.0"):
        config = import_module("tensorrt").IBuilderConfig()
        config.avg_timing_iterations = 2
        with pytest.raises(AttributeError, match="max_num_tactics"):
            config.max_num_tactics = 2
