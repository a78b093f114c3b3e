"""What publishing holds a release against: nothing where nothing is current, and what a flag leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.gate import GateError
from flows.page import write
from flows.publish import NoReleaseError, check_release
from flows.report import Report
from flows.workspace import Workspace
from infra.releases import ReleaseStore

FILE = """\
name: shop
source:
  type: tables
  items: {type: csv, path: items.csv}
  events: {type: csv, path: events.csv}
texts: {title: "{title}", item: "{title}"}
tasks:
  - {name: purchase, kind: binary, on: pair, label: {type: event, event: purchase}}
gate: {not_worse_than_current: {metrics: [ndcg, auc.purchase]}}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Of two releases without a report."""
    (tmp_path / "polyrank.yaml").write_text(FILE)
    found = Workspace.load(tmp_path)
    for name in ("one", "other"):
        with ReleaseStore(found.releases).create(name):
            pass
    return found


def test_a_first_release_is_compared_with_none(workspace: Workspace) -> None:
    assert check_release(workspace, "one") is None


def test_the_current_release_may_be_published_again(workspace: Workspace) -> None:
    ReleaseStore(workspace.releases).publish("one")
    assert check_release(workspace, "one") == "one"


def test_a_second_release_needs_a_report_that_shows_it_is_no_worse(workspace: Workspace, sample_report: Report) -> None:
    ReleaseStore(workspace.releases).publish("one")
    with pytest.raises(NoReleaseError, match="`polyrank evaluate other` makes one"):
        check_release(workspace, "other")
    assert sample_report.beside is not None
    beside = sample_report.beside.model_copy(update={"release_id": "one"})
    # Its AUC of purchase is worse.
    report = sample_report.model_copy(update={"release_id": "other", "beside": beside})
    write(report, workspace.reports / "other")
    with pytest.raises(GateError, match=r"auc\.purchase: expected no worse than the current release one"):
        check_release(workspace, "other")
    assert check_release(workspace, "other", without_comparison=True) == "one"
