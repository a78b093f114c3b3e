"""The terminal's version: plain lines without a terminal, a spinner on one, every section of the report."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from rich.console import Console

from flows.console import render_console
from flows.console_releases import releases_table
from flows.report import Report
from flows.stage_lines import Stages
from infra.releases import ReleaseInfo


def plain_console(width: int = 160) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=width, color_system=None), out


def test_plain_lines_without_a_terminal() -> None:
    console, out = plain_console()
    stages = Stages(console)
    with stages.stage("features") as note:
        note.text = "2,469 users [all]"
        with stages.stage("history"):
            pass
    assert [re.sub(r"\d\.\d s", "N s", line) for line in out.getvalue().splitlines()] == [
        "... features",
        "  ... history",
        "  ✓ history N s",
        "✓ features 2,469 users [all] N s",
    ]


def test_failed_stage_says_so_and_the_error_passes() -> None:
    console, out = plain_console()
    stages = Stages(console)
    with pytest.raises(KeyError), stages.stage("index"):
        raise KeyError("x")
    with stages.stage("again"):
        pass
    assert "✗ index" in out.getvalue()
    assert "\n✓ again" in out.getvalue()  # the depth is back at the left margin


def test_spinner_on_a_terminal_leaves_one_line_per_stage() -> None:
    out = io.StringIO()
    stages = Stages(Console(file=out, width=80, force_terminal=True, color_system=None))
    with stages.stage("outer"), stages.stage("inner"):
        pass
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert text.count("✓ outer") == 1
    assert text.count("✓ inner") == 1


def test_every_section_is_printed(sample_report: Report) -> None:
    console, out = plain_console()
    render_console(sample_report, console)
    text = out.getvalue()
    for heading in (
        "Ranking, all eligible items", "Ranking, never bought before",
        "Retrieval, all purchases", "Retrieval, items never bought before", "Tasks, held-out rows", "log loss",
        "Tasks on texts, held out", "Classes taken for others",
        "Replies to held-out texts", "Other thresholds",
        "Groups, observed differences",
        "Index against exact search", "What was known when", "Data at the door", "User 1228", "Stages", "Try next",
    ):  # fmt: skip
        assert heading in text
    assert "0.4203 0.4113 to 0.4293" in text
    assert "+0.0145 0.0096 to 0.0194" in text
    assert re.search(r"churn, age +AUC +25-34 0.700 +35-44 0.780 +0.080 0.050 to 0.110", text)
    assert re.search(r"churn, age +selected +– +– +–", text)
    assert re.search(r"items, brand +exposure@10 less relevance +Private -0.050 +National 0.050 +0.100", text)
    assert re.search(r"merged +0.3300 0.3260 to 0.3340 +0.4520 0.4480 to 0.4560", text)
    assert "<b>BREAD</b> & rolls ✓ bought" in text
    assert "12,043" in text
    assert re.search(r"template +440 +0.550 +420 +0.900 0.860 to 0.940 +0.800 0.760 to 0.840", text)
    assert re.search(r"hand_over +200 +0.250 +– +– +–", text)
    assert "57 handed over by mistake, 1 lacked a slot" in text
    assert re.search(r"similarity 0.45 ● +0.200 +140 +0.700", text)


def test_the_current_release_stands_beside_this_one(sample_report: Report) -> None:
    console, out = plain_console(width=80)
    render_console(sample_report, console)
    text = out.getvalue()
    assert "Beside the current release 20171106T000000Z-77aa01" in text
    assert re.search(r"NDCG@10 +0.4100 +0.4203 +\+0.0103 0.0063 to 0.0143 +better", text)
    assert re.search(r"purchase, log loss +0.0430 +0.0440 +\+0.0010 0.0008 to 0.0012 +worse", text)
    assert re.search(r"Recall@10 +0.1121 +0.1121 +\+0.0000 0.0000 to 0.0000 +undecided", text)


def test_a_void_comparison_says_why(sample_report: Report) -> None:
    assert sample_report.beside is not None
    void = sample_report.beside.model_copy(update={"void": "it has seen [later] data", "rows": ()})
    console, out = plain_console()
    render_console(sample_report.model_copy(update={"beside": void}), console)
    assert "current release 20171106T000000Z-77aa01: it has seen [later] data" in out.getvalue()


def test_narrow_terminal_keeps_numbers_and_commands_whole(sample_report: Report) -> None:
    console, out = plain_console(width=80)
    render_console(sample_report, console)
    assert "polyrank serve -w workspaces/demo\n" in out.getvalue()
    assert "0.4203" in out.getvalue()
    assert "similarity 0.45 ●  0.200     140  0.700 0.660 to 0.740  0.600 0.560 to 0.640\n" in out.getvalue()


def test_brackets_in_a_title_are_text(sample_report: Report) -> None:
    user = sample_report.examples[0]
    pick = user.recommendations[0].model_copy(update={"title": "[red]MILK[/red] [/]"})
    odd = user.model_copy(update={"recommendations": (pick,), "summary": "[bold]"})
    console, out = plain_console()
    render_console(sample_report.model_copy(update={"examples": (odd,)}), console)
    assert "[red]MILK[/red] [/]" in out.getvalue()


def test_release_names_are_whole_in_80_columns() -> None:
    console, out = plain_console(width=80)
    made = datetime(2017, 12, 4, 11, 30, tzinfo=UTC)
    parent = ReleaseInfo(
        release_id="20171204-65df8e8be6d3",
        created_at=made,
        parent=None,
        as_of=made,
        total_bytes=418_000_000,
        current=True,
        previous=False,
    )
    child = replace(
        parent, release_id="20180101-59dcd4589e2b", parent=parent.release_id, total_bytes=2_000_000_000, current=False
    )
    console.print(releases_table([child, parent], {child.release_id: ["NDCG 0.4203, of new items 0.0471"]}))
    lines = out.getvalue().splitlines()
    assert max(len(line) for line in lines) <= 80
    assert [line.split()[0] for line in lines if line.startswith("20")] == [child.release_id, parent.release_id]
    # Metrics leave the dates their room.
    assert out.getvalue().count("2017-12-04 11:30") == 4
    assert [line.split()[:2] for line in lines if "from" in line] == [["from", parent.release_id]]
    assert "2.0 GB" in out.getvalue()
    assert "418 MB" in out.getvalue()
