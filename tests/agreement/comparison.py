"""Asks the linter and the server about the same models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from agreement.case import Case
from agreement.cases import write_cases
from agreement.report import Outcome, Report
from agreement.server import Judge, Judgement

from tritonforge_generator.lint import lint_repository
from tritonforge_generator.lint.completed import completed_config
from tritonforge_generator.lint.engine import open_repositories
from tritonforge_generator.lint.host import Host

# The server that the package embeds: it has no GPU and these back-ends.
EMBEDDED: Final = Host(
    release="24.10",
    gpus=0,
    backends=frozenset({"python/libtriton_python.so", "onnxruntime/model.py", "tensorrt/model.py"}),
    agents=frozenset(),
    has_cache=True,
)
# Which library of the back-end the server found depends on where it is installed; the second is newer than server 2.51.
_NOT_COMPARED: Final = frozenset({"runtime", "ensemble_scheduling.max_inflight_requests"})


def compare(cases: Sequence[Case], folder: Path) -> Report:
    """Judge cases by the linter and by two servers, with completion and without, which run side by side.

    Args:
        cases: See ``Case``.
        folder: Where the repositories are written.
    """

    def in_one_mode(strict: bool) -> Report:
        repository = folder / ("strict" if strict else "completing")
        repository.mkdir()
        chosen = [case for case in cases if case.strict == strict]
        write_cases(repository, chosen)
        with Judge(repository, strict=strict) as judge:
            judged = judge.judgements([case.name for case in chosen])
        outcomes = [outcome_of(case, repository, judged[case.name]) for case in chosen]
        return Report(outcomes, judge.deaths, judge.interrupted)

    with ThreadPoolExecutor(2) as pool:
        completing, strict = pool.map(in_one_mode, (False, True))
    return Report(
        [*completing.outcomes, *strict.outcomes],
        completing.deaths + strict.deaths,
        [*completing.interrupted, *strict.interrupted],
    )


def outcome_of(case: Case, repository: Path, judged: Judgement) -> Outcome:
    """Lint a case that the server has judged, and complete its config where the server served one."""
    found = lint_repository(repository, models=[case.name], strict=case.strict, host=EMBEDDED)
    first = next((finding for finding in found if finding.severity == "error"), None)
    differences = None if judged.config is None else _config_differences(case, repository, judged.config)
    return Outcome(case, first, judged, differences)


def _config_differences(case: Case, repository: Path, served: dict[str, Any]) -> tuple[str, ...] | None:
    repositories, (directory,) = open_repositories(repository, models=[case.name], strict=case.strict, host=EMBEDDED)
    completed = completed_config(repositories.read(directory))
    if completed is None:
        return None
    return tuple(path for path in _differing(completed.config, served, "") if path not in _NOT_COMPARED)


def _differing(ours: Any, served: Any, path: str) -> Iterator[str]:
    """Yield the paths of the fields that differ."""
    if isinstance(ours, dict) and isinstance(served, dict):
        for name in sorted({*ours, *served}):
            yield from _differing(ours.get(name), served.get(name), f"{path}.{name}" if path != "" else name)
    elif isinstance(ours, list) and isinstance(served, list) and len(ours) == len(served):
        for index, (left, right) in enumerate(zip(ours, served, strict=True)):
            yield from _differing(left, right, f"{path}[{index}]")
    # The server writes the 64-bit numbers of an initial state as texts.
    elif ours != served and str(ours) != served:
        yield path
