"""A ``FaultProxy`` in a process of its own, which stops for a while at a given time and then goes on.

In the test's own process it would take part in whatever the test does at the same time.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import dataclass
from typing import Final

from support.child import Child, say
from support.fault_proxy import FaultProxy
from typing_extensions import Self

_POLL_S: Final = 0.002


@dataclass(frozen=True, slots=True)
class Freeze:
    """A freeze as it was.

    Attributes:
        began_s: Its begin, on the clock of ``time.perf_counter()``, which processes share.
        ended_s: Its end.
    """

    began_s: float
    ended_s: float

    @property
    def duration_s(self) -> float:
        """How long nothing passed."""
        return self.ended_s - self.began_s


class FreezingProxy:
    """A proxy on 127.0.0.1 in front of a server, for HTTP and gRPC alike.

    Args:
        url: URL of the server, ``grpc://127.0.0.1:8001`` for one.

    Attributes:
        url: The same server through the proxy.
    """

    def __init__(self, url: str) -> None:
        scheme, _, authority = url.partition("://")
        self._child = Child("support.freezing_proxy", *authority.split(":"))
        self.url = f"{scheme}://127.0.0.1:{self._child.said['port']}"

    def freeze(self, *, after_s: float, for_s: float) -> None:
        """Let nothing pass for a while; connections stay, and what was held goes on afterwards.

        Args:
            after_s: Seconds from the next byte that a client sends to the beginning.
            for_s: How long, in seconds.
        """
        self._child.tell([after_s, for_s])

    def frozen(self) -> Freeze:
        """Wait for the end of the freeze that was asked for."""
        return Freeze(*self._child.answer())

    def close(self) -> None:
        """Drop all connections and end the process."""
        self._child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def main() -> None:
    """Pass bytes, and freeze for each line of standard input."""
    with FaultProxy(sys.argv[1], int(sys.argv[2])) as proxy:
        say({"port": proxy.port})
        for line in sys.stdin:
            # Not here: the end of standard input is to be noticed at any time.
            threading.Thread(target=_freeze, args=(proxy, *json.loads(line)), daemon=True).start()


def _freeze(proxy: FaultProxy, after_s: float, for_s: float) -> None:
    passed_bytes = proxy.passed_bytes["request"]
    while proxy.passed_bytes["request"] == passed_bytes:
        time.sleep(_POLL_S)
    time.sleep(after_s)
    proxy.freeze()
    began_s = time.perf_counter()
    time.sleep(for_s)
    ended_s = time.perf_counter()
    proxy.thaw()
    say([began_s, ended_s])


if __name__ == "__main__":
    main()
