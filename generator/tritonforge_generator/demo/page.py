"""The demo's result as a report."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from datetime import datetime
from importlib import metadata
from pathlib import Path

from tritonforge_generator.demo.run import LEAST_ACCURACY, DemoResult
from tritonforge_generator.made import package_versions
from tritonforge_generator.report import Accuracy, Fact, RunReport, Stage, load_report_from_campaign, write_report


def write_page(result: DemoResult) -> Path:
    """Write the HTML report of a demo run to ``result.report_path``."""
    generated = result.generated
    reference = next(iter(result.accuracy.values()))
    accuracies = tuple(
        Accuracy(
            via=via,
            correct=round(share * result.images),
            total=result.images,
            passed=None if index == 0 else share == reference >= LEAST_ACCURACY,
        )
        for index, (via, share) in enumerate(result.accuracy.items())
    )
    report = RunReport(
        title=generated.version.folder.name,
        command="tritonforge demo",
        started_at=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        tool=f"tritonforge {metadata.version('tritonforge')}",
        environment=tuple(_environment()),
        stages=tuple(Stage(name=name, duration_s=seconds) for name, seconds in result.stage_s.items()),
        graph=generated.graph,
        config_text=generated.config.text,
        checks=generated.verification.checks,
        accuracies=accuracies,
        load=load_report_from_campaign(result.load),
    )
    return write_report(report, result.report_path)


def _environment() -> Iterator[Fact]:
    yield Fact(label="Machine", value=f"{platform.system()} {platform.machine()}, {len(os.sched_getaffinity(0))} cores")
    yield Fact(label="Python", value=platform.python_version())
    for package, version in package_versions().items():
        yield Fact(label=package, value=version)
