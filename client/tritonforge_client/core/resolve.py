"""Host names whose every address is an endpoint: when they are asked, and what follows from the answers."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tritonforge_client.core.call import Call
from tritonforge_client.core.effects import Close, Resolve, Steps
from tritonforge_client.core.endpoints import Endpoints

_ASKED_AGAIN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Name:
    """A host name, every address of which is an endpoint.

    Attributes:
        resolver: Gives its addresses: a ``Resolver`` or an ``AsyncResolver``.
        transport_to: Makes the transport to one of them.
    """

    resolver: Any
    transport_to: Callable[[str], Any]


class Names:
    """The host names among the targets of one client. Threads may share it.

    A name is asked before the first attempt, and again before the next attempt once an endpoint took no requests or did
    not answer in time, but not more often than every second. While nothing but names is known, every attempt asks, and
    a name is itself the endpoint that attempts at it fail at.

    Args:
        names: By the index of the endpoint that is the name itself.
        endpoints: One for each target.
        is_closed: Whether the client was closed.
    """

    def __init__(self, names: Mapping[int, Name], endpoints: Endpoints, is_closed: Callable[[], bool]) -> None:
        self._names = names
        self._endpoints = endpoints
        self._is_closed = is_closed
        self._lock = threading.Lock()
        # For each target the indices of its endpoints by address. A target that is no name keeps the one that it has.
        self._targets: list[dict[str, int]] = [{"": index} for index in range(len(endpoints.transports))]
        self._known = {index for index in range(len(self._targets)) if index not in names}
        self._asked_s = dict.fromkeys(names, -math.inf)
        endpoints.use(self._used())

    def refresh(self, call: Call) -> Steps[None]:
        """Ask the names that are to be asked now, and close what they led to before.

        Raises:
            DeadlineExceeded: The time of the call is over.
            Cancelled: The client was closed meanwhile.
        """
        for index, name in self._names.items():
            if not self._is_asked_now(index):
                continue
            left_s = call.remaining_s()
            try:
                # A question without an answer leaves time for the addresses that are known.
                addresses = yield Resolve(name.resolver, left_s / 2 if self._known else left_s)
            # A ValueError is a name that no resolver would take.
            except (OSError, ValueError) as error:
                self._endpoints.unresolved[index] = error
                continue
            if self._is_closed():
                raise call.closed_error()
            self._learn(index, addresses)
        for transport in self._endpoints.emptied():
            yield Close(transport)

    def _is_asked_now(self, index: int) -> bool:
        """Whether a name is to be asked; who is told so asks."""
        if index in self._known and self._endpoints.failed_s < self._asked_s[index]:
            return False
        with self._lock:
            now_s = time.monotonic()
            if self._known and now_s - self._asked_s[index] < _ASKED_AGAIN_S:
                return False
            self._asked_s[index] = now_s
            return True

    def _learn(self, index: int, addresses: Sequence[str]) -> None:
        with self._lock:
            target = {address: i for address, i in self._targets[index].items() if address in addresses}
            for address in addresses:
                if address not in target:
                    target[address] = self._endpoints.add(self._names[index].transport_to(address))
            self._targets[index] = target
            self._known.add(index)
            self._endpoints.use(self._used())

    def _used(self) -> list[int]:
        """The endpoints to be used, in the order of the targets."""
        targets = [target for index, target in enumerate(self._targets) if index in self._known]
        return [index for target in targets or self._targets for index in target.values()]
