"""Models run with the packages of the interpreter that started the server, found in the same order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tritonforge_client import Client
from tritonforge_generator.deploy import EmbeddedTriton

pytestmark = pytest.mark.triton

CONFIG = """
name: "which"
backend: "python"
input { name: "x" data_type: TYPE_INT32 dims: [ 1 ] }
output { name: "file" data_type: TYPE_STRING dims: [ 1 ] }
"""
MODEL = """
import numpy, itsdangerous
import triton_python_backend_utils as pb_utils
class TritonPythonModel:
    def execute(self, requests):
        file = numpy.array([itsdangerous.__file__.encode()], dtype=object)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("file", file)]) for _ in requests]
"""


def test_a_folder_in_front_of_site_packages_is_in_front_for_models_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = tmp_path / "models" / "which" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(MODEL)
    (version.parent / "config.pbtxt").write_text(CONFIG)
    front = tmp_path / "front"
    front.mkdir()
    (front / "itsdangerous.py").write_text("")
    monkeypatch.syspath_prepend(front)
    with EmbeddedTriton(tmp_path / "models", stop_timeout_s=0) as server, Client(server.grpc_url) as client:
        answer = client.infer("which", {"x": np.zeros(1, np.int32)}).value["file"]
    assert answer.tolist() == [str(front / "itsdangerous.py").encode()]
