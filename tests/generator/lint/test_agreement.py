"""The linter against the real server: the same verdict and the same first text for every case."""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from generator.lint.cases import Case
from generator.lint.ensemble_cases import ENSEMBLES, EnsembleCase, write_repository
from generator.lint.table import CASES
from typing_extensions import Self

from tritonforge_generator.deploy import EmbeddedTriton
from tritonforge_generator.lint import Finding, lint_repository

pytestmark = pytest.mark.triton

_POLL_FAILURE = re.compile(r"""Poll failed for model directory '([^']*)': (.*)""")
_LOAD_TIMEOUT_S = 60.0
_LOG_TIMEOUT_S = 5.0
_CRASHES = 8


class Judge:
    """A server in explicit mode that says why it refuses a model."""

    def __init__(self, repository: Path, *, strict: bool) -> None:
        self.repository = repository
        self.strict = strict
        self._poll_failures: dict[str, str] = {}
        self._neighbours: dict[tuple[str, frozenset[tuple[str, str | bytes]]], str] = {}
        self._seen = threading.Condition()
        self._server = self._new_server()

    def _new_server(self) -> EmbeddedTriton:
        return EmbeddedTriton(
            self.repository,
            model_control_mode="explicit",
            on_log=self._read,
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

    def refusal(self, name: str) -> str:
        """Load a model; return why the server refuses it, or an empty string when it loads."""
        for _ in range(_CRASHES):
            try:
                return self._refusal(name)
            except (urllib.error.URLError, ConnectionError):
                # Server 24.10 sometimes dies of a segmentation fault when it cannot create a sequence scheduler.
                self._server.stop()
                self._server = self._new_server()
                self._server.start()
        pytest.fail(f"the server crashed {_CRASHES} times while loading {name}")

    def _refusal(self, name: str) -> str:
        url = f"{self._server.http_url}/v2/repository/models/{name}/load"
        request = urllib.request.Request(url, data=b"{}", method="POST")
        try:
            with urllib.request.urlopen(request, timeout=_LOAD_TIMEOUT_S):
                return ""
        except urllib.error.HTTPError as error:
            with error:
                said = str(json.loads(error.read())["error"])
        if "failed to poll from model repository" not in said:
            return said
        # The reply does not say why; the log does.
        deadline = time.monotonic() + _LOG_TIMEOUT_S
        with self._seen:
            while name not in self._poll_failures and time.monotonic() < deadline:
                self._seen.wait(0.1)
        return self._poll_failures.get(name, said)

    def neighbour(self, case: Case, name: str) -> str:
        """Return why the server refuses a case's neighbour; models that are alike are loaded once."""
        files = frozenset(case.files.items())
        if (case.valid, files) not in self._neighbours:
            case.write(self.repository, name, broken=False)
            assert self.findings(name) == []
            self._neighbours[case.valid, files] = self.refusal(name)
        return self._neighbours[case.valid, files]

    def findings(self, name: str) -> list[Finding]:
        found = lint_repository(self.repository, models=[name], strict=self.strict)
        return [finding for finding in found if finding.severity == "error"]


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    repository = tmp_path_factory.mktemp("strict")
    write_repository(repository)
    with Judge(repository, strict=True) as judge:
        yield judge


@pytest.fixture(scope="module")
def completing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    with Judge(tmp_path_factory.mktemp("completing"), strict=False) as judge:
        yield judge


_NUMBERED = [
    pytest.param(case, f"{case.rule}_{number}", id=f"{case.rule}-{number}") for number, case in enumerate(CASES)
]


@pytest.mark.parametrize(("case", "name"), _NUMBERED)
def test_the_server_says_what_lint_says(case: Case, name: str, request: pytest.FixtureRequest) -> None:
    judge: Judge = request.getfixturevalue("completing" if case.completing else "strict")
    case.write(judge.repository, name, broken=True)
    neighbour = judge.neighbour(case, f"{name}_valid")
    said = judge.refusal(name)
    first = judge.findings(name)[0]
    if case.newer:
        assert "failed to read text proto" in neighbour
        assert "failed to read text proto" in said
        return
    assert neighbour == ""
    if case.differs != "":
        assert first.text not in said, f"the server agrees after all; {case.differs!r} no longer holds"
    elif case.own_words:
        assert said != ""
    else:
        assert first.text in said


@pytest.mark.parametrize("case", ENSEMBLES, ids=lambda case: case.rule)
def test_the_server_says_of_ensembles_what_lint_says(case: EnsembleCase, strict: Judge) -> None:
    name = f"ensemble_{case.rule}"
    case.write(strict.repository, name, broken=True)

    said = strict.refusal(name)
    first = strict.findings(name)[0]
    if case.differs != "":
        assert first.text not in said, f"the server agrees after all; {case.differs!r} no longer holds"
    else:
        assert first.text in said


def test_a_right_ensemble_loads(strict: Judge) -> None:
    ENSEMBLES[0].write(strict.repository, "ensemble", broken=False)
    assert strict.findings("ensemble") == []
    assert strict.refusal("ensemble") == ""
