"""The names of TensorRT's bindings that are kept here are those of the real wheels."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from support import stand_in_plans
from support.stand_in_plans import TENSORRT_VERSIONS

FOLDER = Path(stand_in_plans.__file__).with_name("tensorrt_names")

pytestmark = [pytest.mark.peer, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def collect() -> ModuleType:
    """The script that wrote the names."""
    spec = importlib.util.spec_from_file_location("collect", FOLDER / "collect.py")
    if spec is None or spec.loader is None:
        raise ImportError(FOLDER)
    module = importlib.util.module_from_spec(spec)
    sys.modules["collect"] = module
    spec.loader.exec_module(module)
    return module


def test_every_version_has_a_wheel(collect: ModuleType) -> None:
    assert tuple(collect.WHEELS) == TENSORRT_VERSIONS


@pytest.mark.parametrize("version", TENSORRT_VERSIONS)
def test_the_names_kept_are_those_of_the_wheel(collect: ModuleType, version: str, tmp_path: Path) -> None:
    try:
        names = collect.names_of_wheel(version, tmp_path)
    except collect.CannotCollectError as error:
        pytest.skip(str(error))
    kept = (FOLDER / f"{version}.json").read_text("utf-8")
    assert json.loads(kept) == names
    assert kept == collect.text_of_names(names)
