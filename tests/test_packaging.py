"""What is built is what is meant to be built."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, timeout=120)
    (path,) = folder.glob("*.whl")
    return path


def test_wheel_holds_the_three_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"tritonforge_client", "tritonforge_generator", "tritonforge_load"}
    assert not [name for name in names if "__pycache__" in name]


@pytest.mark.parametrize(
    "name",
    [
        "tritonforge_client/py.typed",
        "tritonforge_generator/config/templates/config.pbtxt.j2",
        "tritonforge_generator/demo/data/digits.onnx",
        "tritonforge_generator/demo/data/digits_test.npz",
        "tritonforge_generator/demo/data/tritonforge.yaml",
        "tritonforge_generator/deploy/backends/onnxruntime/model.py",
        "tritonforge_generator/py.typed",
        "tritonforge_generator/report/templates/page.html.j2",
        "tritonforge_load/campaigns/digits.yaml",
        "tritonforge_load/py.typed",
        "tritonforge_load/report/templates/load.html.j2",
    ],
)
def test_wheel_holds_data(wheel: Path, name: str) -> None:
    assert name in zipfile.ZipFile(wheel).namelist()


def test_files_and_functions_are_of_a_readable_size() -> None:
    """No file over 500 lines, no function over 60; ``__init__.py`` only re-exports."""
    import ast

    for folder in ("generator", "client", "load_tests", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            assert text.count("\n") <= 500, path
            tree = ast.parse(text)
            for node in ast.walk(tree):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    assert (node.end_lineno or 0) - node.lineno < 60, f"{path}: {node.name}"
            if path.name == "__init__.py":
                kinds = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.Expr, ast.If)
                # What a module may say of its names when they are asked for (PEP 562) is no code of its own.
                own = [one for one in tree.body if getattr(one, "name", "") not in {"__getattr__", "__dir__"}]
                assert all(isinstance(node, kinds) for node in own), path
