"""When requests are sent: schedules, which are pure numpy, and the pacer that keeps to them.

The pacer is imported from ``tritonforge_load.arrivals.pacer``: it needs gevent, the schedules do not.
"""

from tritonforge_load.arrivals.schedule import (
    choose,
    constant_times_s,
    curve_times_s,
    gamma_times_s,
    poisson_times_s,
    share_of,
    trace_times_s,
)
from tritonforge_load.arrivals.trace import Trace, read_trace

__all__ = [
    "Trace",
    "choose",
    "constant_times_s",
    "curve_times_s",
    "gamma_times_s",
    "poisson_times_s",
    "read_trace",
    "share_of",
    "trace_times_s",
]
