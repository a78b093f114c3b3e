"""`tune` through the real stack: tables, features, encoder, journal, report."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from flows.document import parse_document, read_document
from flows.tune.report import TuneReport
from flows.tune.search import JOURNAL
from flows.tune.study import tune
from flows.workspace import Workspace, WorkspaceConfig
from infra.errors import InvalidInputError

SIDES = ("multi-task", "purchase", "churn", "spend")


def half_line(path: Path) -> None:
    """Leave what a writer that is killed leaves."""
    with path.open("ab") as file:
        file.write(b'{"side": "purch')


def finals(report: TuneReport) -> list[dict[str, object]]:
    return [json.loads(line) for line in (Path(report.folder) / "finals.jsonl").read_text().splitlines()]


def test_a_study_is_stopped_killed_and_finished(shop: Path) -> None:
    out = io.StringIO()
    console = Console(file=out, width=200, color_system=None)
    # Out of time at once: the round that every side needs is done, and compared.
    first = tune(str(shop), trials=4, seeds=1, timeout=timedelta(0), console=console)
    assert (first.trials, first.wanted, first.seeds) == (1, 4, (1,))
    assert [search.side for search in first.searches] == list(SIDES)
    assert all(search.best == 0 for search in first.searches)
    assert first.searches[0].winner.error == 1.0
    assert len(finals(first)) == 4
    assert "trial 1 of 4, multi-task: 1.0000, best 1.0000 (trial 1)" in out.getvalue()
    assert "out of time after 1 of 4 trials" in out.getvalue()
    folder = Path(first.folder)
    assert folder.parent == shop / ".polyrank" / "tune"
    for name in (JOURNAL, "finals.jsonl"):
        half_line(folder / name)

    second = tune(str(shop), trials=4, seeds=2, console=console)
    assert second.folder == first.folder
    assert (second.trials, second.seeds) == (4, (1, 2))
    # The same number on every side, failed ones included, and the first as it was.
    assert [len(search.trials) for search in second.searches] == [4, 4, 4, 4]
    assert [search.trials[0] for search in second.searches] == [search.trials[0] for search in first.searches]
    assert second.failed == sum(row.error is None for search in second.searches for row in search.trials) > 0
    reasons = {row.reason for search in second.searches for row in search.failed}
    assert reasons == {"rdrop: expected dropout above 0, without which both passes are one, found 0"}
    for row in second.gains:
        assert row.gain is not None
        assert (row.gain.n, row.loses is None) == (2, False)

    out.truncate(0)
    third = tune(str(shop), trials=4, seeds=2, console=console)
    assert "trial" not in out.getvalue()
    assert third.model_dump(exclude={"created_at"}) == second.model_dump(exclude={"created_at"})
    assert TuneReport.model_validate_json((folder / "report.json").read_bytes()) == third
    assert "<svg" in (folder / "report.html").read_text()
    # Seeds of the comparison aren't the search's own, 0.
    assert {run["seed"] for run in finals(third)} == {1, 2}

    # The winner's lines are a workspace's.
    content = yaml.safe_load((shop / "polyrank.yaml").read_text())
    best = yaml.safe_load((folder / "best.yaml").read_text())["encoder"]
    winner = third.searches[0].winner.point
    assert best["steps"] == winner["steps"]
    content["encoder"] |= best
    (shop / "polyrank.yaml").write_text(yaml.safe_dump(content))
    encoder = parse_document(read_document(shop / "polyrank.yaml"), WorkspaceConfig).encoder
    assert encoder.learning_rate == winner["learning_rate"]
    assert encoder.balance.method == winner["balance.method"]
    assert all(encoder.balance.weights.get(task, 1.0) == winner[f"balance.weights.{task}"] for task in SIDES[1:])


def test_some_of_the_tasks_and_other_sections_are_other_studies(shop: Path) -> None:
    one = tune(str(shop), trials=1, seeds=1, tasks=["spend", "churn"])
    assert [search.side for search in one.searches] == ["multi-task", "churn", "spend"]
    assert "balance.weights.purchase" not in one.searches[0].winner.point
    assert one.mean_gain is not None
    assert one.mean_gain.low is None
    content = yaml.safe_load((shop / "polyrank.yaml").read_text())
    content["tune"] = {"space": {"steps": [1, 2]}, "weights": False}
    (shop / "polyrank.yaml").write_text(yaml.safe_dump(content))
    other = tune(str(shop), trials=1, seeds=1, tasks=["spend", "churn"])
    assert other.folder != one.folder
    assert other.searches[0].winner.point == {"steps": 2}


def test_an_absurd_learning_rate_ends_no_search(shop: Path) -> None:
    content = yaml.safe_load((shop / "polyrank.yaml").read_text())
    absurd = {"learning_rate": [1e30], "head_learning_rate": [1e30], "warmup.learning_rate": [1e30]}
    content["tune"] = {"space": absurd, "weights": False}
    (shop / "polyrank.yaml").write_text(yaml.safe_dump(content))
    report = tune(str(shop), trials=3, seeds=1, tasks=["purchase", "churn"])
    tried = {row.point["learning_rate"] for search in report.searches for row in search.trials}
    assert tried == {5e-5, 1e30}
    # The loss is no number after a step; the run goes back to the weights before, and that is its error.
    assert [len(search.trials) for search in report.searches] == [3, 3, 3]
    assert report.failed == 0


def test_a_study_pretrains_once(shop: Path) -> None:
    content = yaml.safe_load((shop / "polyrank.yaml").read_text())
    content["encoder"]["pretrain"] = {
        "steps": 2,
        "head_steps": 2,
        "batch": 4,
        "validate_every": 2,
        "held_out": 0.2,
        "max_tokens": 16,
    }
    (shop / "polyrank.yaml").write_text(yaml.safe_dump(content))
    report = tune(str(shop), trials=1, seeds=1, tasks=["purchase", "churn"])
    weights = Path(report.folder) / "backbone" / "model.safetensors"
    written = weights.stat().st_mtime_ns
    again = tune(str(shop), trials=2, seeds=1, tasks=["purchase", "churn"])
    assert again.folder == report.folder
    assert weights.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"tasks": ["purchas", "churn"]}, "unknown task 'purchas'; did you mean 'purchase'"),
        ({"tasks": ["churn"]}, "expected at least 2 to compare, found churn"),
        ({"trials": 0}, "expected at least 1 trial and 1 seed, found 0 and 3"),
    ],
)
def test_what_can_t_be_compared_is_refused(shop: Path, asked: dict[str, object], expected: str) -> None:
    with pytest.raises(InvalidInputError, match=expected):
        tune(str(shop), **asked)  # type: ignore[arg-type]
    assert not (shop / ".polyrank" / "tune").exists()


def test_a_space_that_the_own_configuration_can_t_lie_in_is_refused(shop: Path) -> None:
    content = yaml.safe_load((shop / "polyrank.yaml").read_text())
    content["encoder"]["train_layers"] = None
    content["tune"] = {"space": {"train_layers": {"low": 1, "high": 2}}}
    (shop / "polyrank.yaml").write_text(yaml.safe_dump(content))
    assert Workspace.load(shop).config.tune.space
    with pytest.raises(InvalidInputError, match=r"tune.space.train_layers: .* found None; list choices instead"):
        tune(str(shop))
