from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load.made_results import bare_result, made_result

from tritonforge_load.measure import CampaignResult, GateResult
from tritonforge_load.report.junit import RAN, VALID, junit_from_result

REQUIRED = {"name", "timestamp", "hostname", "tests", "failures", "errors", "time", "id", "package"}
VERDICTS = ("pass", "fail", "invalid", "inconclusive")


def check_schema(root: ET.Element) -> None:
    """The rules that JUnit.xsd (Windy Road) and junit-10.xsd (Jenkins) both have."""
    assert (root.tag, root.attrib) == ("testsuites", {})
    for number, suite in enumerate(root):
        assert suite.tag == "testsuite"
        assert REQUIRED <= set(suite.attrib) <= REQUIRED | {"skipped"}
        assert suite.get("id") == str(number)
        assert suite.get("name") != ""
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
        assert re.fullmatch(r"\d+\.\d+", suite.attrib["time"])
        tags = [child.tag for child in suite]
        assert tags == ["properties", *["testcase"] * (len(tags) - 3), "system-out", "system-err"]
        cases = suite.findall("testcase")
        assert int(suite.attrib["tests"]) == len(cases)
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.attrib[attribute]) == len(suite.findall(f"testcase/{tag}"))
        assert sum(float(case.attrib["time"]) for case in cases) == pytest.approx(float(suite.attrib["time"]))
        for case in cases:
            assert set(case.attrib) == {"name", "classname", "time"}
            assert [child.tag for child in case] in ([], ["failure"], ["error"], ["skipped"])
            assert all(set(child.attrib) == {"message", "type"} and len(child) == 0 for child in case)


def root_of(result: CampaignResult) -> ET.Element:
    root = ET.fromstring(junit_from_result(result).encode())
    check_schema(root)
    return root


def outcomes(root: ET.Element) -> dict[tuple[str, str], str]:
    return {
        (case.attrib["classname"], case.attrib["name"]): case[0].tag if len(case) else "passed"
        for case in root.iter("testcase")
    }


def test_every_gate_and_phase_is_a_test() -> None:
    assert outcomes(root_of(made_result())) == {
        ("digits", RAN): "passed",
        ("digits.single", VALID): "passed",
        ("digits.single", "p99.9 < 8ms"): "skipped",
        ("digits.steady", VALID): "passed",
        ("digits.steady", "p99(small) < 25ms"): "passed",
        ("digits.steady", "errors < 0.1%"): "passed",
        ("digits.burst", VALID): "error",
        ("digits.burst", "shed < 0.1%"): "error",
        ("digits.peak", VALID): "passed",
        ("digits.peak", "max_rate >= 900/s"): "failure",
    }


def test_reasons_are_told() -> None:
    told = {
        child.attrib["message"]: (child.tag, child.text)
        for case in root_of(made_result()).iter("testcase")
        for child in case
    }
    reason = "800/s is not >= 900/s"
    assert told[reason] == ("failure", reason)
    assert "3.1 ms of 4,100 requests; 503 more are needed" in told


def test_an_invalid_measurement_is_never_all_green() -> None:
    problems = root_of(replace(bare_result(), problems=("1 of 2 load generators died",)))
    assert outcomes(problems)["bare", RAN] == "error"
    (run,) = bare_result().phases[0].runs
    phase = replace(bare_result().phases[0], runs=(replace(run, invalid=("slip",)),))
    assert outcomes(root_of(replace(bare_result(), phases=(phase,))))["bare.main", VALID] == "error"


@given(
    st.lists(st.tuples(st.sampled_from(VERDICTS), st.text(), st.sampled_from(["main", "never played"])), max_size=6),
    st.booleans(),
)
def test_ci_is_red_just_when_the_campaign_is(
    gates: list[tuple[Literal["pass", "fail", "invalid", "inconclusive"], str, str]], is_spoiled: bool
) -> None:
    judged = tuple(
        GateResult(phase, f"gate {n} {words}", verdict, None, words) for n, (verdict, words, phase) in enumerate(gates)
    )
    result = replace(bare_result(), gates=judged, problems=("died",) if is_spoiled else ())
    root = root_of(result)
    red = sum(int(suite.attrib["failures"]) + int(suite.attrib["errors"]) for suite in root)
    skipped = sum(int(suite.attrib["skipped"]) for suite in root)
    assert (red > 0) == (result.verdict in {"fail", "invalid"})
    assert len(list(root.iter("testcase"))) == 2 + len(gates)
    if result.verdict == "inconclusive":
        assert skipped > 0


def test_letters_that_xml_cannot_hold_are_replaced() -> None:
    gate = GateResult("main", "p99 < 1ms & <b>", "fail", None, 'a\x00b\x1b[31m\ud800 "c" ]]> \N{GRINNING FACE}\n')
    document = junit_from_result(replace(bare_result(), gates=(gate,)))
    (failure,) = ET.fromstring(document).iter("failure")
    assert failure.attrib["message"] == 'a\ufffdb\ufffd[31m\ufffd "c" ]]> \N{GRINNING FACE}\n'
    assert document.encode("utf-8").startswith(b'<?xml version="1.0" encoding="UTF-8"?>')


def test_a_result_without_a_moment_still_fits() -> None:
    root = root_of(replace(bare_result(), started_at=""))
    assert {suite.attrib["timestamp"] for suite in root} == {"1970-01-01T00:00:00"}
