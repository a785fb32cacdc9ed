"""The real Triton server as a context manager: started on free ports, stopped whatever happens."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

from typing_extensions import Self

from tritonforge_generator.deploy import ports
from tritonforge_generator.deploy.log import failure_from_log, port_taken
from tritonforge_generator.deploy.supervisor import remove_leftovers
from tritonforge_generator.deploy.wheel import (
    TritonInstallation,
    assemble_backends,
    assemble_interpreter,
    find_installation,
)
from tritonforge_generator.environment import inherited
from tritonforge_generator.errors import PortInUseError, RepositoryError, ServerError, ServerExitedError

ModelControlMode = Literal["none", "poll", "explicit"]

_SUPERVISOR: Final = Path(__file__).with_name("supervisor.py")
_PORT_ATTEMPTS: Final = 5
_LOG_LINES: Final = 2000
_READY_CHECK_S: Final = 0.02
_READER_END_S: Final = 5.0
_PLAN_SHM_BYTES: Final = 256 << 20
_DEFAULT_CACHE_BYTES: Final = 64 * 1024 * 1024
# The stub's command line goes through a shell unquoted, so other characters in a path would break it.
_PLAIN_PATH: Final = re.compile(r"[\w./+,:@%=-]+", re.ASCII)

_logger = logging.getLogger(__name__)


class EmbeddedTriton:
    """A Triton server that lives as long as its ``with`` block, and never longer than this process.

    ::

        with EmbeddedTriton("model_repository") as server:
            client = Client(server.grpc_url)

    Args:
        model_repository: One folder of models, or several.
        host: Address that all three services listen on.
        http_port: Port of the HTTP service; ``None`` takes a free one.
        grpc_port: Port of the gRPC service; ``None`` takes a free one.
        metrics_port: Port of the metrics service; ``None`` takes a free one.
        model_control_mode: ``none`` loads all models at start, ``poll`` also follows changes of the repository,
            ``explicit`` loads ``load_models`` and then what clients ask for.
        repository_poll_s: Seconds between two looks at the repository in mode ``poll``.
        load_models: Models to load at start in mode ``explicit``; ``["*"]`` loads all.
        ready_timeout_s: Time that loading all models may take.
        stop_timeout_s: Time that running requests and open HTTP connections get when the server is stopped; then it is
            killed. 0 kills it at once.
        on_log: Called with every line of the server's log, from a thread of its own.
        cache_size_bytes: Size of the response cache, which serves models with ``response_cache.enable``; 0 turns the
            cache off.
        model_config_name: Read ``configs/<name>.pbtxt`` of a model in place of ``config.pbtxt``, where it has one.
        arguments: More command-line arguments of ``tritonserver``; the last one wins.
    """

    def __init__(
        self,
        model_repository: Path | str | Sequence[Path | str],
        *,
        host: str = "127.0.0.1",
        http_port: int | None = None,
        grpc_port: int | None = None,
        metrics_port: int | None = None,
        model_control_mode: ModelControlMode = "none",
        repository_poll_s: int = 2,
        load_models: Sequence[str] = (),
        ready_timeout_s: float = 60.0,
        stop_timeout_s: float = 5.0,
        on_log: Callable[[str], None] | None = None,
        cache_size_bytes: int = _DEFAULT_CACHE_BYTES,
        model_config_name: str | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        several = [model_repository] if isinstance(model_repository, str | Path) else list(model_repository)
        self.repositories = tuple(Path(path).absolute() for path in several)
        self.host = host
        self._requested_ports = (http_port, grpc_port, metrics_port)
        self._ports = (0, 0, 0)
        self._model_control_mode: ModelControlMode = model_control_mode
        self._repository_poll_s = repository_poll_s
        self._load_models = tuple(load_models)
        self._ready_timeout_s = ready_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._on_log = on_log
        self._cache_size_bytes = cache_size_bytes
        self._model_config_name = model_config_name
        self._arguments = tuple(arguments)
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._scratch: Path | None = None
        self._shm_prefix = ""
        self._server_pid: int | None = None
        self._log: deque[str] = deque(maxlen=_LOG_LINES)

    # ---- what a user sees ----

    @property
    def http_url(self) -> str:
        """Address of the HTTP service, ``http://host:port``."""
        return f"http://{self._client_host}:{self._ports[0]}"

    @property
    def grpc_url(self) -> str:
        """Address of the gRPC service, ``grpc://host:port``."""
        return f"grpc://{self._client_host}:{self._ports[1]}"

    @property
    def metrics_url(self) -> str:
        """Address of the Prometheus metrics, ``http://host:port/metrics``."""
        return f"http://{self._client_host}:{self._ports[2]}/metrics"

    @property
    def log(self) -> list[str]:
        """The last lines of the server's log."""
        return list(self._log)

    @property
    def pid(self) -> int:
        """Process id of ``tritonserver``.

        Raises:
            ServerError: The server was not started.
        """
        if self._server_pid is None:
            raise ServerError("the server is not running", action="Call start() first")
        return self._server_pid

    @property
    def running(self) -> bool:
        """Whether the server's process lives."""
        return self._supervisor is not None and self._supervisor.poll() is None

    def start(self) -> Self:
        """Start the server and wait until it and all its models are ready.

        Returns:
            This object.

        Raises:
            ServerNotInstalledError: No server is installed.
            RepositoryError: A repository is not a folder.
            PortInUseError: A port that was asked for is taken.
            ServerExitedError: The server ended by itself, for example because a model does not load.
            ServerError: It is running already, or it was not ready in time.
        """
        if self.running:
            raise ServerError("the server is running already", action="Call stop() first")
        self._check_arguments()
        installation = find_installation()
        for attempt in range(_PORT_ATTEMPTS):
            self._ports = ports.choose_ports(self.host, self._requested_ports)
            try:
                self._launch(installation)
                self._wait_ready()
            except PortInUseError:
                # Somebody took a free port between our look and the server's start: choose others.
                self.stop()
                if None not in self._requested_ports or attempt == _PORT_ATTEMPTS - 1:
                    raise
            except BaseException:
                self.stop()
                raise
            else:
                return self
        raise AssertionError("unreachable: the last attempt returns or raises")

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait until the server ends by itself.

        Args:
            timeout_s: Longest wait in seconds; ``None`` waits for ever.

        Returns:
            Its exit code; 128 plus the signal's number when a signal ended it.

        Raises:
            ServerError: The server was not started.
            TimeoutError: It still runs.
        """
        if self._supervisor is None:
            raise ServerError("the server is not running", action="Call start() first")
        try:
            return self._supervisor.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"the server still runs after {timeout_s} s") from error

    def stop(self) -> None:
        """Stop the server and remove everything it made; does nothing when it is not running."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.terminate()
            try:
                # The supervisor keeps the time limit; the margin is for its cleaning up.
                supervisor.wait(self._stop_timeout_s + 10.0)
            except subprocess.TimeoutExpired:
                supervisor.kill()  # takes the server along (PR_SET_PDEATHSIG)
                supervisor.wait()
        if self._reader is not None and self._reader is not threading.current_thread():
            self._reader.join(_READER_END_S)
            self._reader = None
        if self._scratch is not None:
            # The supervisor has done this, unless it was killed.
            remove_leftovers(self._scratch, self._shm_prefix)
            self._scratch = None
        self._server_pid = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    # ---- how it is done ----

    @property
    def _client_host(self) -> str:
        return "127.0.0.1" if self.host == "0.0.0.0" else self.host  # noqa: S104

    def _check_arguments(self) -> None:
        for repository in self.repositories:
            if not repository.is_dir():
                raise RepositoryError(
                    f"the model repository {repository} cannot be served",
                    expected="a folder of models",
                    got="a file" if repository.exists() else "nothing there",
                )
        if len(self._load_models) > 0 and self._model_control_mode != "explicit":
            raise ServerError(
                "load_models was given",
                expected='model_control_mode="explicit"',
                got=f'"{self._model_control_mode}", which loads every model',
            )

    def _launch(self, installation: TritonInstallation) -> None:
        self._log.clear()
        folder = tempfile.gettempdir()
        self._scratch = Path(
            tempfile.mkdtemp(prefix="tritonforge-", dir=folder if _PLAIN_PATH.fullmatch(folder) else "/tmp")  # noqa: S108
        )
        backends = self._scratch / "backends"
        backends.mkdir()
        assemble_backends(installation, backends)
        interpreter = self._scratch / "python"
        interpreter.mkdir()
        assemble_interpreter(interpreter)
        self._shm_prefix = f"tritonforge_{secrets.token_hex(8)}_"
        pid_source, pid_sink = os.pipe()
        with os.fdopen(pid_source) as pid_pipe:
            try:
                self._supervisor = subprocess.Popen(
                    [
                        *(sys.executable, "-I", "-S", str(_SUPERVISOR)),
                        *(
                            str(os.getpid()),
                            str(self._stop_timeout_s),
                            str(self._scratch),
                            self._shm_prefix,
                            str(pid_sink),
                        ),
                        *("--", str(installation.tritonserver)),
                        *self._server_arguments(installation, backends),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    # ONNX Runtime and others leave files in TMPDIR; there they are removed with the rest.
                    env={**inherited(), **installation.environment(interpreter), "TMPDIR": str(self._scratch)},
                    pass_fds=[pid_sink],
                    start_new_session=True,  # the terminal's Ctrl-C reaches this process only
                )
            finally:
                os.close(pid_sink)
            self._reader = threading.Thread(target=self._read_log, name="triton-log", daemon=True)
            self._reader.start()
            text = pid_pipe.read()
        self._server_pid = int(text) if text != "" else None

    def _server_arguments(self, installation: TritonInstallation, backends: Path) -> list[str]:
        http_port, grpc_port, metrics_port = self._ports
        options: list[tuple[str, object]] = [
            *(("model-repository", path) for path in self._plain_repositories()),
            *(("http-address", self.host), ("http-port", http_port)),
            *(("grpc-address", self.host), ("grpc-port", grpc_port)),
            *(("metrics-address", self.host), ("metrics-port", metrics_port)),
            ("model-control-mode", self._model_control_mode),
            ("backend-directory", backends),
            ("backend-config", f"python,shm-region-prefix-name={self._shm_prefix}"),
            *self._plan_options(),
            ("exit-timeout-secs", max(1, round(self._stop_timeout_s))),
            *(("load-model", name) for name in self._load_models),
        ]
        if self._model_config_name is not None:
            options.append(("model-config-name", self._model_config_name))
        if self._model_control_mode == "poll":
            options.append(("repository-poll-secs", self._repository_poll_s))
        if self._cache_size_bytes > 0:
            options.append(("cache-directory", installation.caches))
            options.append(("cache-config", f"local,size={self._cache_size_bytes}"))
        return [f"--{name}={value}" for name, value in options] + list(self._arguments)

    def _plan_options(self) -> list[tuple[str, object]]:
        """Room for the requests of plans, taken at once: the ``tensorrt`` backend pins it, and growing moves it."""
        configs = [path for repository in self.repositories for path in repository.glob("*/config.pbtxt")]
        if not any("tensorrt" in path.read_text("utf-8", "replace") for path in configs):
            return []
        room = os.statvfs("/dev/shm")  # noqa: S108 - where the python backend's regions lie
        size_bytes = min(_PLAN_SHM_BYTES, room.f_bavail * room.f_frsize // 16)
        return [("backend-config", f"python,shm-default-byte-size={size_bytes}")]

    def _plain_repositories(self) -> list[Path]:
        """The repositories by paths that survive the stub's shell: a link stands in where needed."""
        plain: list[Path] = []
        for number, repository in enumerate(self.repositories):
            if _PLAIN_PATH.fullmatch(str(repository)) is None and self._scratch is not None:
                link = self._scratch / f"repository{number}"
                link.symlink_to(repository)
                plain.append(link)
            else:
                plain.append(repository)
        return plain

    def _read_log(self) -> None:
        """Keep the tail of the log and hand every line on; runs in a thread until the server's end."""
        supervisor = self._supervisor
        if supervisor is None or supervisor.stdout is None:
            return
        with supervisor.stdout as stream:
            for raw in stream:
                line = raw.decode("utf-8", errors="replace").rstrip("\n")
                self._log.append(line)
                if self._on_log is not None:
                    try:
                        self._on_log(line)
                    except Exception:
                        # The log must be read to its end, or the server blocks on a full pipe.
                        _logger.exception("on_log failed; it gets no more lines")
                        self._on_log = None

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + self._ready_timeout_s
        while not self._answers_ready():
            if not self.running:
                self._raise_exited()
            self._check_ports_not_taken()  # without its metrics port the server goes on, and only says so
            if time.monotonic() > deadline:
                raise ServerError(
                    "the server was not ready in time",
                    expected=f"all models loaded within {self._ready_timeout_s} s",
                    got="\n" + "\n".join(self.log[-15:]) + "\n",
                    action="Raise ready_timeout_s if the models need longer",
                )
            time.sleep(_READY_CHECK_S)

    def _answers_ready(self) -> bool:
        connection = http.client.HTTPConnection(self._client_host, self._ports[0], timeout=2.0)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/v2/health/ready")
            if connection.getresponse().status == http.HTTPStatus.OK:
                # It may be another server's answer; and the metrics come up last.
                pid = self._server_pid
                return pid is not None and all(ports.listens(pid, port) for port in self._open_ports())
        return False

    def _open_ports(self) -> list[int]:
        return [
            port
            for service, port in zip(("http", "grpc", "metrics"), self._ports, strict=True)
            if f"--allow-{service}=false" not in self._arguments
        ]

    def _raise_exited(self) -> None:
        """Tell why the server ended by itself."""
        if self._supervisor is None or self._reader is None:
            return
        self._reader.join()  # the pipe is closed, so the whole log gets here
        code = self._supervisor.wait()
        self._check_ports_not_taken()
        raise ServerExitedError(
            f"the Triton server ended with exit code {code} before it was ready; {failure_from_log(self.log)}"
        )

    def _check_ports_not_taken(self) -> None:
        taken = port_taken(self.log)
        if taken is not None:
            raise ports.port_in_use(taken, self.host)
