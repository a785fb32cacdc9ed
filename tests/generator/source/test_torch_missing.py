from __future__ import annotations

from support.extras import run_without_extras


def test_a_module_without_pytorch_names_the_extra() -> None:
    code = """
from pathlib import Path
from tritonforge_client.extras import MissingExtraError
from tritonforge_generator.source import source_from_reference
try:
    source_from_reference(Path("torch:package.module:factory"), Path("."))
except MissingExtraError as error:
    print(error)
"""
    done = run_without_extras(code)
    assert done.stdout == "torch is not installed; run: pip install 'tritonforge[torch]'\n", done.stderr
