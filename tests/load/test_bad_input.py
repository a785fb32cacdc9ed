"""What cannot work is said before load starts, or the report says what is missing: as a user of the command sees it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from support.command_line import tritonforge

from tritonforge_client import Client
from tritonforge_generator.deploy import EmbeddedTriton

CampaignFile = Callable[..., Path]

MAIN = "[{name: main, arrival: constant, rate: 50/s, for: 1s}]"
ROWS = "[{name: one, model: identity, inputs: {x: {file: rows.npz}}}]"
DEAD = '{url: "grpc://127.0.0.1:9", wait_ready: 300ms}'

TOO_FEW = "50 requests expected, 2,995 needed"


@pytest.fixture
def campaign(campaign_file: CampaignFile) -> CampaignFile:
    """As ``campaign_file``, with one open phase."""
    return partial(campaign_file, phases=MAIN)


@pytest.fixture
def short_rows(tmp_path: Path) -> None:
    """Rows of 15 numbers, where the model takes 16."""
    np.savez(tmp_path / "rows.npz", x=np.zeros((4, 15), np.float32))


def sent_to(server: EmbeddedTriton) -> int:
    with Client(server.grpc_url) as client:
        (entry,) = client.statistics("identity")
        return entry.inference_stats.success.count


@pytest.mark.parametrize("command", ["run", "check", "plan"])
def test_an_unknown_key_is_named_with_its_place_and_a_suggestion(command: str, campaign: CampaignFile) -> None:
    path = campaign(phases="[{name: main, uzers: 2, users: 1, for: 1s}]")
    done = tritonforge(path.parent, "load", command, path.name)
    assert done.returncode == 2
    told = done.stdout + done.stderr
    assert "campaign.yaml:5:23: unknown key 'uzers' in phases[0]: expected one of arrival, " in told
    assert "Did you mean 'users'?" in told


def test_a_phase_that_is_too_short_for_its_gate_is_seen_in_the_plan(campaign: CampaignFile) -> None:
    path = campaign(gates="[{assert: 'p99.9 < 5s'}]")
    done = tritonforge(path.parent, "load", "plan", path.name)
    assert done.returncode == 5
    assert TOO_FEW in done.stdout


@pytest.mark.triton
def test_a_phase_that_is_too_short_for_its_gate_is_said_before_it_is_played(
    load_server: EmbeddedTriton, campaign: CampaignFile
) -> None:
    path = campaign(gates="[{assert: 'p99.9 < 5s'}]")
    done = tritonforge(path.parent, "load", "run", path.name, "--url", load_server.grpc_url)
    assert done.returncode == 5, done.stderr
    before, _, after = done.stderr.partition("phase main:")
    assert before == f"main: gate 'p99.9 < 5s' cannot be decided: {TOO_FEW}\n"
    assert after != ""
    assert "about 2,995" in done.stdout


@pytest.mark.parametrize("command", [["run"], ["check", "--url", "grpc://127.0.0.1:9"]], ids=["run", "check"])
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_server_that_is_not_there_is_named_once_with_what_to_do(
    command: list[str], protocol: str, campaign: CampaignFile
) -> None:
    path = campaign(target=DEAD.replace("grpc", protocol))
    command = [word.replace("grpc", protocol) for word in command]
    done = tritonforge(path.parent, "load", command[0], path.name, *command[1:])
    assert done.returncode == 1
    assert done.stderr.count("127.0.0.1:9: the server is not ready within 0.3 s: no connection") == 1
    assert "check that the server runs at this address" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.fixture(scope="module")
def idle_server() -> Iterator[EmbeddedTriton]:
    """It has a model, which is not loaded."""
    repository = Path(__file__).parents[2] / "model_repository"
    with EmbeddedTriton(repository, model_control_mode="explicit") as server:
        yield server


@pytest.mark.triton
@pytest.mark.parametrize(("command", "exit_code"), [("run", 1), ("check", 2)])
def test_a_model_that_is_not_ready_is_named(
    command: str, exit_code: int, idle_server: EmbeddedTriton, campaign: CampaignFile
) -> None:
    path = campaign(target=DEAD, workload="[{name: one, model: digits}]")
    done = tritonforge(path.parent, "load", command, path.name, "--url", idle_server.grpc_url)
    assert done.returncode == exit_code
    told = (done.stdout + done.stderr).replace("\n", " ")
    address = idle_server.grpc_url.removeprefix("grpc://")
    assert f"digits on {address}: the model is not ready within 0.3 s: it answers that it is not" in told


@pytest.mark.triton
@pytest.mark.parametrize("command", ["run", "check"])
def test_rows_of_another_shape_than_the_models_are_refused(
    command: str, load_server: EmbeddedTriton, campaign: CampaignFile, short_rows: None
) -> None:
    path, before = campaign(workload=ROWS), sent_to(load_server)
    done = tritonforge(path.parent, "load", command, path.name, "--url", load_server.grpc_url)
    assert done.returncode == 2
    expected = "expected float32 rows of shape (16,), got float32 rows of shape (15,). Convert the array"
    assert f"workload 'one': x: rows.npz: {expected}" in done.stdout + done.stderr
    assert sent_to(load_server) == before


@pytest.mark.triton
def test_a_worker_of_another_version_stops_the_run_before_anything_is_sent(
    load_server: EmbeddedTriton, campaign: CampaignFile, unused_tcp_port: int, tmp_path: Path
) -> None:
    path, port = campaign(), str(unused_tcp_port)
    installed = tmp_path / "installed" / "tritonforge-9.9.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: tritonforge\nVersion: 9.9\n")
    inherited = os.environ.get("PYTHONPATH", "")
    environment = {**os.environ, "PYTHONPATH": f"{installed.parent}{os.pathsep}{inherited}"}
    words = ["load", "worker", path.name, "--url", load_server.grpc_url]
    words += ["--master-host", "127.0.0.1", "--master-port", port]
    worker = subprocess.Popen(
        [sys.executable, "-m", "tritonforge_generator.cli", *words],
        cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    before = sent_to(load_server)
    listening = ["--master", "--expect-workers", "1", "--bind-host", "127.0.0.1", "--bind-port", port]
    try:
        done = tritonforge(tmp_path, "load", "run", path.name, "--url", load_server.grpc_url, *listening)
    finally:
        worker.kill()
        worker.wait()
    assert done.returncode == 4, done.stdout + done.stderr
    told = " ".join(done.stdout.split())
    ours = metadata.version("tritonforge")
    assert f"tritonforge: expected {ours} as the master has, got 9.9: install the same release there" in told
    assert "not played: main" in told
    assert sent_to(load_server) == before


def run_on_a_full_disk(folder: Path, *words: str, most_bytes: int) -> subprocess.CompletedProcess[str]:
    """Run the command where no file can have more than so many bytes, as on a disk that is full by then."""
    return subprocess.run(
        [sys.executable, "-m", "tritonforge_generator.cli", "load", *words],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes)),
    )  # fmt: skip


class TestFullDisk:
    @pytest.mark.triton
    def test_files_that_fit_are_written_and_those_that_do_not_are_named(
        self, load_server: EmbeddedTriton, campaign: CampaignFile
    ) -> None:
        path = campaign()
        words = ["run", path.name, "--url", load_server.grpc_url, "--out", "out"]
        done = run_on_a_full_disk(path.parent, *words, most_bytes=50_000)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "main" in done.stdout, "what was measured is shown"
        assert "error: outputs could not be written: out/short.html: File too large." in done.stderr
        written = {"short.json", "short.csv", "short-timeline.csv", "short.xml"}
        assert f"Written: {', '.join(sorted(written, key=done.stderr.index))}" in done.stderr
        assert {file.name for file in (path.parent / "out").iterdir()} == written
        rest = tritonforge(path.parent, "load", "report", "out/short.json", "--html", "out/short.html")
        assert rest.returncode == 0, "as the message says"

    @pytest.mark.triton
    def test_a_result_that_cannot_be_handed_on_is_shown_at_least(
        self, load_server: EmbeddedTriton, campaign: CampaignFile
    ) -> None:
        path = campaign()
        done = run_on_a_full_disk(path.parent, "run", path.name, "--url", load_server.grpc_url, most_bytes=3_000)
        assert done.returncode == 1
        assert "the load generator ended without a result, with exit code 1" in done.stderr
        assert "the result cannot be handed on through " in done.stderr
        assert "File too large; free some space there, or name another folder for temporary files" in done.stderr
        assert "Campaign short on grpc://" in done.stderr, "what was measured"
        assert "Traceback" not in done.stderr

    def test_what_cannot_be_played_is_told_all_the_same(self, campaign: CampaignFile) -> None:
        path = campaign(target=DEAD)
        done = run_on_a_full_disk(path.parent, "run", path.name, most_bytes=10)
        assert done.returncode == 1
        assert "127.0.0.1:9: the server is not ready within 0.3 s: no connection" in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.slow
    @pytest.mark.triton
    def test_a_page_that_cannot_be_written_takes_nothing_else_along(
        self, load_server: EmbeddedTriton, campaign: CampaignFile
    ) -> None:
        path = campaign()
        words = ["run", path.name, "--url", load_server.grpc_url, "--html", "page.html", "--json"]
        done = run_on_a_full_disk(path.parent, *words, most_bytes=50_000)
        assert done.returncode == 1
        assert done.stderr.startswith("error: page.html: cannot be written: File too large.")
        assert json.loads(done.stdout)["campaign"] == "short"


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--out=/proc/none", "/proc/none: outputs cannot be written: "),
        ("--html=/proc/none/page.html", "/proc/none: outputs cannot be written: "),
        ("--out=campaign.yaml", "campaign.yaml: outputs cannot be written: File exists. Choose another folder"),
    ],
)
def test_a_folder_that_cannot_be_written_is_told_before_the_server_is_asked(
    flag: str, told: str, campaign: CampaignFile
) -> None:
    path = campaign(target=DEAD)
    done = tritonforge(path.parent, "load", "run", path.name, flag)
    assert done.returncode == 1
    assert told in done.stderr
    assert "127.0.0.1:9" not in done.stderr
