"""Whether enough was measured to say that a percentile or a share is below its limit.

"99 % of the requests take less than 25 ms" says that the probability of a request of 25 ms or more, a miss, is at most
1 %. From k misses in n requests it is concluded as in a test of MLPerf LoadGen, its early stopping: if so few misses
would come with a probability of at most 1 - confidence were the limit only just missed, the sentence holds; if so many
would, were it only just kept, it does not; otherwise it cannot be told. So at least 459 requests, none of them a miss,
are needed for a 99th percentile with 99 % confidence. Each verdict alone is wrong with a probability of at most
1 - confidence, provided that requests miss independently of each other.

Sources: https://github.com/mlcommons/inference/blob/master/loadgen/early_stopping.cc; for shares the same is the
one-sided interval of C. J. Clopper and E. S. Pearson, Biometrika 26 (1934).
"""

from __future__ import annotations

from typing import Final

from tritonforge_load.judge.distributions import binomial_at_least, binomial_at_most, incomplete_beta
from tritonforge_load.measure.histogram import Histogram

_NS_PER_MS: Final = 1e6
_MOST_REQUESTS: Final = 100_000_000


def share_below(
    count: int, total: int, limit: float, *, or_equal: bool = False, confidence: float = 0.95
) -> bool | None:
    """Whether the share of which ``count`` in ``total`` is a sample lies below a limit.

    No sample tells that something never or always happens: at the limits 0 and 1 the sample itself is judged.

    Args:
        count: How many of ``total`` are hits.
        total: Size of the sample.
        limit: From 0 to 1.
        or_equal: Whether a share at the limit is below it; that matters at the limits 0 and 1.
        confidence: Probability with which the answer is right.

    Returns:
        ``None`` when it cannot be told.
    """
    if total == 0:
        return None
    if limit in {0.0, 1.0}:
        return count <= limit * total if or_equal else count < limit * total
    if binomial_at_most(count, total, limit) <= 1 - confidence:
        return True
    return False if binomial_at_least(count, total, limit) <= 1 - confidence else None


def misses_of(latency: Histogram, limit_ms: float, *, or_equal: bool = False) -> tuple[int, int]:
    """How many latencies miss a limit.

    Args:
        latency: The latencies.
        limit_ms: The limit in milliseconds.
        or_equal: Whether a latency at the limit keeps it.

    Returns:
        At least so many and at most so many: those in the limit's bucket may or may not.
    """
    limit_ns = round(limit_ms * _NS_PER_MS)
    return latency.count_above(limit_ns if or_equal else limit_ns - 1)


def percentile_below(
    latency: Histogram, percent: float, limit_ms: float, *, or_equal: bool = False, confidence: float = 0.95
) -> bool | None:
    """Whether the percentile of which the latencies are a sample lies below a limit.

    Args:
        latency: The latencies.
        percent: Above 0 and below 100.
        limit_ms: The limit in milliseconds.
        or_equal: Whether a percentile at the limit is below it.
        confidence: Probability with which the answer is right.

    Returns:
        ``None`` when it cannot be told.
    """
    surely, possibly = misses_of(latency, limit_ms, or_equal=or_equal)
    allowed = share_over(percent)
    if share_below(possibly, latency.count, allowed, confidence=confidence):
        return True
    return False if share_below(surely, latency.count, allowed, confidence=confidence) is False else None


def share_over(percent: float) -> float:
    """The share of requests that may be over a percentile: 0.01 for 99."""
    return round(1 - percent / 100, 12)


def needed_requests(percent: float, confidence: float, misses: int = 0) -> int:
    """The fewest requests of which so many may miss a limit, and the percentile is still below it.

    Args:
        percent: Above 0 and below 100.
        confidence: Probability with which that is right.
        misses: Requests that miss the limit.
    """
    return needed_for_share(share_over(percent), confidence, misses)


def needed_for_share(limit: float, confidence: float, count: int = 0) -> int:
    """The smallest sample of which so many may be hits, and the share is still below its limit.

    Args:
        limit: Above 0 and below 1.
        confidence: Probability with which that is right.
        count: Hits.
    """
    low, high = count, count + 1
    while binomial_at_most(count, high, limit) > 1 - confidence:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if binomial_at_most(count, middle, limit) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def needed_to_tell(count: int, total: int, limit: float, confidence: float) -> int | None:
    """About how large a sample would tell on which side of a limit a share lies, were it the one of this sample.

    Args:
        count: Hits in the sample.
        total: Size of the sample, above 0.
        limit: Above 0 and below 1.
        confidence: Probability with which that is right.

    Returns:
        ``None`` when 100 million would not tell.
    """
    share = count / total

    def tells(size: int) -> bool:
        hits = share * size
        if share < limit:
            return incomplete_beta(size - hits, hits + 1, 1 - limit) <= 1 - confidence
        return share > limit and incomplete_beta(hits, size - hits + 1, limit) <= 1 - confidence

    low, high = 0, total
    while not tells(high):
        low, high = high, high * 2
        if high > _MOST_REQUESTS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if tells(middle) else (middle, high)
    return high
