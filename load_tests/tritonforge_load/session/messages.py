"""What master and workers tell each other, beside Locust's own messages.

- ``READY`` (worker): prepared; says versions and the hash of the campaign file, which must be the master's.
- ``PING`` (master), ``PONG`` (worker): how the worker's clock differs from the master's.
- ``NEXT`` (master): the run that comes next, so that users know what to do until it begins.
- ``BEGIN`` (master): when the run begins, by the worker's own clock, and which share of an open run is the worker's.
- ``RAN`` (worker): the run is over here; what was recorded and how the process fared.
- ``FLUSH`` (master), ``FLUSHED`` (worker): the rest of what was recorded, after the last request.

A process without workers tells itself the same.
"""

from __future__ import annotations

from typing import Final

READY: Final = "tritonforge-ready"
PING: Final = "tritonforge-ping"
PONG: Final = "tritonforge-pong"
NEXT: Final = "tritonforge-next"
BEGIN: Final = "tritonforge-begin"
RAN: Final = "tritonforge-ran"
FLUSH: Final = "tritonforge-flush"
FLUSHED: Final = "tritonforge-flushed"

LOCAL: Final = "local"
"""Id of the only worker of a process without workers."""
