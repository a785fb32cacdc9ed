"""Where the real Triton server lies on this machine: inside the installed wheel ``nvidia-pytriton``.

Only the wheel's binaries are used. Its Python package is never imported, so its own requirements do not matter.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tritonforge_generator.environment import library_search_path, program_search_path
from tritonforge_generator.errors import ServerNotInstalledError

DISTRIBUTION = "nvidia-pytriton"
REQUIREMENT = "nvidia-pytriton==0.7.0"
_BACKENDS = Path(__file__).parent / "backends"


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonInstallation:
    """One installed server.

    Attributes:
        root: Folder with ``bin``, ``backends`` and ``caches``.
        tritonserver: The server's executable.
        stub: The process that runs Python models, built for this interpreter's version.
        libraries: Folder of the shared libraries that the executables need.
        version: Version of the distribution that brought it.
    """

    root: Path
    tritonserver: Path
    stub: Path
    libraries: Path
    version: str

    @property
    def caches(self) -> Path:
        """Folder for ``--cache-directory``."""
        return self.root / "caches"

    def environment(self, interpreter: Path) -> dict[str, str]:
        """Return the variables that the server's process needs on top of the inherited ones.

        The stub starts an isolated interpreter that ignores ``PYTHONHOME`` and ``PYTHONPATH``. It finds its standard
        library and its site-packages as ``python3`` would: through the first ``python3`` on ``PATH``.

        Args:
            interpreter: Folder that ``assemble_interpreter`` filled.
        """
        libraries = [str(self.libraries), str(sysconfig.get_config_var("LIBDIR") or "")]
        return {
            "LD_LIBRARY_PATH": ":".join(part for part in [*libraries, library_search_path()] if part != ""),
            "PATH": ":".join(part for part in [str(interpreter / "bin"), program_search_path()] if part != ""),
        }


def find_installation() -> TritonInstallation:
    """Find the server in the installed distributions, without importing any of it.

    Returns:
        The paths of the server and of the stub for this interpreter.

    Raises:
        ServerNotInstalledError: The wheel is missing or incomplete, or it cannot run under this interpreter. The
            message has the line that installs it.
    """
    tag = f"{sys.version_info.major}.{sys.version_info.minor}"
    try:
        distribution = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError as error:
        raise ServerNotInstalledError(
            f"no Triton server is installed for {sys.executable}",
            action=install_action(sys.platform, sys.version_info[:2]),
        ) from error
    root = Path(str(distribution.locate_file("pytriton/tritonserver")))
    installation = TritonInstallation(
        root=root,
        tritonserver=root / "bin" / "tritonserver",
        stub=root / "python_backend_stubs" / tag / "triton_python_backend_stub",
        libraries=root.parent.parent / "nvidia_pytriton.libs",
        version=distribution.version,
    )
    needed = (installation.tritonserver, root / "backends" / "python" / "libtriton_python.so", installation.libraries)
    missing = [path for path in needed if not path.exists()]
    if missing:
        raise ServerNotInstalledError(
            f"the installed {DISTRIBUTION} {installation.version} lacks its server",
            expected=str(missing[0]),
            got="no such file",
            action=f"Run: pip install --force-reinstall --no-deps {REQUIREMENT}",
        )
    if not installation.stub.exists():
        raise ServerNotInstalledError(
            f"{DISTRIBUTION} {installation.version} cannot run models under this Python",
            expected=f"one of {', '.join(sorted(path.name for path in installation.stub.parent.parent.iterdir()))}",
            got=tag,
            action="Make the virtual environment with one of those versions",
        )
    _require_shared_python(installation)
    return installation


def assemble_backends(installation: TritonInstallation, directory: Path) -> None:
    """Make a backend directory for one server: the wheel's ``python`` backend and this package's own.

    Triton refuses a backend library that is a link out of its directory, so that one is copied.

    Args:
        installation: Where the wheel's backend lies. It is only read.
        directory: An empty folder that belongs to this server alone.

    Raises:
        OSError: The folder cannot be written.
    """
    python = directory / "python"
    python.mkdir()
    source = installation.root / "backends" / "python"
    shutil.copyfile(source / "libtriton_python.so", python / "libtriton_python.so")
    (python / installation.stub.name).symlink_to(installation.stub)
    utilities = "triton_python_backend_utils.py"
    (python / utilities).symlink_to(source / utilities)
    for backend in sorted(path for path in _BACKENDS.iterdir() if (path / "model.py").is_file()):
        (directory / backend.name).mkdir()
        for file in sorted(backend.glob("*.py")):
            (directory / backend.name / file.name).symlink_to(file)


def assemble_interpreter(directory: Path) -> None:
    """Make a virtual environment for the stub: no package of its own, but all of this interpreter's, in its order.

    So a model runs with what the program that started the server would import (PYTHONPATH, user site, ``pip install
    --target``). A folder with a ``model.py`` of its own is left out: it would hide the module that the stub loads.

    Args:
        directory: An empty folder that belongs to this server alone.

    Raises:
        OSError: The folder cannot be written.
    """
    packages = directory / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    packages.mkdir(parents=True)
    (directory / "bin").mkdir()
    executable = Path(sys.executable).resolve()
    (directory / "bin" / "python3").symlink_to(executable)
    (directory / "pyvenv.cfg").write_text(
        f"home = {executable.parent}\ninclude-system-site-packages = false\n", "utf-8"
    )
    folders = [entry for entry in sys.path if entry != "" and Path(entry).is_dir()]
    ours = [entry for entry in folders if not (Path(entry) / "model.py").exists()]
    sites = [entry for entry in ours if Path(entry).name in {"site-packages", "dist-packages"}]  # have .pth files too
    code = (
        f"import site, sys; sys.path[:] = dict.fromkeys({ours!r} + sys.path); list(map(site.addsitedir, {sites!r}))\n"
    )
    (packages / "interpreter.pth").write_text(code, "utf-8")


def _require_shared_python(installation: TritonInstallation) -> None:
    """Check that the stub will find the interpreter's own shared library."""
    if any(installation.libraries.glob(f"libpython3*.{sys.version_info.minor}.so*")):
        return  # the wheel brings the library for this version itself
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    if (Path(str(sysconfig.get_config_var("LIBDIR") or "/")) / name).exists():
        return
    try:
        ctypes.CDLL(name)
    except OSError as error:
        raise ServerNotInstalledError(
            f"the server cannot run models under {sys.executable}",
            expected=f"the shared library {name}",
            got="an interpreter without it",
            action=f"Install it (Debian, Ubuntu: apt-get install libpython3.{sys.version_info.minor}), or use a "
            "Python that was built with --enable-shared",
        ) from error


def install_action(platform: str, version: tuple[int, int]) -> str:
    """Return what a user does to get the server.

    Args:
        platform: As ``sys.platform``.
        version: Major and minor version of Python.
    """
    if not platform.startswith("linux"):
        return "Triton runs on Linux only: use a Linux machine or container"
    if version >= (3, 13):
        return (
            f"Run: pip install --no-deps {REQUIREMENT} (without --no-deps pip wants numpy<2, which Python "
            f"{version[0]}.{version[1]} cannot have; only the server's binaries are used)"
        )
    return "Run: pip install 'tritonforge[server]'"
