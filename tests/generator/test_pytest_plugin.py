"""The fixtures in pytest processes of their own, and the examples of the documentation with them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PLUGIN = "tritonforge_generator.pytest_plugin"
ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "model_repository"
DOCUMENT = (ROOT / "docs" / "testing.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
EXAMPLES = [text for kind, text in BLOCKS if kind == "python"]
HEAVY = ["numpy", "grpc", "tritonclient", "google.protobuf", "aiohttp", "tritonforge_client"]


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project of somebody else, whose pytest loads this plugin and no other."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return pytester


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return project.runpytest_subprocess("-p", PLUGIN, "-rs", "-W", "error", *arguments)


# ---- what is imported ----


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What a pytest has imported when it runs a test that uses no fixture."""
    folder = tmp_path_factory.mktemp("light")
    code = f"""
import json, pathlib, sys
def test_what_is_imported():
    found = [name for name in {HEAVY} if name in sys.modules]
    pathlib.Path("found.json").write_text(json.dumps([*found, *(n for n in sys.modules if n == {PLUGIN!r})]))
"""
    (folder / "test_light.py").write_text(code)
    command = [sys.executable, "-m", "pytest", "-q", "-p", PLUGIN, "-p", "no:cacheprovider", "test_light.py"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, timeout=60)
    return set(json.loads((folder / "found.json").read_text()))


@pytest.mark.parametrize("module", HEAVY)
def test_a_pytest_that_uses_no_fixture_imports_nothing_heavy(imported: set[str], module: str) -> None:
    assert PLUGIN in imported
    assert module not in imported


# ---- fixtures without a server ----


def test_fakes_are_empty_and_new_for_each_test(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest
        from tritonforge_client import Client, ModelSpec, TensorSpec
        from tritonforge_client.testing import AsyncFakeTransport, FakeTransport

        @pytest.mark.parametrize("turn", [1, 2])
        def test_fake(fake_triton, async_fake_triton, turn):
            assert (type(fake_triton), type(async_fake_triton)) == (FakeTransport, AsyncFakeTransport)
            with Client("fake", transport=fake_triton) as client:
                assert client.repository_index() == []
                y = TensorSpec(name="y", datatype="FP32", dims=(1,))
                fake_triton.add(ModelSpec(name="m", inputs=(y,), outputs=(y,)))
                assert client.ready("m")
        """
    )
    run(project).assert_outcomes(passed=2)


def test_fixtures_are_listed_with_what_they_are(project: pytest.Pytester) -> None:
    listed = run(project, "--fixtures").stdout
    for name in ("triton_server [session scope]", "triton_url [session scope]", "triton_client", "fake_triton"):
        listed.fnmatch_lines([f"{name.replace('[', '[[]')}*"])
    listed.no_fnmatch_line("*no docstring available*")


# ---- the server's fixtures where there is none ----

USES_SERVER = "def test_server(triton_client):\n    assert triton_client.ready()\n"


def test_without_a_repository_a_test_fails_and_says_what_to_give(project: pytest.Pytester) -> None:
    project.makepyfile(USES_SERVER)
    result = run(project)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*expected a model repository, got none; give --triton-repository or set *"])


def test_without_the_generator_a_test_is_skipped(project: pytest.Pytester) -> None:
    project.makepyfile(USES_SERVER)
    project.makeconftest("import sys\nsys.modules['tritonforge_generator'] = None")
    result = run(project, f"--triton-repository={DIGITS}")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*SKIPPED*could not import 'tritonforge_generator.deploy'*"])


def test_without_the_server_s_wheel_a_test_is_skipped(project: pytest.Pytester) -> None:
    project.makepyfile(USES_SERVER)
    project.makeconftest(
        """
        import importlib.metadata
        found = importlib.metadata.distribution

        def without_server(name):
            if name == "nvidia-pytriton":
                raise importlib.metadata.PackageNotFoundError(name)
            return found(name)

        importlib.metadata.distribution = without_server
        """
    )
    result = run(project, f"--triton-repository={DIGITS}")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*SKIPPED*no Triton server is installed*"])


def test_a_repository_that_is_not_there_is_an_error(project: pytest.Pytester) -> None:
    project.makepyfile(USES_SERVER)
    result = run(project, "--triton-repository=nosuch")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{project.path / 'nosuch'} cannot be served*"])


# ---- with a server ----


@pytest.mark.triton
def test_one_server_serves_the_session_and_ends_with_it(project: pytest.Pytester) -> None:
    project.makeini("[pytest]\ntriton_repository = nosuch\n")
    project.makepyfile(
        """
        import pathlib
        import pytest

        @pytest.mark.parametrize("turn", [1, 2])
        def test_server(triton_server, triton_client, turn):
            assert triton_client.ready("digits")
            assert triton_server.log
            with pathlib.Path("pids").open("a") as pids:
                print(triton_server.pid, file=pids)
        """
    )
    # The option comes before the ini-file, and a relative folder is taken from where pytest was started.
    relative = os.path.relpath(DIGITS, project.path)
    run(project, f"--triton-repository={relative}").assert_outcomes(passed=2)
    first, second = (project.path / "pids").read_text().split()
    assert first == second
    assert not Path("/proc", first).exists()


# ---- the documentation ----


def test_examples_without_a_server_run(project: pytest.Pytester) -> None:
    examples = [text for text in EXAMPLES if "triton_client" not in text]
    for number, text in enumerate(examples):
        (project.path / f"test_example{number}.py").write_text(text)
    result = run(project)
    result.assert_outcomes(passed=sum(text.count("\ndef test_") for text in examples))


@pytest.mark.triton
def test_examples_with_a_server_run(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    ini = [text for kind, text in BLOCKS if kind == "ini"]
    project.makeini("".join(ini))
    (project.path / "models").symlink_to(DIGITS)
    examples = [text for text in EXAMPLES if "triton_client" in text]
    (project.path / "test_example.py").write_text("\n".join(examples))
    # The ini-file's folder counts, not where pytest was started.
    monkeypatch.chdir(project.mkdir("below"))
    run(project, "..").assert_outcomes(passed=2)
