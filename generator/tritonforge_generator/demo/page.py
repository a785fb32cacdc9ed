"""The demo's result as a report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tritonforge_generator.demo.run import LEAST_ACCURACY, DemoResult
from tritonforge_generator.report import (
    Accuracy,
    Stage,
    model_report_from_generated,
    report_here,
    software,
    write_report,
)
from tritonforge_load.report.page import section_from_result


def write_page(result: DemoResult) -> Path:
    """Write the HTML report of a demo run to ``result.report_path``."""
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
    model = model_report_from_generated(result.generated)
    report = replace(
        report_here(model.name, ["tritonforge", "demo"], software()),
        stages=tuple(Stage(name=name, duration_s=seconds) for name, seconds in result.stage_s.items()),
        models=(model,),
        accuracies=accuracies,
        load=section_from_result(result.load),
    )
    return write_report(report, result.report_path)
