from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typing_extensions

import tritonforge_client
import tritonforge_generator
from tritonforge_generator.deploy import find_installation
from tritonforge_generator.deploy.wheel import assemble_backends, install_action


def source_root(package: str) -> str:
    return str(Path(package).parent.parent)


def test_the_installation_is_found_without_importing_the_wheel() -> None:
    code = (
        "import sys; from tritonforge_generator.deploy import find_installation; print(find_installation().version);"
        "sys.exit('pytriton' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == find_installation().version
    assert find_installation().tritonserver.is_file()


def test_a_missing_wheel_is_named_with_its_install_line(tmp_path: Path) -> None:
    # An interpreter without site-packages: the wheel is really not there.
    shutil.copy(typing_extensions.__file__, tmp_path)
    folders = [source_root(tritonforge_generator.__file__), source_root(tritonforge_client.__file__), str(tmp_path)]
    code = (
        f"import sys; sys.path[:0] = {folders!r}\n"
        "from tritonforge_generator.deploy import EmbeddedTriton\n"
        "from tritonforge_generator.errors import ServerNotInstalledError\n"
        "try: EmbeddedTriton(sys.argv[1]).start()\n"
        "except ServerNotInstalledError as error: print(error)\n"
    )
    command = [sys.executable, "-I", "-S", "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert "no Triton server is installed for" in done.stdout
    assert install_action(sys.platform, sys.version_info[:2]) in done.stdout


@pytest.mark.parametrize(
    ("platform", "version", "action"),
    [
        ("linux", (3, 10), "Run: pip install 'tritonforge[server]'"),
        ("linux", (3, 12), "Run: pip install 'tritonforge[server]'"),
        ("linux", (3, 13), "Run: pip install --no-deps nvidia-pytriton==0.7.0 "),
        ("darwin", (3, 12), "Triton runs on Linux only"),
    ],
)
def test_the_install_line_fits_the_machine(platform: str, version: tuple[int, int], action: str) -> None:
    assert install_action(platform, version).startswith(action)


def test_backends_are_assembled_without_touching_the_wheel(tmp_path: Path) -> None:
    installation = find_installation()

    def state() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in sorted(installation.root.rglob("*"))}

    before = state()
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        directory.mkdir()
        assemble_backends(installation, directory)
        assert (directory / "onnxruntime" / "model.py").is_file()
        library = directory / "python" / "libtriton_python.so"
        assert library.is_file()
        assert not library.is_symlink()  # Triton refuses one that points out of its folder
        assert (directory / "python" / "triton_python_backend_stub").resolve() == installation.stub
    assert state() == before
