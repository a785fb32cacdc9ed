"""Whether the load generator, not the server, was the limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tritonforge_load.campaign.file import Validity
from tritonforge_load.campaign.quantities import texts_apart
from tritonforge_load.measure.results import RunResult

MOST_CLOCK_ERROR_S: Final = 0.05
"""How far the workers of a run may begin apart."""


def invalid_reasons(run: RunResult, validity: Validity) -> tuple[str, ...]:
    """Why a run says nothing about the server: the generator did not do what it should have done.

    That nothing was answered is no such reason. What is not known, such as the CPU of a generator that did not tell, is
    none either.

    Args:
        run: What was measured, and how the generator fared.
        validity: The bounds.

    Returns:
        Reasons, each with what was seen, the bound and what to do; empty for a valid run.
    """
    return tuple(_reasons(run, validity))


def _reasons(run: RunResult, validity: Validity) -> Iterator[str]:
    generator, total = run.generator, run.total
    if generator.workers_lost > 0:
        lost, workers = generator.workers_lost, generator.workers
        yield f"{lost} of {workers} workers of the load generator were lost: see their output"
    if generator.clock_error_s > MOST_CLOCK_ERROR_S:
        error_ms, bound_ms = texts_apart(generator.clock_error_s * 1e3, MOST_CLOCK_ERROR_S * 1e3)
        yield f"the workers may have begun {error_ms} ms apart, more than {bound_ms} ms: mend their network"
    if generator.scheduled:
        sent = total.sent + total.shed
        if sent < validity.achieved * generator.scheduled:
            share, bound = texts_apart(sent / generator.scheduled * 100, validity.achieved * 100, 4)
            due = f"{sent:,} of {generator.scheduled:,} requests due"
            yield f"{share} % of the load was sent, less than {bound} % ({due}): add workers"
    # Not a number, for a closed phase, is not late.
    slip_s = total.slip_ms(99.0) / 1e3
    if slip_s >= validity.slip_p99_s:
        slip_ms, bound_ms = texts_apart(slip_s * 1e3, validity.slip_p99_s * 1e3)
        yield f"requests were sent {slip_ms} ms late (p99), not below {bound_ms} ms: add workers or free the host"
    if generator.cpu_share is not None and generator.cpu_share >= validity.generator_cpu:
        share, bound = texts_apart(generator.cpu_share * 100, validity.generator_cpu * 100)
        yield f"the busiest load generator took {share} % of its core, not below {bound} %: add workers"
