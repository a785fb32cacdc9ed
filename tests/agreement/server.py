"""The real server as a judge: one in explicit mode loads one model after the other and says why it refuses."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from typing_extensions import Self

from tritonforge_generator.deploy import EmbeddedTriton

_POLL_FAILURE: Final = re.compile(r"""Poll failed for model directory '([^']*)': (.*?)"?$""")
_POLLED_IN_VAIN: Final = "failed to poll from model repository"
# What the server puts around the text of a check.
_WRAPPERS: Final = (
    re.compile(r"^load failed for model '[^']*': "),
    re.compile(r"^version -?\d+ is at UNAVAILABLE state: "),
    re.compile(r"^(?:Internal|Invalid argument|Not found|Unavailable|Unsupported|Unknown|Already exists): "),
    re.compile(r"^\[request id: [^\]]*\] "),
    re.compile(r";version -?\d+ is at UNAVAILABLE state: (?s:.*)$"),  # of several versions the first counts
    re.compile(r"^(?:TritonModelException|ValueError): "),
    re.compile(r" Model '[^']*' loading failed with error: version (?s:.*)$"),  # after what X4 says
    re.compile(r"\n\nAt:\n(?s:.*)$"),
)
# Where the embedded server's back-ends lie, and where those of Triton's container do.
_BACKENDS: Final = (re.compile(r"/[^' ]*/tritonforge-[^/']*/backends"), "/opt/tritonserver/backends")
_LOAD_TIMEOUT_S: Final = 60.0
_LOG_TIMEOUT_S: Final = 5.0
_ATTEMPTS: Final = 10
# Loading a model is mostly waiting, for the start of a process of its own.
_AT_ONCE: Final = 4


@dataclass(frozen=True)
class Judgement:
    """What the server says of one model.

    Attributes:
        refusal: Its text without what it wraps around it; empty when the model loads.
        config: The config that it serves, as its own JSON; ``None`` when the model does not load.
        crashes: How many times it died while loading the model.
    """

    refusal: str
    config: dict[str, Any] | None = None
    crashes: int = 0


def unwrapped(said: str) -> str:
    """Strip what the server puts around the text of a check: the model, the version and the error's kind."""
    text = said
    while True:
        for wrapper in _WRAPPERS:
            text = wrapper.sub("", text, count=1)
        if text == said:
            return _BACKENDS[0].sub(_BACKENDS[1], text.rstrip().removesuffix(";")).rstrip()
        said = text


class Judge:
    """A server in explicit mode.

    Args:
        repository: Where the models lie; they may be written later.
        strict: Whether completion is off.

    Attributes:
        deaths: How many times the server died, or answered no more.
        interrupted: The models that were being loaded then.
    """

    def __init__(self, repository: Path, *, strict: bool) -> None:
        self.repository = repository
        self.strict = strict
        self.deaths = 0
        self.interrupted: list[str] = []
        self._poll_failures: dict[str, str] = {}
        self._seen = threading.Condition()
        self._restarting = threading.Lock()
        self._server = self._new_server()

    def _new_server(self) -> EmbeddedTriton:
        return EmbeddedTriton(
            self.repository,
            model_control_mode="explicit",
            on_log=self._read,
            stop_timeout_s=0.0,
            arguments=["--disable-auto-complete-config"] if self.strict else [],
        )

    def _read(self, line: str) -> None:
        found = _POLL_FAILURE.search(line)
        if found is not None:
            with self._seen:
                self._poll_failures[found.group(1)] = found.group(2)
                self._seen.notify_all()

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def judgements(self, names: Sequence[str]) -> dict[str, Judgement]:
        """Judge models, several at once; those that were being loaded when the server died are judged alone."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = dict(zip(names, pool.map(self._judgement_or_none, names), strict=True))
        return {name: judged if judged is not None else self.judgement(name) for name, judged in found.items()}

    def judgement(self, name: str) -> Judgement:
        """Load a model, ask for its config, and unload it; a server that dies of it is started anew."""
        for crashes in range(_ATTEMPTS):
            judged = self._judgement_or_none(name)
            if judged is not None:
                return dataclasses.replace(judged, crashes=crashes)
        return Judgement("the server crashes", None, _ATTEMPTS)

    def _judgement_or_none(self, name: str) -> Judgement | None:
        server = self._server
        try:
            refusal = unwrapped(self._refusal(name))
            config = self._served(name) if refusal == "" else None
        except (OSError, http.client.HTTPException):
            with self._restarting:
                self.interrupted.append(name)
                if self._server is server:
                    self._restart()
            return None
        return Judgement(refusal, config)

    def _restart(self) -> None:
        self.deaths += 1
        self._server.stop()
        self._server = self._new_server().start()

    def _refusal(self, name: str) -> str:
        self._poll_failures.pop(name, None)
        status, answer = self._ask("POST", f"/v2/repository/models/{name}/load")
        if status == http.HTTPStatus.OK:
            return ""
        said = str(answer["error"])
        if _POLLED_IN_VAIN not in said:
            return said
        # The reply does not say why; the log does.
        deadline = time.monotonic() + _LOG_TIMEOUT_S
        with self._seen:
            while name not in self._poll_failures and time.monotonic() < deadline:
                self._seen.wait(0.1)
            return self._poll_failures.get(name, said)

    def _served(self, name: str) -> dict[str, Any]:
        status, config = self._ask("GET", f"/v2/models/{name}/config")
        if status != http.HTTPStatus.OK:
            raise http.client.HTTPException(f"the server that loaded {name} died of another model meanwhile")
        self._ask("POST", f"/v2/repository/models/{name}/unload")
        return config

    def _ask(self, method: str, path: str) -> tuple[int, dict[str, Any]]:
        address = self._server.http_url.removeprefix("http://")
        with contextlib.closing(http.client.HTTPConnection(address, timeout=_LOAD_TIMEOUT_S)) as connection:
            connection.request(method, path, body=b"{}" if method == "POST" else None)
            response = connection.getresponse()
            text = response.read()
            return response.status, json.loads(text) if text else {}
