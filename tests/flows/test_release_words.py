"""What a list of releases says of each, and what tells two of them apart."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from flows.console_releases import differences_tables
from flows.folder import WorkspaceFolder
from flows.page import write
from flows.release_words import Difference, headlines, release_differences
from flows.report import Report
from infra.manifest import ReleaseNotFoundError
from infra.releases import ReleaseStore

ONE = """\
name: shop
tasks: [{name: buy, kind: binary}, {name: churn, kind: binary}]
ranking: {gbdt: {rounds: 300}}
"""
OTHER = """\
name: shop
tasks: [{name: churn, kind: binary}, {name: buy, kind: binary, items: 'kind == "x"'}]
ranking: {gbdt: {rounds: 100}, rules: {discovery: {every: 10}}}
"""


@pytest.fixture
def folder(tmp_path: Path, sample_report: Report) -> WorkspaceFolder:
    """Release `one` was evaluated, `other` too but for its rankings, `third` is a copy of `one` and never was."""
    found = WorkspaceFolder(folder=tmp_path)
    store = ReleaseStore(found.releases)
    for name, document, encoder in (("one", ONE, "e1"), ("other", OTHER, "e1"), ("third", ONE, "e2")):
        as_of = datetime(2024, 1 if name == "one" else 2, 1, tzinfo=UTC)
        with store.create(name, as_of=as_of, metadata={"encoder": encoder}) as writer:
            (writer.path / "workspace.yaml").write_text(document)
    write(sample_report, found.reports / "one")
    write(sample_report.model_copy(update={"rankings": ()}), found.reports / "other")
    return found


def test_headlines_are_the_first_metrics(folder: WorkspaceFolder) -> None:
    # NDCG of all items and of new ones, then the first tasks on texts.
    assert headlines(folder, "one")[:2] == ("NDCG 0.4203, of new items 0.0471", "intent accuracy 0.9100")
    assert headlines(folder, "other")[0] == "intent accuracy 0.9100"
    assert headlines(folder, "third") == ()


def differences(folder: WorkspaceFolder, first: str, second: str, section: str) -> dict[str, tuple[str, str]]:
    found = release_differences(folder, first, second)
    return {row.what: (row.first, row.second) for row in found if row.section == section}


def test_what_differs_is_named_by_its_path(folder: WorkspaceFolder) -> None:
    """Tasks go by their names, so that their order tells nothing."""
    assert differences(folder, "one", "other", "configuration") == {
        "tasks.buy.items": ("–", 'kind == "x"'),
        "ranking.gbdt.rounds": ("300", "100"),
        "ranking.rules.discovery.every": ("–", "10"),
    }
    assert differences(folder, "one", "third", "configuration") == {}
    made = differences(folder, "one", "third", "release")
    assert made["encoder"] == ("e1", "e2")
    assert made["as of"] == made["models have seen data until"] == ("2024-01-01", "2024-02-01")
    assert "encoder" not in differences(folder, "one", "other", "release")


def test_metrics_of_both_reports_stand_beside_each_other(folder: WorkspaceFolder) -> None:
    assert differences(folder, "one", "other", "report")["NDCG@10, all eligible items"] == ("0.4203", "–")
    assert "purchase, AUC" not in differences(folder, "one", "other", "report")
    assert differences(folder, "one", "third", "report")["purchase, AUC"] == ("0.8600", "–")


def test_an_unknown_release_is_an_error(folder: WorkspaceFolder) -> None:
    with pytest.raises(ReleaseNotFoundError, match="known: one, other, third"):
        release_differences(folder, "one", "two")


def test_the_terminal_has_a_table_of_each_section() -> None:
    rows = [
        Difference(section="configuration", what="name", first="[a]", second="b"),
        Difference(section="report", what="AUC", first="0.8", second="0.9"),
    ]
    out = io.StringIO()
    console = Console(file=out, width=80)
    for table in differences_tables("one", "other", rows):
        console.print(table)
    text = " ".join(out.getvalue().split())
    assert text.index("Configuration") < text.index("[a]") < text.index("Report") < text.index("own evaluation")
