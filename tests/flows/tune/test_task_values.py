"""Task values: by hand on made-up errors, and through the real stack on every subset of three tasks."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from flows.report import Figure
from flows.task_values import SubsetRuns, target_values, task_values
from flows.tune.runs import StudyBusyError, exclusive
from flows.tune.value_report import TaskValuesReport, render_values, render_values_page
from infra.errors import InvalidInputError
from retrieval.encoder.trial import Quality
from tests.flows.page_reader import assert_fit_to_be_mailed

MOMENT = datetime(2024, 1, 1, tzinfo=UTC)


def runs(errors: dict[str, dict[str, float]]) -> SubsetRuns:
    """Errors by subset, written as its letters."""
    qualities = {
        frozenset(subset): {
            task: Quality(metric="auc", value=1 - error, error=error, loss=1.0) for task, error in own.items()
        }
        for subset, own in errors.items()
    }
    return SubsetRuns(qualities=qualities)


ERRORS = runs(
    {
        "a": {"a": 0.4}, "b": {"b": 0.2}, "c": {"c": 0.5},
        "ab": {"a": 0.3, "b": 0.25}, "ac": {"a": 0.4, "c": 0.5}, "bc": {"b": 0.2, "c": 0.4},
        "abc": {"a": 0.2, "b": 0.2, "c": 0.3},
    }
)  # fmt: skip


def test_values_for_one_task_by_hand() -> None:
    found = target_values("a", ("a", "b", "c"), [ERRORS])
    # v() = 0, v(b) = (.4 - .3) / .4 = .25, v(c) = 0, v(bc) = (.4 - .2) / .4 = .5.
    # b: (.25 - 0 + .5 - 0) / 2 = .375; c: (0 - 0 + .5 - .25) / 2 = .125.
    assert {task: value.value for task, value in found.helpers.items()} == pytest.approx({"b": 0.375, "c": 0.125})
    assert found.together.value == pytest.approx(0.5)
    assert found.alone.value == 0.4
    assert found.metric == "auc"


def test_the_mean_gain_of_a_subset_by_hand() -> None:
    assert ERRORS.mean_gain(frozenset()) == 0
    assert ERRORS.mean_gain(frozenset("a")) == 0
    # a gains .25, b loses .25.
    assert ERRORS.mean_gain(frozenset("ab")) == pytest.approx(0)
    # .5, 0 and (.5 - .3) / .5 = .4.
    assert ERRORS.mean_gain(frozenset("abc")) == pytest.approx(0.3)


def test_every_subset_is_trained_once_and_the_values_add_up(shop: Path) -> None:
    out = io.StringIO()
    console = Console(file=out, width=200, color_system=None)
    task_values(str(shop), seeds=1, console=console)
    # 2^3 - 1 subsets.
    assert out.getvalue().count("seed 1: ") == 7
    (path,) = (shop / ".polyrank" / "task_values").glob("study-*/runs.jsonl")
    path.write_bytes(path.read_bytes()[:-30])
    out.truncate(0)
    report = task_values(str(shop), seeds=2, console=console)
    assert (out.getvalue().count("seed 1: "), out.getvalue().count("seed 2: ")) == (1, 7)
    assert path.read_text().count("\n") == 14

    for row in report.targets:
        assert sum(value.value for value in row.helpers.values()) == pytest.approx(row.together.value)
        assert row.together.n == 2
    assert sum(value.value for value in report.whole.values()) == pytest.approx(report.mean_gain.value)
    together = sum(row.together.value for row in report.targets) / 3
    assert report.mean_gain.value == pytest.approx(together)
    assert report.matrix[0][0] is None
    assert report.matrix[0][1] == pytest.approx(100 * report.targets[1].helpers["purchase"].value)
    assert TaskValuesReport.model_validate_json((path.parent / "report.json").read_bytes()) == report
    page = (path.parent / "report.html").read_text()
    assert_fit_to_be_mailed(page)
    assert page.count("<svg") == 2

    # Other tasks of the same workspace find their runs.
    out.truncate(0)
    pair = task_values(str(shop), seeds=2, tasks=["churn", "purchase"], console=console)
    assert "seed" not in out.getvalue()
    assert pair.tasks == ("purchase", "churn")
    render_values(pair, console)
    assert "Shapley values over every subset, 2 seeds" in out.getvalue()
    with exclusive(path.parent), pytest.raises(StudyBusyError):
        task_values(str(shop), seeds=2)


def test_the_page_tells_help_from_harm() -> None:
    whole = {
        "a": Figure(value=0.1, low=0.05, high=0.15, n=2),
        "b": Figure(value=-0.1, low=-0.15, high=-0.05, n=2),
        "c": Figure(value=0.01, low=-0.1, high=0.12, n=2),
    }
    report = TaskValuesReport(
        workspace="shop", as_of=MOMENT, created_at=MOMENT, folder="study", seeds=(1, 2), whole=whole,
        mean_gain=Figure(value=0.01, n=2), targets=tuple(target_values(task, tuple("abc"), [ERRORS]) for task in "abc"),
    )  # fmt: skip
    bars = render_values_page(report).split('aria-label="Worth of each task to all"')[1].split("</svg>", maxsplit=1)[0]
    assert re.findall(r'style="fill: var\((--[a-z0-9-]+)\)"', bars) == ["--quiet", "--series-4", "--accent"]


def test_a_parent_comes_with_its_child(shop: Path) -> None:
    content = yaml.safe_load((shop / "polyrank.yaml").read_text())
    child = {**content["tasks"][0], "name": "again", "parent": "purchase"}
    content["tasks"] = [*content["tasks"][:1], child]
    (shop / "polyrank.yaml").write_text(yaml.safe_dump(content))
    report = task_values(str(shop), seeds=1)
    (path,) = (shop / ".polyrank" / "task_values").glob("study-*/runs.jsonl")
    # Three subsets, of which "again" alone and both are one run.
    assert path.read_text().count("\n") == 2
    purchase, again = report.targets
    assert again.helpers["purchase"].value == 0
    assert purchase.helpers["again"].value == purchase.together.value


def test_more_than_five_tasks_are_refused(shop: Path) -> None:
    content = yaml.safe_load((shop / "polyrank.yaml").read_text())
    content["tasks"] += [{**content["tasks"][1], "name": f"churn{n}"} for n in range(3)]
    (shop / "polyrank.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InvalidInputError, match=r"at most 5 tasks, .* found 6 \(.*churn2\); choose some with --tasks"):
        task_values(str(shop))
    with pytest.raises(InvalidInputError, match="expected at least 1 seed, found 0"):
        task_values(str(shop), seeds=0)
    with pytest.raises(InvalidInputError, match="expected at least 2"):
        task_values(str(shop), tasks=["churn"])
