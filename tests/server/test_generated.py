"""Generated repositories in a real Triton: every kind of graph, and publishing beneath a running server."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from support import graphs

from tritonforge_client import Client
from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_generator.graph import OnnxSession
from tritonforge_generator.pipeline import generate
from tritonforge_generator.reverify import verify_repository
from tritonforge_generator.spec import ForgeSpec, forge_spec_from_flags

pytestmark = pytest.mark.triton


def spec_of(repository: Path, sources: dict[str, Path]) -> ForgeSpec:
    flags = [{"name": name, "source": str(path)} for name, path in sources.items()]
    models = [forge_spec_from_flags(one, repository=repository).models[0] for one in flags]
    return ForgeSpec(repository=repository, models=tuple(models))


def test_every_kind_of_graph_is_served_as_it_answers(tmp_path: Path) -> None:
    sources = {kind: build(tmp_path / f"{kind}.onnx") for kind, (build, _) in graphs.KINDS.items()}
    generated = generate(spec_of(tmp_path / "repo", sources))
    last = {one.version.folder.name: one.verification.checks[-1] for one in generated}
    assert set(last) == set(graphs.KINDS)
    for kind, check in last.items():
        assert check.name == "a real Triton serves the same answers"
        assert check.passed, f"{kind}: {check.summary}"
    again = verify_repository(tmp_path / "repo", models=["linear", "strings"])
    assert {one.model: one.passed for one in again} == {"linear": True, "strings": True}


def test_publishing_beneath_a_polling_server_fails_no_request(tmp_path: Path) -> None:
    """While a client asks without pause, version 2 appears: every answer is one of the two, and no call fails."""
    repository = tmp_path / "repo"
    images = np.ones((1, 4), np.float32)
    answers = []
    for seed in (0, 1):
        path = graphs.linear(tmp_path / f"{seed}.onnx", seed=seed)
        answers.append(OnnxSession(path).run({"x": images})["y"])
    generate(spec_of(repository, {"m": tmp_path / "0.onnx"}), serve_check=False)
    seen: list[int] = []
    failures: list[str] = []
    done = threading.Event()

    def ask(url: str) -> None:
        with Client(url) as client:
            while not done.is_set():
                try:
                    answer = client.infer("m", {"x": images}).value["y"]
                    seen.append(next(index for index, one in enumerate(answers) if np.allclose(one, answer)))
                except Exception as error:
                    failures.append(repr(error))
                done.wait(0.002)

    with EmbeddedTriton(repository, model_control_mode="poll", repository_poll_s=1) as server:
        asking = threading.Thread(target=ask, args=(server.grpc_url,))
        asking.start()
        generate(spec_of(repository, {"m": tmp_path / "1.onnx"}), serve_check=False)
        for _ in range(100):
            if seen and seen[-1] == 1:
                break
            done.wait(0.1)
        done.set()
        asking.join()
        loads = [line for line in server.log if "loading: m:" in line]
    assert failures == []
    assert seen[0] == 0
    assert seen[-1] == 1
    assert seen == sorted(seen)
    assert len(loads) == 2


def test_default_config_never_leaves_a_request_waiting(tmp_path: Path) -> None:
    """With a queue policy the dynamic batcher sleeps for 500 ms now and then, so none is written by default."""
    generate(spec_of(tmp_path / "repo", {"m": graphs.linear(tmp_path / "m.onnx")}), serve_check=False)
    durations_s = []
    with EmbeddedTriton(tmp_path / "repo") as server, Client(server.grpc_url) as client:
        for _ in range(4000):
            start = time.perf_counter()
            client.infer("m", {"x": np.ones((1, 4), np.float32)})
            durations_s.append(time.perf_counter() - start)
    # With a policy there were 7 to 46 of them; one may be a busy machine's.
    assert sum(duration_s > 0.4 for duration_s in durations_s) <= 1
