"""The child process that builds, with the stand-in TensorRT: what it does when the builder fails in every way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from support.stand_in_graphs import negation

from tritonforge_generator.errors import PlanBuildError, PlanError
from tritonforge_generator.plan import Plan, plan_from_onnx, plan_header_from_path
from tritonforge_generator.plan.progress import OnProgress
from tritonforge_generator.spec import ProfileShapes, TensorRTOptions

ROWS = {"x": ProfileShapes(min=(1, 4), opt=(2, 4), max=(8, 4))}
_BUILDING = """
import sys
from pathlib import Path
from tritonforge_generator.plan import plan_from_onnx
from tritonforge_generator.spec import ProfileShapes, TensorRTOptions
rows = {"x": ProfileShapes(min=(1, 4), opt=(2, 4), max=(8, 4))}
plan_from_onnx(Path(sys.argv[1]), Path(sys.argv[2]), TensorRTOptions(), precision="TF32", profiles=[rows])
"""


@pytest.fixture(autouse=True)
def work(tensorrt: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that builds work in, with the stand-in TensorRT in place."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def built(network: Path, on_progress: OnProgress = lambda *_: None, time_budget_s: float | None = None) -> Plan:
    return plan_from_onnx(
        network,
        network.with_suffix(".plan"),
        TensorRTOptions(time_budget_s=time_budget_s),
        precision="TF32",
        profiles=[ROWS],
        on_progress=on_progress,
    )


def builders_of(work: Path) -> list[str]:
    """Command lines of the builders that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it has just ended
            continue
        if "plan.child" in text and str(work) in text:
            found.append(text)
    return found


def wait_for_builders(work: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(builders_of(work)) != count:
        assert time.monotonic() < deadline, builders_of(work)
        time.sleep(0.05)


def test_a_plan_comes_back_with_its_facts_and_nothing_else_stays(tmp_path: Path, work: Path) -> None:
    heard: list[tuple[float | None, str]] = []
    plan = built(negation(tmp_path / "neg.onnx"), lambda *one: heard.append(one))
    assert plan.path == tmp_path / "neg.plan"
    assert plan.size_bytes == plan.path.stat().st_size
    assert plan_header_from_path(plan.path).version_text == plan.tensorrt_version == "10.16.1.11"
    assert plan.profiles[0]["x"].opt == (2, 4)
    assert plan.layers[0].nodes == ("neg",)
    json.dumps(plan.to_json())
    assert heard[0] == (None, "reading the network")
    assert heard[-1] == (1.0, "examining the plan")
    assert list(work.iterdir()) == []


def test_a_crash_is_an_error_with_the_last_words(tmp_path: Path, work: Path) -> None:
    with pytest.raises(PlanBuildError) as caught:
        built(negation(tmp_path / "neg.onnx", name="fault: abort"))
    text = str(caught.value)
    assert "the builder ended without a word about neg.onnx" in text
    assert "it was ended by SIGABRT after: " in text
    assert "a last word of the builder" in text
    (folder,) = work.iterdir()
    assert f"Repeat it with {folder / 'replay.sh'}." in text
    assert not (tmp_path / "neg.plan").exists()


def test_a_refusal_comes_through_and_can_be_repeated(tmp_path: Path, work: Path) -> None:
    network = negation(tmp_path / "neg.onnx", name="fault: something new")
    with pytest.raises(PlanBuildError, match="got something new") as caught:
        built(network)
    (folder,) = work.iterdir()
    replay = folder / "replay.sh"
    assert f"Repeat the build with {replay}." in str(caught.value)
    assert not (tmp_path / "neg.plan").exists()
    assert not (folder / "model.plan").exists()

    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    (folder / "result.json").unlink()
    again = subprocess.run([replay], env=environment, capture_output=True, check=False, timeout=60)
    assert again.returncode == 1, again.stderr
    assert json.loads((folder / "result.json").read_text("utf-8"))["got"] == "something new"

    negation(network)  # the model is mended
    mended = subprocess.run([replay], env=environment, capture_output=True, check=False, timeout=60)
    assert mended.returncode == 0, mended.stderr
    assert plan_header_from_path(folder / "model.plan").version_text == "10.16.1.11"


def test_an_option_that_cannot_be_met_leaves_nothing(tmp_path: Path, work: Path) -> None:
    network = negation(tmp_path / "neg.onnx")
    with pytest.raises(PlanError, match="GPU 7 does not exist: expected 0 to 0, got 7"):
        plan_from_onnx(network, tmp_path / "neg.plan", TensorRTOptions(device_id=7), precision="TF32", profiles=[ROWS])
    assert list(work.iterdir()) == []
    assert not (tmp_path / "neg.plan").exists()


def test_a_build_that_takes_too_long_is_ended(tmp_path: Path, work: Path) -> None:
    with pytest.raises(PlanBuildError, match=r"took longer than allowed: expected at most 2 s .*replay\.sh builds"):
        built(negation(tmp_path / "neg.onnx", name="fault: hang"), time_budget_s=2)
    assert builders_of(work) == []
    assert not (tmp_path / "neg.plan").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_builder_ends_with_who_waits_for_it(tmp_path: Path, work: Path, number: signal.Signals) -> None:
    network = negation(tmp_path / "neg.onnx", name="fault: hang")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _BUILDING, str(network), str(tmp_path / "neg.plan")]
    parent = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        wait_for_builders(work, 1)
        time.sleep(1)  # it has been told by now to end with its parent
        parent.send_signal(number)  # to this process alone, as Ctrl-C does, which the builder's session does not get
        _, words = parent.communicate(timeout=30)
    finally:
        parent.kill()
    wait_for_builders(work, 0)
    assert not (tmp_path / "neg.plan").exists()
    if number == signal.SIGINT:
        assert "KeyboardInterrupt" in words
        assert list(work.iterdir()) == []
