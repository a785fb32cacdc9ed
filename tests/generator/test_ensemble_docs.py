"""``docs/ensembles.md`` says what the code does, and its example reads digits."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tritonforge_client import Client
from tritonforge_client.codegen import modules_from_repository
from tritonforge_generator.demo import digits_model_path, digits_test_split
from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_generator.pipeline import generate
from tritonforge_generator.spec import EnsembleOptions, EnsembleStep, forge_spec_from_file

TEXT = (Path(__file__).parents[2] / "docs" / "ensembles.md").read_text("utf-8")
SPECS = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
GRAPHS, USE = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_every_key_has_a_line() -> None:
    rows = re.findall(r"^\| (`[\w`, ]+) \|", TEXT, re.MULTILINE)
    assert sorted(name for row in rows for name in re.findall(r"\w+", row)) == sorted(EnsembleOptions.model_fields)
    for name in EnsembleStep.model_fields:
        assert f"`{name}`" in TEXT


@pytest.mark.triton
@pytest.mark.timeout(300)
def test_the_example_reads_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole page: graphs, two specs, the typed client, and right answers to images that were never seen."""
    monkeypatch.chdir(tmp_path)
    exec(GRAPHS, {})
    shutil.copy(digits_model_path(), "digits.onnx")
    for spec in SPECS:
        Path("tritonforge.yaml").write_text(spec, "utf-8")
        generated = generate(forge_spec_from_file(Path("tritonforge.yaml")))
        assert all(one.verification.passed for one in generated)
    modules_from_repository(Path("models"), tmp_path / "clients", models=["read_digits"])
    monkeypatch.syspath_prepend(tmp_path / "clients")
    test = digits_test_split()
    pixels = np.round(test.images[:32, 0] * 255 / 16).astype(np.uint8)
    with EmbeddedTriton("models", stop_timeout_s=0) as server, Client(server.grpc_url) as client:
        found = {"client": client, "images": pixels}
        exec(USE, found)
        outputs = found["outputs"]
    assert outputs.digit.shape == outputs.confidence.shape == (32, 1)
    right = np.mean(outputs.digit[:, 0] == test.labels[:32])
    assert right > 0.9
