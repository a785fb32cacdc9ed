"""Verdicts as JUnit XML, which CI systems show: one test a gate and phase.

There is no standard; what is written fits both schemas that tools check against: ``junit-10.xsd`` of Jenkins' xUnit
plug-in (https://github.com/jenkinsci/xunit-plugin) and that of Apache Ant's JUnit task
(https://github.com/windyroad/JUnit-Schema).

====================  ==============
verdict               in JUnit
====================  ==============
pass                  a test case
fail                  ``<failure>``
inconclusive          ``<skipped>``
invalid               ``<error>``
====================  ==============

Beside its gates a phase has the test ``the measurement is valid``, and the campaign the test ``ran as declared``, so
that no invalid measurement passes for want of a gate.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tritonforge_load.measure import CampaignResult, Verdict

VALID: Final = "the measurement is valid"
RAN: Final = "ran as declared"

_ELEMENTS: Final[dict[Verdict, str]] = {"fail": "failure", "inconclusive": "skipped", "invalid": "error"}
_UNKNOWN_TIME: Final = "1970-01-01T00:00:00"  # the schemas want one
# Characters that XML 1.0 has no way to write (https://www.w3.org/TR/xml/#charsets).
_NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class _Test:
    name: str
    verdict: Verdict
    reason: str


def junit_from_result(result: CampaignResult) -> str:
    """Write the verdicts of a result.

    Args:
        result: The result.

    Returns:
        An XML document, with a suite a phase and one for the campaign as a whole.
    """
    root = ET.Element("testsuites")
    problems: Verdict = "invalid" if result.problems else "pass"
    _add_suite(root, result, "", 0.0, [_Test(RAN, problems, "; ".join(result.problems))])
    for phase in result.phases:
        valid = _Test(VALID, "invalid" if phase.invalid else "pass", "; ".join(phase.invalid))
        duration_s = sum(run.duration_s for run in phase.runs)
        _add_suite(root, result, phase.name, duration_s, [valid, *_gates(result, phase.name)])
    played = {phase.name for phase in result.phases}
    for name in dict.fromkeys(gate.phase for gate in result.gates if gate.phase not in played):
        _add_suite(root, result, name, 0.0, _gates(result, name))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _gates(result: CampaignResult, phase: str) -> list[_Test]:
    return [_Test(gate.assertion, gate.verdict, gate.reason) for gate in result.gates if gate.phase == phase]


def _add_suite(root: ET.Element, result: CampaignResult, phase: str, duration_s: float, tests: list[_Test]) -> None:
    verdicts = [test.verdict for test in tests]
    name = f"{result.campaign}.{phase}" if phase else result.campaign
    suite = _element(
        root,
        "testsuite",
        id=str(len(root)),
        package=result.campaign,
        name=name,
        timestamp=_timestamp(result.started_at),
        hostname="localhost",
        tests=str(len(tests)),
        failures=str(verdicts.count("fail")),
        errors=str(verdicts.count("invalid")),
        skipped=str(verdicts.count("inconclusive")),
        time=f"{duration_s:.3f}",
    )
    _element(suite, "properties")
    for number, test in enumerate(tests):
        # The first one stands for the load itself, so that the times of the tests add up to that of the suite.
        time_s = duration_s if number == 0 else 0.0
        case = _element(suite, "testcase", classname=name, name=test.name, time=f"{time_s:.3f}")
        if test.verdict != "pass":
            told = _element(case, _ELEMENTS[test.verdict], message=test.reason, type=test.verdict)
            told.text = _clean(test.reason)
    _element(suite, "system-out")
    _element(suite, "system-err")


def _element(parent: ET.Element, tag: str, **attributes: str) -> ET.Element:
    return ET.SubElement(parent, tag, {name: _clean(value) for name, value in attributes.items()})


def _timestamp(started_at: str) -> str:
    """The moment as both schemas want it: without fractions and time zone."""
    try:
        moment = datetime.fromisoformat(started_at.replace("Z", "+00:00"))  # Python 3.10 does not know the Z
    except ValueError:
        return _UNKNOWN_TIME
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


def _clean(text: str) -> str:
    return _NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", text)
