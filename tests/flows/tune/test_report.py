"""The comparison's figures by hand, and how they are shown."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
import yaml
from rich.console import Console

from flows.tune.console import render_tuning
from flows.tune.finals import compare
from flows.tune.page import format_value, render_page
from flows.tune.report import SideSearch, TrialRow, TuneReport, in_percent, over_seeds
from flows.tune.runs import Run
from flows.tune.sides import MULTI
from retrieval.encoder.trial import Quality, Trial
from tests.flows.page_reader import assert_fit_to_be_mailed


def run(side: str, seed: int, **errors: float) -> Run:
    found = {task: Quality(metric="auc", value=1 - error, error=error, loss=1.0) for task, error in errors.items()}
    trial = Trial(tasks=tuple(errors), validation={}, test=found, steps=1, seconds=0.1)
    return Run(side=side, config="c", seed=seed, trial=trial)


RUNS = (
    run(MULTI, 1, buy=0.3, churn=0.26), run("buy", 1, buy=0.4), run("churn", 1, churn=0.2),
    run(MULTI, 2, buy=0.4, churn=0.26), run("buy", 2, buy=0.5), run("churn", 2, churn=0.22),
)  # fmt: skip


def test_an_interval_over_seeds_by_hand() -> None:
    # Mean 2, standard deviation 1, t(.975, 2) = 4.3027: 2 -+ 4.3027 / sqrt(3) = 2 -+ 2.4841.
    found = over_seeds([1.0, 2.0, 3.0])
    assert (found.value, found.low, found.high, found.n) == pytest.approx((2, -0.4841, 4.4841, 3), abs=1e-4)
    single = over_seeds([0.25])
    assert (single.value, single.low, single.n) == (0.25, None, 1)
    percent = in_percent(single)
    assert percent is not None
    assert percent.value == 25


def test_gains_by_hand() -> None:
    found = compare(["buy", "churn"], RUNS)
    buy, churn = found.gains
    # Seed 1: (.4 - .3) / .4 = .25; seed 2: (.5 - .4) / .5 = .2.
    assert buy.gain is not None
    assert buy.gain.value == pytest.approx(0.225)
    assert buy.loses is False
    # Seed 1: -.06 / .2 = -.3; seed 2: -.04 / .22 = -.1818. Mean .26 > .21 + standard deviation .0141.
    assert churn.gain is not None
    assert churn.gain.value == pytest.approx(-(0.3 + 0.04 / 0.22) / 2)
    assert churn.loses is True
    # Means over tasks: (.25 - .3) / 2 = -.025 and (.2 - .1818) / 2 = .0091.
    assert found.mean is not None
    assert found.mean.value == pytest.approx((-0.025 + (0.2 - 0.04 / 0.22) / 2) / 2)
    assert found.mean.n == 2


def test_within_the_spread_of_its_own_model_a_task_does_not_lose() -> None:
    # Alone .2 and .3: mean .25, standard deviation .0707. Together .31 on average: below .3207.
    runs = [
        run(MULTI, 1, buy=0.31), run(MULTI, 2, buy=0.31), run("buy", 1, buy=0.2), run("buy", 2, buy=0.3),
    ]  # fmt: skip
    assert compare(["buy"], runs).gains[0].loses is False
    worse = [row if row.side != MULTI else run(MULTI, row.seed, buy=0.33) for row in runs]
    assert compare(["buy"], worse).gains[0].loses is True


def test_seeds_that_one_side_lacks_are_left_out() -> None:
    failed = Run(side="churn", config="c", seed=2, reason="diverged")
    found = compare(["buy", "churn", "idle"], [*RUNS[:5], failed])
    buy, churn, idle = found.gains
    assert buy.gain is not None
    assert churn.gain is not None
    assert (buy.gain.n, churn.gain.n) == (2, 1)
    # One seed tells no interval and no loss; a task without test labels has nothing at all.
    assert (churn.gain.low, churn.loses) == (None, None)
    assert (idle.gain, idle.metric) == (None, None)
    assert found.mean is not None
    assert found.mean.value == pytest.approx((0.25 - 0.3) / 2)
    assert found.failed == ("churn, seed 2: diverged",)


@pytest.fixture(scope="module")
def report() -> TuneReport:
    comparison = compare(["buy", "churn"], RUNS)
    point = {"learning_rate": 5e-5, "train_layers": None, "logq": True}
    rows = tuple(TrialRow(number=n, point=point, error=1 - 0.02 * n, seconds=1) for n in range(5))
    failed = TrialRow(number=5, point=point, reason="rdrop: <b>expected</b> dropout", seconds=1)
    searches = (
        SideSearch(side=MULTI, measure="m", trials=(*rows, failed), best=4, importance={"learning_rate": 1.0}),
        *(SideSearch(side=task, measure="m", trials=(*rows, failed), best=0) for task in ("buy", "churn")),
    )
    return TuneReport(
        workspace="shop", as_of=datetime(2024, 1, 1, tzinfo=UTC), created_at=datetime(2024, 2, 1, tzinfo=UTC),
        folder="study", trials=6, wanted=8, seeds=(1, 2), searches=searches, gains=comparison.gains,
        mean_gain=comparison.mean, best=yaml.safe_dump({"encoder": {"learning_rate": 5e-5}}),
    )  # fmt: skip


def test_the_page_is_whole_and_fetches_nothing(report: TuneReport) -> None:
    page = render_page(report)
    assert_fit_to_be_mailed(page)
    # Gains, three searches, one importance.
    assert page.count("<svg") == 5
    assert "Out of time after 6 of 8 trials" in page
    assert "3 of 18 trials and 0 runs of the comparison failed" in page
    assert "rdrop: &lt;b&gt;expected&lt;/b&gt; dropout" in page
    assert "+22.5" in page
    assert "learning_rate: 5.0e-05" in page
    assert page.count('<span class="tag below">loses</span>') == 1


def test_a_report_comes_back_as_it_was_written(report: TuneReport) -> None:
    assert TuneReport.model_validate_json(report.model_dump_json()) == report
    assert report.losers == ("churn",)


def test_the_terminal_shows_gains_losers_winner_and_failures(report: TuneReport) -> None:
    out = io.StringIO()
    render_tuning(report, Console(file=out, width=120, color_system=None))
    text = out.getvalue()
    assert "+22.5" in text
    assert "loses" in text
    assert "encoder:\n  learning_rate: 5.0e-05\n" in text
    assert "multi-task, trial 6: rdrop: <b>expected</b> dropout" in text


@pytest.mark.parametrize(("value", "shown"), [(None, "null"), (True, "true"), (5e-5, "5e-05"), (3, "3"), ("a", "a")])
def test_values_are_shown_as_the_file_writes_them(value: bool | float | str | None, shown: str) -> None:
    assert format_value(value) == shown
