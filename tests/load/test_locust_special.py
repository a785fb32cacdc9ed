"""Our user classes with models of other kinds, certificates, shared memory and failures."""

from __future__ import annotations

import csv
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract.models import write_models
from support.certificates import self_signed
from support.locust_runs import run_locust, stats_of, worker_ports, write_locustfile

from tritonforge_generator.deploy import EmbeddedTriton

pytestmark = [pytest.mark.triton, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SHIPPED_MODELS = ROOT / "model_repository"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody but itself vouches for, with its key beside it."""
    return self_signed(tmp_path_factory.mktemp("tls")).with_name("certificate.pem")


@pytest.fixture(scope="module")
def special_server(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    """Models of other kinds; gRPC over TLS."""
    repository = tmp_path_factory.mktemp("special-models")
    write_models(repository)
    flags = {"use-ssl": "true", "server-cert": certificate, "server-key": certificate.with_name("key.pem")}
    with EmbeddedTriton(
        [repository, SHIPPED_MODELS],
        model_control_mode="explicit",
        load_models=["identity", "repeat", "running_sum", "slow", "failing", "digits"],
        arguments=[f"--grpc-{name}={value}" for name, value in flags.items()],
    ) as server:
        yield server


@pytest.fixture
def https_url(special_server: EmbeddedTriton, certificate: Path) -> Iterator[str]:
    """The server's HTTP service behind TLS, which it does not speak itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    host, _, port = special_server.http_url.removeprefix("http://").rpartition(":")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve_tls, args=(listener, context, (host, int(port))), daemon=True).start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"


def serve_tls(listener: socket.socket, context: ssl.SSLContext, target: tuple[str, int]) -> None:
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=forward_both_ways, args=(plain, context, target), daemon=True).start()


def forward_both_ways(plain: socket.socket, context: ssl.SSLContext, target: tuple[str, int]) -> None:
    try:
        client = context.wrap_socket(plain, server_side=True)
    except OSError:
        return  # a client that does not trust us
    server = socket.create_connection(target)
    threading.Thread(target=forward, args=(server, client), daemon=True).start()
    forward(client, server)


def forward(source: socket.socket, sink: socket.socket) -> None:
    with source, sink:
        try:
            while received := source.recv(65536):
                sink.sendall(received)
        except OSError:
            pass


SPECIAL_LOCUSTFILE = """\
import numpy as np
from locust import task
from tritonforge_client import TLS, Options
from tritonforge_load.users import TritonGrpcUser, TritonHttpUser

def given(**values):
    return {name: np.array([it], np.float32 if isinstance(it, float) else np.int32) for name, it in values.items()}

"""

STREAMS = """
class Streaming(TritonGrpcUser):
    host = GRPC_HOST
    tls = TLS(root_certificates=ROOT)

    @task
    def five(self):
        answers = self.stream("repeat", given(count=5, pause_s=0.04), name="five")
        assert [int(answer["index"][0]) for answer in answers] == [0, 1, 2, 3, 4]

    @task
    def none(self):
        assert self.stream("repeat", given(count=0), name="none") == []

    @task
    def broken(self):
        assert self.stream("repeat", given(count=-2), name="broken") is None

    @task
    def unknown(self):
        assert self.stream("no_such_model", given(count=1)) is None


class OverHttp(TritonHttpUser):
    host = HTTP_HOST

    @task
    def five(self):
        assert self.stream("repeat", given(count=5), name="over HTTP") is None
"""


def test_streams_are_told_of_by_their_first_and_their_last_response(
    special_server: EmbeddedTriton, certificate: Path, tmp_path: Path
) -> None:
    hosts = {"GRPC_HOST": tls_target(special_server), "HTTP_HOST": special_server.http_url}
    path = write_locustfile(tmp_path, SPECIAL_LOCUSTFILE + STREAMS, **hosts, ROOT=str(certificate))
    done = run_locust("-f", str(path), "--headless", "-u", "4", "-r", "4", "-t", "3s", "--json", cwd=tmp_path)
    assert "Traceback" not in done.stderr, done.stderr
    stats = stats_of(done)
    named = ["five", "none", "broken", "no_such_model"]
    assert set(stats) == {
        *(("grpc", name) for name in [*named, "five, first response", "broken, first response"]),
        ("http", "over HTTP"),
    }
    failed = {key: entry["num_failures"] / entry["num_requests"] for key, entry in stats.items()}
    assert {name for (_, name), share in failed.items() if share == 1} == {"broken", "no_such_model", "over HTTP"}
    assert set(failed.values()) == {0, 1}
    whole, first = stats["grpc", "five"], stats["grpc", "five, first response"]
    assert 0 <= first["num_requests"] - whole["num_requests"] <= 4  # the end may come in between, for each user
    assert first["total_content_length"] == 4 * first["num_requests"]
    assert whole["total_content_length"] == 5 * 4 * whole["num_requests"]
    assert whole["min_response_time"] > 5 * 40
    assert first["min_response_time"] < 40


def tls_target(server: EmbeddedTriton) -> str:
    return server.grpc_url.replace("grpc://", "grpcs://")


SEQUENCES = """
class Stateful(TritonGrpcUser):
    host = GRPC_HOST
    tls = TLS(root_certificates=ROOT)

    @task
    def count(self):
        sequence = self.model("running_sum").sequence()
        for step in range(1, 5):
            x = {"x": np.array([[step]], np.int32)}
            outputs = self.measured(f"step {step}", lambda: sequence.infer(x, end=step == 4))
            assert outputs["sum"].item() == sum(range(step + 1))
"""


def test_sequences_can_be_sent_step_by_step(special_server: EmbeddedTriton, certificate: Path, tmp_path: Path) -> None:
    text = SPECIAL_LOCUSTFILE + SEQUENCES
    path = write_locustfile(tmp_path, text, GRPC_HOST=tls_target(special_server), ROOT=str(certificate))
    done = run_locust("-f", str(path), "--headless", "-u", "3", "-r", "3", "-t", "2s", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(stats_of(done)) == {("grpc", f"step {step}") for step in range(1, 5)}


def test_the_documented_locustfile_sends_all_kinds_of_calls_and_offers_shapes(
    special_server: EmbeddedTriton, certificate: Path, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "load-testing.md").read_text()
    blocks = [block.partition("```")[0] for block in page.split("```python\n")[1:]]
    (text,) = (block for block in blocks if "offer_shapes" in block)
    (tmp_path / "locustfile.py").write_text(text.replace("duration_s=30", "duration_s=1"))
    shutil.copy(certificate, tmp_path / "ca.pem")
    done = run_locust("--headless", "--shape", "climb", "--host", tls_target(special_server), "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    stats = stats_of(done)
    assert {name for _, name in stats} == {"digits", "repeat", "repeat, first response", "a step"}
    assert [entry["num_failures"] for entry in stats.values()] == [0, 0, 0, 0]
    assert stats["grpc", "a step"]["num_requests"] >= 3


PROTOCOLS_OVER_TLS = """
class OverGrpc(TritonGrpcUser):
    host = GRPC_HOST
    tls = TLS(root_certificates=ROOT)

    @task
    def ask(self):
        assert self.infer("slow", given(delay_s=0.001)) is not None


class OverHttp(TritonHttpUser):
    host = HTTP_HOST
    tls = TLS(root_certificates=ROOT)
    tasks = OverGrpc.tasks


class Stranger(TritonGrpcUser):
    host = GRPC_HOST

    @task
    def ask(self):
        assert self.infer("slow", given(delay_s=0.001), name="without certificates") is None


class StrangerOverHttp(TritonHttpUser):
    host = HTTP_HOST
    tasks = Stranger.tasks
"""


def test_certificates_are_a_class_attribute(
    special_server: EmbeddedTriton, https_url: str, certificate: Path, tmp_path: Path
) -> None:
    hosts = {"GRPC_HOST": tls_target(special_server), "HTTP_HOST": https_url}
    path = write_locustfile(tmp_path, SPECIAL_LOCUSTFILE + PROTOCOLS_OVER_TLS, **hosts, ROOT=str(certificate))
    done = run_locust("-f", str(path), "--headless", "-u", "4", "-r", "4", "-t", "3s", "--json", cwd=tmp_path)
    assert "Traceback" not in done.stderr, done.stderr
    stats = stats_of(done)
    for protocol in ("grpc", "http"):
        assert stats[protocol, "slow"]["num_requests"] > 10
        assert stats[protocol, "slow"]["num_failures"] == 0
        stranger = stats[protocol, "without certificates"]
        assert stranger["num_failures"] == stranger["num_requests"] > 0


SHARED_MEMORY = """
class Shared(TritonGrpcUser):
    host = GRPC_HOST
    tls = TLS(root_certificates=ROOT)
    options = Options(retry=None, shared_memory="system")

    @task
    def large(self):
        ones = np.ones((64, 1024), np.float32)
        assert self.infer("identity", {"IN_FP32": ones}, outputs=["OUT_FP32"])["OUT_FP32"].sum() == 65536


class SharedOverHttp(TritonHttpUser):
    host = HTTP_HOST
    options = Shared.options
    tasks = Shared.tasks
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_shared_memory_is_an_option_and_none_is_left(
    processes: int, special_server: EmbeddedTriton, certificate: Path, tmp_path: Path, unused_tcp_port: int
) -> None:
    hosts = {"GRPC_HOST": tls_target(special_server), "HTTP_HOST": special_server.http_url}
    path = write_locustfile(tmp_path, SPECIAL_LOCUSTFILE + SHARED_MEMORY, **hosts, ROOT=str(certificate))
    before = set(Path("/dev/shm").glob("tritonforge-*"))
    arguments = ["-f", str(path), "--headless", "-u", "4", "-r", "4", "-t", "2s", "--csv", str(tmp_path / "out")]
    if processes > 1:
        arguments += ["--processes", str(processes), *worker_ports(unused_tcp_port)]
    with SeenFiles(Path("/dev/shm"), "tritonforge-*") as seen:
        done = run_locust(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert seen - before, "nothing was sent through shared memory"
    assert not {path for path in seen - before if path.exists()}


class SeenFiles:
    """Files of a pattern that were in a folder at some time."""

    def __init__(self, folder: Path, pattern: str) -> None:
        self._folder, self._pattern = folder, pattern
        self._found: set[Path] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._ended.wait(0.02):
            self._found.update(self._folder.glob(self._pattern))

    def __enter__(self) -> set[Path]:
        self._thread.start()
        return self._found

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


FAILURES = """
class Failing(TritonGrpcUser):
    host = GRPC_HOST
    tls = TLS(root_certificates=ROOT)
    options = Options(retry=None, timeout_s=0.5)

    @task
    def ask(self):
        self.infer("no_such_model", given(x=1), name="unknown")
        self.infer("failing", {"how": np.array([b"raise"])}, name="raising")
        self.infer("slow", {"delay": np.ones(1, np.float32)}, name="wrong")
        self.infer("slow", given(delay_s=0.6), name="too slow")


class FailingOverHttp(TritonHttpUser):
    host = HTTP_HOST
    options = Failing.options
    tasks = Failing.tasks


class Nowhere(TritonGrpcUser):
    host = "grpc://127.0.0.1:PORT"
    options = Failing.options

    @task
    def ask(self):
        self.infer("slow", given(delay_s=0.0), name="nowhere")


class NowhereOverHttp(TritonHttpUser):
    host = "http://127.0.0.1:PORT"
    options = Failing.options
    tasks = Nowhere.tasks
"""

CLASSES = {
    "unknown": "ModelNotFound",
    "too slow": "DeadlineExceeded",
    "raising": "ServerError",
    "wrong": "InvalidInput",
    "nowhere": "ConnectionFailed",
}


@pytest.mark.parametrize("processes", [1, 2])
def test_failures_are_told_apart_by_class_and_counted_together(
    processes: int, special_server: EmbeddedTriton, certificate: Path, tmp_path: Path, unused_tcp_port: int
) -> None:
    text = (SPECIAL_LOCUSTFILE + FAILURES).replace("PORT", "9")
    hosts = {"GRPC_HOST": tls_target(special_server), "HTTP_HOST": special_server.http_url}
    path = write_locustfile(tmp_path, text, **hosts, ROOT=str(certificate))
    arguments = ["-f", str(path), "--headless", "-u", "8", "-r", "8", "-t", "4s", "--csv", str(tmp_path / "out")]
    if processes > 1:
        arguments += ["--processes", str(processes), *worker_ports(unused_tcp_port)]
    done = run_locust(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    with (tmp_path / "out_failures.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    told = {(line["Method"], line["Name"], line["Error"].partition("(")[0]): int(line["Occurrences"]) for line in lines}
    assert len(told) == len(lines), lines  # one line a class: no number in its text makes it a new one
    expected = {(protocol, name, kind) for protocol in ("grpc", "http") for name, kind in CLASSES.items()}
    assert {kind for _, _, kind in told.keys() - expected} <= {"DeadlineExceeded"}  # on a busy machine
    assert min(told.get(key, 0) for key in expected) > 1, lines
