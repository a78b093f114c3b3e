"""What the tests of reports, their pages and their gate share."""

from __future__ import annotations

import pytest

from flows.report import Report
from tests.flows.sample_report import full_report


@pytest.fixture(scope="session")
def sample_report() -> Report:
    """A report with every section filled, in the size of the demo's."""
    return full_report()
