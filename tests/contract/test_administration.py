"""Administration of a real Triton: the same over every client."""

from __future__ import annotations

import json
import urllib.request

import numpy as np
import pytest

from tritonforge_client import Client, InvalidInput, ModelNotFound, Options, model_spec_from_config
from tritonforge_generator.deploy import EmbeddedTriton

pytestmark = pytest.mark.triton

IDENTITY = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("y", pb_utils.get_input_tensor_by_name(r, "x").as_numpy())])
            for r in requests
        ]
"""


def test_a_server_says_what_it_is(client: Client) -> None:
    metadata = client.server_metadata()
    assert metadata.name == "triton"
    assert metadata.version.startswith("2.")
    assert {"sequence", "model_repository", "statistics"} <= set(metadata.extensions)


def test_the_index_lists_models_and_their_states(client: Client) -> None:
    entries = {one.name: one for one in client.repository_index()}
    assert (entries["add_sub"].version, entries["add_sub"].state, entries["add_sub"].reason) == ("1", "READY", "")
    assert {one.state for one in client.repository_index(ready=True)} == {"READY"}


def test_a_model_is_loaded_with_another_config(client: Client) -> None:
    for size in (16, 8):
        config = {"backend": "python", "max_batch_size": size, **_tensors("overridden", client)}
        client.load_model("overridden", config=config)
        assert client.spec("overridden").max_batch_size == size


def test_a_config_is_the_same_over_every_client(client: Client, server: EmbeddedTriton) -> None:
    for model in ("add_sub", "queue_limited", "repeat", "running_sum"):
        with urllib.request.urlopen(f"{server.http_url}/v2/models/{model}/config", timeout=5) as reply:
            assert client.config(model) == json.load(reply)
    config = client.config("queue_limited", version="1")
    policy = config["dynamic_batching"]["default_queue_policy"]
    # 64-bit numbers are texts in protobuf's own JSON, and defaults are left out.
    assert (policy["default_timeout_microseconds"], policy["timeout_action"]) == (60_000_000, "REJECT")
    assert config["input"][0]["dims"] == [1]
    assert config["input"][0]["optional"] is False
    assert client.config("repeat")["model_transaction_policy"] == {"decoupled": True}
    with pytest.raises(ModelNotFound):
        client.config("nobody")
    with pytest.raises(ModelNotFound):
        client.config("add_sub", version="7")


def test_a_config_that_was_read_can_be_changed_and_loaded(client: Client) -> None:
    config = client.config("overridden")
    assert model_spec_from_config(config) == client.spec("overridden")
    for size in (32, 4):
        client.load_model("overridden", config={**config, "max_batch_size": size})
        assert client.config("overridden")["max_batch_size"] == size


def _tensors(model: str, client: Client) -> dict[str, object]:
    spec = client.spec(model)
    return {
        kind: [{"name": one.name, "data_type": one.type.data_type, "dims": list(one.dims)} for one in tensors]
        for kind, tensors in (("input", spec.inputs), ("output", spec.outputs))
    }


def test_a_model_is_loaded_from_files_of_the_client(client: Client) -> None:
    tensor = {"data_type": "TYPE_FP32", "dims": [2]}
    config = {"backend": "python", "input": [{"name": "x", **tensor}], "output": [{"name": "y", **tensor}]}
    client.load_model("brought", config=config, files={"1/model.py": IDENTITY.encode()})
    try:
        assert client.infer("brought", {"x": np.ones(2, np.float32)}).value["y"].tolist() == [1, 1]
    finally:
        client.unload_model("brought", dependents=True)
    with pytest.raises(InvalidInput, match="files need a config"):
        client.load_model("brought", files={"1/model.py": b""})


def test_trace_settings_change_and_are_cleared(client: Client) -> None:
    before = client.trace_settings()
    assert before["trace_level"] == ["OFF"]
    changed = client.trace_settings("add_sub", changes={"trace_rate": ["7"]})
    assert changed["trace_rate"] == ["7"]
    assert client.trace_settings("add_sub")["trace_rate"] == ["7"]
    assert client.trace_settings()["trace_rate"] == before["trace_rate"]
    assert client.trace_settings("add_sub", changes={"trace_rate": None})["trace_rate"] == before["trace_rate"]


def test_log_settings_change(client: Client) -> None:
    before = client.log_settings()
    try:
        assert client.log_settings(changes={"log_verbose_level": 1, "log_info": False}) == {
            **before,
            "log_verbose_level": 1,
            "log_info": False,
        }
    finally:
        client.log_settings(changes={name: before[name] for name in ("log_verbose_level", "log_info")})


def test_requests_carry_a_priority_and_parameters(client: Client) -> None:
    options = Options(priority=2, parameters={"seed": 7, "scale": 0.5, "mode": "fast", "greedy": True})
    ones = np.ones((1, 4), np.float32)
    assert client.infer("add_sub", {"a": ones, "b": ones}, options=options).value["sum"].tolist() == [[2, 2, 2, 2]]
