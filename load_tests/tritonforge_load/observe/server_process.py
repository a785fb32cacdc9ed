"""What the processes of a server take, where the server is on this host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tritonforge_load.observe.absences import Reading
from tritonforge_load.observe.gpu import is_this_host
from tritonforge_load.observe.process import resident_bytes

_PROC: Final = Path("/proc")
_LISTENING: Final = "0A"
_LOCAL_FIELD, _STATE_FIELD, _INODE_FIELD = 1, 3, 9  # proc(5): /proc/net/tcp
_PARENT_FIELD: Final = 1  # proc(5): /proc/<pid>/stat, after the name
_SERVER: Final = "tritonserver"
_LOOKS_AT_A_TREE: Final = 30


class ServerProcess:
    """Memory of the ``tritonserver`` that listens on a port of this host, together with the processes that it started.

    The metrics page has the memory of the server's whole host, in which everything else of that host comes and goes;
    a leak of the server shows here.

    Args:
        host: Host that the server is called at.
        port: Port of any of its services.
    """

    def __init__(self, host: str, port: int) -> None:
        self._port = port
        self._tree: tuple[int, ...] = ()
        self._looks = 0
        self._reason = "" if is_this_host(host.strip("[]")) else f"the server is on {host}, not on this host"

    def sample(self) -> Reading:
        """Read the memory now.

        Returns:
            ``server.process_memory_bytes``, or why it is absent.
        """
        if self._reason:
            return _absent(self._reason)
        if self._looks % _LOOKS_AT_A_TREE == 0 or not self._tree or not (_PROC / str(self._tree[0])).exists():
            # Processes of models come and go; to find them all takes some milliseconds.
            listening, reason = _listener(self._port)
            if listening is None:
                return _absent(reason)
            self._tree = (listening, *_descendants(listening))
        self._looks += 1
        return Reading({"server.process_memory_bytes": float(sum(_memory_bytes(pid) for pid in self._tree))})


def _absent(reason: str) -> Reading:
    return Reading(absent={"server.process_memory": reason})


def _listener(port: int) -> tuple[int | None, str]:
    """The server's process that listens on a port of this host, or why there is none."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not sockets:
        return None, f"no process that this one can see listens on port {port}: the port may be a container's"
    holders = [pid for pid in _pids() if sockets & set(_open_files(pid))]
    servers = [pid for pid in holders if _name(pid) == _SERVER]
    if servers:
        return min(servers), ""
    names = ", ".join(sorted({_name(pid) for pid in holders})) or "a process of another user"
    return None, f"{names} listens on port {port}, no {_SERVER}"


def _listening_inodes(port: int) -> Iterator[str]:
    for table in (_PROC / "net" / "tcp", _PROC / "net" / "tcp6"):
        if not table.exists():  # a host without IPv6
            continue
        for line in table.read_text().splitlines()[1:]:
            fields = line.split()
            if fields[_STATE_FIELD] == _LISTENING and int(fields[_LOCAL_FIELD].rpartition(":")[2], 16) == port:
                yield fields[_INODE_FIELD]


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())


def _open_files(pid: int) -> Iterator[str]:
    """Targets of a process's descriptors; none where it belongs to another user, or has ended."""
    try:
        for link in (_PROC / str(pid) / "fd").iterdir():
            yield str(link.readlink())
    except OSError:
        return


def _name(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return "a process that has ended"


def _descendants(pid: int) -> list[int]:
    """All processes that a process started, and that those did."""
    children: dict[int, list[int]] = {}
    for one in _pids():
        try:
            parent = int((_PROC / str(one) / "stat").read_text().rpartition(")")[2].split()[_PARENT_FIELD])
        except OSError:
            continue  # it has ended
        children.setdefault(parent, []).append(one)
    found = [pid]
    for one in found:  # grows on the way
        found += children.get(one, [])
    return found[1:]


def _memory_bytes(pid: int) -> int:
    try:
        return resident_bytes(pid)
    except OSError:
        return 0  # it has ended
