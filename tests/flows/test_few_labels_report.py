"""Pseudo-labels in the report: what was taken, and how often such was right where it could be told."""

from __future__ import annotations

import pytest
from rich.console import Console

from flows.console import render_console
from flows.page import render_page
from flows.report import Report
from retrieval.encoder.labels.report import (
    Agreement,
    ClassReport,
    FewLabelsReport,
    PseudoLabelReport,
    TaskPseudoLabels,
    wilson_lower,
)


@pytest.fixture
def report(sample_report: Report) -> Report:
    """One class was right in 49 of 50 held-out texts; of the other none was held out."""
    known = Agreement(rows=50, right=49, share=0.98, at_least=wilson_lower(49, 50))
    unknown = Agreement(rows=0, right=0, share=None, at_least=0)
    classes = (
        ClassReport(name="deliver<y>", threshold=0.95, above=1300, taken=1234, held_out=known),
        ClassReport(name="refund", threshold=0.7, above=5, taken=5, held_out=unknown),
    )
    found = PseudoLabelReport(unlabelled=2000, taken=1239, held_out=known, classes=classes)
    few = FewLabelsReport(pseudo=(TaskPseudoLabels(task="intent", judge="prompt", found=found),))
    assert sample_report.training is not None
    return sample_report.model_copy(update={"training": sample_report.training.model_copy(update={"few_labels": few})})


def _printed(report: Report) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        render_console(report, console)
    return capture.get()


def test_the_terminal_shows_each_class(report: Report, sample_report: Report) -> None:
    lines = [line.split() for line in _printed(report).splitlines()]
    # (49/50 + z2/100 - z sqrt(.98 x .02 / 50 + z2 / 10,000)) / (1 + z2/50) with z2 = 3.8416: .9638 / 1.0768 = .895.
    assert ["intent,", "deliver<y>", "prompt", "0.95", "1,234", "49", "/", "50", "0.90"] in lines
    assert ["intent,", "refund", "prompt", "0.70", "5", "–", "0.00"] in lines
    assert "Pseudo-labels" not in _printed(sample_report)


def test_the_page_shows_each_class(report: Report, sample_report: Report) -> None:
    page = render_page(report)
    assert "Pseudo-labels of intent, by its prompt: 1,239 of 2,000 texts." in page
    row = (
        '<th scope="row">deliver&lt;y&gt;</th><td class="num">0.95</td><td class="num">1,234</td>'
        '<td class="num">49 / 50</td><td class="num">0.90</td>'
    )
    assert row in page
    assert "Pseudo-labels" not in render_page(sample_report)


def test_the_report_comes_back_from_its_file(report: Report) -> None:
    assert Report.model_validate_json(report.model_dump_json()) == report
