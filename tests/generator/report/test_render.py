from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support import reports
from support.benches import full_bench
from support.pages import cells_of, outline_of

from tritonforge_client.extras import MissingExtraError
from tritonforge_generator.report import (
    Accuracy,
    ModelReport,
    RunReport,
    Section,
    Stage,
    render_report,
    write_report,
)
from tritonforge_generator.verify.verification import Check
from tritonforge_load.report.page import section_from_result

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>$\\frac{1}{$'


def test_is_well_formed_and_stands_alone(report: RunReport) -> None:
    document = render_report(report)
    outline = outline_of(document)

    assert document.startswith("<!DOCTYPE html>")
    assert "script" not in outline.tags
    assert len(outline.ids) == len(set(outline.ids))
    assert [link for link in outline.links if not link.startswith(("#", "data:,"))] == []
    assert {link[1:] for link in outline.links if link.startswith("#")} <= set(outline.ids)
    assert re.search(r"@import|url\((?!#)", document) is None
    assert "#0101" not in document  # a placeholder colour that was not replaced


def test_models_follow_each_other_under_a_table_of_them(report: RunReport) -> None:
    planned = reports.planned_model()
    document = render_report(replace(report, models=(*report.models, planned)))
    outline = outline_of(document)

    assert len(outline.ids) == len(set(outline.ids))
    assert {"#model-1", "#model-2"} <= {link for link in outline.links if link[1:] in outline.ids}
    digits, fp16 = cells_of(document, "Models")
    assert (digits[0], digits[4], digits[5]) == ("digits", "as in the file", "4 of 4")
    assert fp16[0] == "digits_fp16"
    assert fp16[2:] == ["published as version 1", "tensorrt", "FP16", "4 of 4", "50.3 MB", "1 min 24 s"]
    assert re.findall(r"<h3 class=.part.[^>]*>([^<]*)", document)[-5:] == [
        *("What was generated, and why", "Precision", "The TensorRT plan", "The model file", "How long it took")
    ]


def test_a_failure_among_several_models_names_its_model(report: RunReport) -> None:
    bad = ModelReport(name="bad", checks=(Check(name="gate", passed=False, summary="no"),))
    assert replace(report, models=(*report.models, bad)).failures == ("bad: gate: no",)
    assert replace(report, models=(bad,)).failures == ("gate: no",)


def test_is_the_same_every_time(report: RunReport) -> None:
    assert render_report(report) == render_report(report)


def test_says_the_verdict_and_the_figures(report: RunReport) -> None:
    document = render_report(report)

    assert report.passed is True
    assert "<title>digits: passed</title>" in document
    for words in ("99.17%", "[batch, 1, 8, 8]", "a client&#39;s deadline shortens the wait", "QueueFull 6"):
        assert words in document
    assert "all together in peak" in document.partition("<main>")[0]


def test_failures_come_first(failed_report: RunReport) -> None:
    document = render_report(failed_report)

    assert failed_report.passed is False
    assert failed_report.failures == (
        "the server's rules: C6: preferred_batch_size is above max_batch_size",
        "worker 2 died; its requests are missing",
        "p99(one image) < 1ms in steady: 2.2 ms is not < 1 ms (12,000 requests)",
    )
    assert document.index("p99(one image) &lt; 1ms in steady") < document.index("<main>")
    assert "<title>digits: failed</title>" in document


@pytest.mark.parametrize(
    "spoil",
    [
        {"models": (ModelReport(name="m", checks=(Check(name="gate", passed=False, summary="no"),)),)},
        {"accuracies": (Accuracy(via="gRPC", correct=1, total=2, passed=False),)},
        {"load": Section(html="", judged=True, failures=("worker 2 died",))},
    ],
    ids=["check", "accuracy", "problem"],
)
def test_one_failure_alone_fails_the_run(report: RunReport, spoil: dict[str, object]) -> None:
    assert replace(report, **spoil).passed is False  # type: ignore[arg-type]  # one field of each type


def test_a_reference_alone_is_no_verdict() -> None:
    report = RunReport(
        title="m", command="c", started_at="now", tool="t", accuracies=(Accuracy(via="ORT", correct=1, total=2),)
    )

    assert report.passed is None
    assert "Passed" not in render_report(report)
    assert "Failed" not in render_report(report)


def test_absent_data_leaves_no_blank() -> None:
    document = render_report(RunReport(title="bare", command="tritonforge", started_at="now", tool="tritonforge 1"))

    assert "<section" not in document
    assert "<table" not in document
    assert "<svg" not in document
    assert "<dl" not in document
    outline_of(document)


@pytest.mark.parametrize(
    ("field", "heading"),
    [
        ("accuracies", "Served accuracy"),
        ("load", "Load test"),
    ],
)
def test_each_section_stands_alone(report: RunReport, field: str, heading: str) -> None:
    bare = RunReport(title="bare", command="tritonforge", started_at="now", tool="tritonforge 1")
    value = getattr(report, field)
    document = render_report(replace(bare, **{field: value}))

    assert re.findall(r"<h2[^>]*>([^<]*)", document) == [heading]
    outline_of(document)


@pytest.mark.parametrize(
    ("field", "heading"),
    [
        ("graph", "The model file"),
        ("config_text", "What was generated"),
        ("checks", "Verification"),
        ("typed", "Precision"),
        ("plan", "The TensorRT plan"),
        ("stages", "How long it took"),
    ],
)
def test_each_section_of_a_model_stands_alone(field: str, heading: str) -> None:
    model = replace(ModelReport(name="bare"), **{field: getattr(reports.planned_model(), field)})
    bare = RunReport(title="bare", command="tritonforge", started_at="now", tool="tritonforge 1", models=(model,))
    document = render_report(bare)

    assert [found for found in re.findall(r"<h2[^>]*>([^<]*)", document) if heading in found] != []
    assert document.count("<section") == 1
    outline_of(document)


def test_stages_of_no_length_are_drawn() -> None:
    stages = (Stage(name="graph", duration_s=0.0),)
    document = render_report(RunReport(title="m", command="c", started_at="now", tool="t", stages=stages))
    assert "width: 0.00%" in document


def test_hostile_names_are_text(report: RunReport) -> None:
    result = reports.campaign_result()
    hostile_phase = reports.closed_phase(HOSTILE, 1, {HOSTILE: reports.recorded(seconds=1, rate_per_s=9, median_ms=1)})
    load = section_from_result(
        replace(result, campaign=HOSTILE, target=HOSTILE, phases=(hostile_phase, *result.phases), problems=(HOSTILE,))
    )
    planned = reports.planned_model()
    assert planned.plan is not None
    layer = replace(planned.plan.layers[0], name=HOSTILE, kind=HOSTILE, tactic=HOSTILE, nodes=(HOSTILE,))
    model = replace(
        planned,
        name=HOSTILE,
        outcome=HOSTILE,
        config_text=f'name: "{HOSTILE}"  # {HOSTILE}\n',
        checks=(Check(name=HOSTILE, passed=False, summary=HOSTILE),),
        plan=replace(planned.plan, layers=(layer,)),
    )
    hostile = replace(
        report,
        title=HOSTILE,
        command=HOSTILE,
        tool=HOSTILE,
        models=(model, replace(model, typed=None, plan=None)),
        load=load,
    )

    outline = outline_of(render_report(hostile))

    assert "script" not in outline.tags
    assert "img" not in outline.tags


def test_writes_whole_or_not_at_all(report: RunReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_report(report, tmp_path / "new" / "report.html")
    before = path.read_text(encoding="utf-8")
    assert before == render_report(report)
    assert path.stat().st_mode & 0o777 == 0o644

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(replace(report, title="other"), path)

    assert path.read_text(encoding="utf-8") == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_names_the_extra_that_is_missing(report: RunReport, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tritonforge\[report\]'"):
        render_report(replace(report, bench=full_bench()))
