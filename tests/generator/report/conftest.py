from __future__ import annotations

import pytest
from support import reports

from tritonforge_generator.report import RunReport


@pytest.fixture(scope="session")
def report() -> RunReport:
    return reports.full_report()


@pytest.fixture(scope="session")
def failed_report() -> RunReport:
    return reports.failed_report()
