"""What measured figures are worth: gates, validity, steadiness, two campaigns compared, the search for a limit.

Everything here is pure: results go in, verdicts come out.
"""

from tritonforge_load.judge.compare import Change, ChangeVerdict, Comparison, compare
from tritonforge_load.judge.gates import judge_gates, requests_for_gate, step_failures
from tritonforge_load.judge.repeats import Interval, interval_of
from tritonforge_load.judge.samples import needed_for_share, needed_requests, percentile_below, share_below
from tritonforge_load.judge.search import SearchPlan, longest_steps, usual_steps
from tritonforge_load.judge.steady import unsteady_reasons
from tritonforge_load.judge.validity import invalid_reasons

__all__ = [
    "Change",
    "ChangeVerdict",
    "Comparison",
    "Interval",
    "SearchPlan",
    "compare",
    "interval_of",
    "invalid_reasons",
    "judge_gates",
    "longest_steps",
    "needed_for_share",
    "needed_requests",
    "percentile_below",
    "requests_for_gate",
    "share_below",
    "step_failures",
    "unsteady_reasons",
    "usual_steps",
]
