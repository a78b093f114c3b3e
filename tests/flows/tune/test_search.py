"""One side's trials on a made-up error: what a search proposes depends on nothing but what came before."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.tune.config import Range, TuneConfig
from flows.tune.report import TrialRow
from flows.tune.search import JOURNAL, Search, SearchError, Train, open_storage
from flows.tune.sides import MULTI, Side
from flows.tune.space import Point, Space
from retrieval.encoder.balance.config import BalanceConfig
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.trial import Quality, Trial

CONFIG = TuneConfig(
    space={
        "learning_rate": Range(low=1e-5, high=1e-3, log=True),
        "steps": (50, 100),
        "balance.method": ("static", "mgda"),
    },
)
OWN = EncoderConfig()


def trial(**errors: float) -> Trial:
    found = {task: Quality(metric="auc", value=1 - error, error=error, loss=1.0) for task, error in errors.items()}
    return Trial(tasks=tuple(errors), validation=found, test=found, steps=1, seconds=0.1)


def bowl(point: Point) -> Trial:
    """The error is lowest at a learning rate of 2e-4, whatever the tasks."""
    rate = point["learning_rate"]
    assert isinstance(rate, float)
    error = 0.1 + 0.1 * abs(math.log10(rate / 2e-4))
    return trial(buy=error, churn=error)


def search(folder: Path, *, tasks: tuple[str, ...] = ("buy",), encoder: EncoderConfig = OWN) -> Search:
    name = MULTI if len(tasks) > 1 else tasks[0]
    space = Space.around(CONFIG, encoder, tasks)
    return Search(open_storage(folder), Side(name=name, tasks=tasks, trained=tasks), space, encoder, seed=0)


def points(rows: tuple[TrialRow, ...]) -> list[Point]:
    return [row.point for row in rows]


def run(found: Search, count: int, train: Train = bowl) -> tuple[TrialRow, ...]:
    for _ in range(count):
        found.step(train)
    return found.rows


def killed(_: Point) -> Trial:
    raise KeyboardInterrupt


def test_the_first_trial_is_the_workspace_s_own(tmp_path: Path) -> None:
    found = search(tmp_path, tasks=("buy", "churn"))
    first, *others = run(found, 4)
    assert first.point == {
        "learning_rate": 5e-5, "steps": 100, "balance.method": "volume", "balance.weights.buy": 1.0,
        "balance.weights.churn": 1.0,
    }  # fmt: skip
    # The mean error over the own configuration's.
    assert first.error == 1.0
    assert len({str(row.point) for row in others}) == 3
    for row in others:
        rate = row.point["learning_rate"]
        assert isinstance(rate, float)
        assert rate == float(f"{rate:.3g}")
        own, error = 0.1 + 0.1 * math.log10(4), 0.1 + 0.1 * abs(math.log10(rate / 2e-4))
        assert row.error == pytest.approx(error / own)


def test_importances_are_drawn_only_where_they_count(tmp_path: Path) -> None:
    rows = run(search(tmp_path, tasks=("buy", "churn")), 10)
    methods = {row.point["balance.method"]: "balance.weights.buy" in row.point for row in rows}
    assert methods == {"volume": True, "static": True, "mgda": False}


def test_a_search_finds_what_is_better(tmp_path: Path) -> None:
    found = search(tmp_path)
    run(found, 25)
    report = found.report(25)
    assert report.measure == "validation error"
    assert report.winner.error == min(row.error for row in report.trials if row.error is not None)
    rate = report.winner.point["learning_rate"]
    assert isinstance(rate, float)
    assert abs(math.log10(rate / 2e-4)) < 0.2
    # Steps change nothing, so the learning rate explains the error.
    assert sum(report.importance.values()) == pytest.approx(1)
    assert report.importance["learning_rate"] > 0.8
    # The first ten alone are what ten trials would have given.
    assert found.report(10).trials == report.trials[:10]
    assert found.report(3).best < 3


@pytest.mark.parametrize("stopped_at", [0, 1, 12])
def test_a_search_that_was_stopped_goes_on_as_if_it_had_not(tmp_path: Path, stopped_at: int) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    expected = run(search(whole), 15)
    run(search(parts), stopped_at)
    with pytest.raises(KeyboardInterrupt):
        search(parts).step(killed)
    with (parts / JOURNAL).open("ab") as journal:
        journal.write(b'{"op_code": 4, "worker_id": "ki')
    resumed = search(parts)
    assert len(resumed.rows) == stopped_at
    found = run(resumed, 15 - stopped_at)
    assert points(found) == points(expected)
    assert [row.error for row in found] == [row.error for row in expected]
    assert [row.number for row in found] == list(range(15))


def test_a_lock_left_behind_holds_nobody_up(tmp_path: Path) -> None:
    run(search(tmp_path), 1)
    (tmp_path / f"{JOURNAL}.lock").symlink_to(tmp_path / JOURNAL)
    assert len(run(search(tmp_path), 1)) == 2


def failing(when: Callable[[Point], bool]) -> Train:
    return lambda point: "diverged" if when(point) else bowl(point)


def test_a_failed_trial_counts_and_the_search_goes_on(tmp_path: Path) -> None:
    found = search(tmp_path)
    run(found, 6, failing(lambda point: point["steps"] == 50))
    report = search(tmp_path).report(6)
    assert len(report.trials) == 6
    assert report.failed
    assert {row.reason for row in report.failed} == {"diverged"}
    assert all(row.point["steps"] == 50 for row in report.failed)
    assert report.winner.point["steps"] == 100


def test_a_single_task_may_lose_its_first_trial(tmp_path: Path) -> None:
    found = search(tmp_path)
    rows = run(found, 8, failing(lambda point: point["learning_rate"] == 5e-5))
    assert rows[0].reason == "diverged"
    assert found.report(8).best > 0


def test_all_failed_is_an_error(tmp_path: Path) -> None:
    found = search(tmp_path)
    run(found, 3, lambda _: "no memory")
    with pytest.raises(SearchError, match="buy: expected one of 3 trials to train, found that all failed: no memory"):
        found.report(3)


def test_without_a_reference_there_is_no_search(tmp_path: Path) -> None:
    message = "expected the workspace's own configuration to train, .* found: no memory"
    for _ in range(2):  # the next process says so at once
        with pytest.raises(SearchError, match=message):
            search(tmp_path, tasks=("buy", "churn")).step(lambda _: "no memory")
    assert len(search(tmp_path, tasks=("buy", "churn")).rows) == 1


def test_equal_errors_have_no_importance(tmp_path: Path) -> None:
    found = search(tmp_path)
    run(found, 5, lambda _: trial(buy=0.2))
    report = found.report(5)
    assert report.importance == {}
    assert report.best == 0


def test_sides_share_a_journal(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    for task in ("buy", "churn"):
        side = Side(name=task, tasks=(task,), trained=(task,))
        found = Search(storage, side, Space.around(CONFIG, OWN, (task,)), OWN, seed=0)
        assert len(run(found, 2)) == 2


def test_the_own_method_decides_where_none_is_searched(tmp_path: Path) -> None:
    encoder = EncoderConfig(balance=BalanceConfig(method="mgda"))
    config = TuneConfig(space={"learning_rate": Range(low=1e-5, high=1e-3, log=True)})
    tasks = ("buy", "churn")
    space = Space.around(config, encoder, tasks)
    side = Side(name=MULTI, tasks=tasks, trained=tasks)
    rows = run(Search(open_storage(tmp_path), side, space, encoder, seed=0), 2)
    assert all(row.point.keys() == {"learning_rate"} for row in rows)
