"""A workspace of dated texts from its file to an alert at a webhook: each text counted and each alert posted once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import structlog
import yaml
from prefect.testing.utilities import prefect_test_harness
from typer.testing import CliRunner

from flows.cli import app
from flows.monitor.alert import Alert
from flows.monitor.run import ALERTS, PAGE, TRENDS, Monitor, MonitorBusyError
from flows.workspace import Workspace
from infra.settings import Settings
from tests.flows.monitor.receiver import Receiver
from tests.flows.page_reader import assert_fit_to_be_mailed

FIRST = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
DAYS = 20
BURST = 15
# Eight texts a day, one about soap, which is bad; on the day of the burst all are.
THINGS = ("tea", "tea", "coffee", "coffee", "bread", "bread", "bread", "soap")


def texts() -> pl.DataFrame:
    rows = [
        {
            "text_id": f"{day}-{place}", "text": f"{thing} is {(day + place) % 10}", "topic": thing,
            "tone": "bad" if thing == "soap" else "good", "town": ("north", "south")[place % 2],
            "split": "validation" if day % 4 == 3 else "train", "timestamp": FIRST + day * DAY + place * DAY / 8,
        }
        for day in range(DAYS)
        for place, thing in enumerate(["soap"] * 8 if day == BURST else THINGS)
    ]  # fmt: skip
    return pl.DataFrame(rows)


def task(name: str) -> dict[str, Any]:
    return {"name": name, "kind": "multiclass", "on": "text", "label": {"type": "column", "column": name}}


MONITOR = {
    "task": "tone", "negative": ["bad"], "by": ["topic", "town"], "bucket_hours": 24, "min_texts": 3, "min_history": 10,
}  # fmt: skip


def run(folder: Path, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*arguments, "-w", str(folder)])
    structlog.reset_defaults()
    assert done.exit_code == code, f"{arguments}: {done.output}\n{done.exception!r}"
    return done.output


def at(day: int) -> str:
    return (FIRST + day * DAY).isoformat()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, encoder_lines: dict[str, Any]) -> Iterator[Path]:
    """A workspace with a release that isn't published yet."""
    place = tmp_path_factory.mktemp("news")
    file = {
        "name": "news", "source": {"type": "tables", "texts": {"type": "parquet", "path": "texts.parquet"}},
        "tasks": [task("tone"), task("topic")], "encoder": {**encoder_lines, "steps": 120}, "monitor": MONITOR,
    }  # fmt: skip
    (place / "polyrank.yaml").write_text(yaml.safe_dump(file), encoding="utf-8")
    texts().write_parquet(place / "texts.parquet")
    with prefect_test_harness(server_startup_timeout=120):
        run(place, "refresh", "model")
        yield place


def test_texts_are_scored_series_judged_and_alerts_posted_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "expected a published release, found none" in run(folder, "monitor", code=1)
    run(folder, "publish")
    state = folder / ".polyrank" / "monitor"
    with Receiver.running() as receiver:
        monkeypatch.setenv("POLYRANK_ALERT_WEBHOOK", receiver.address.get_secret_value())
        # A bucket of all texts has eight; the history of ten is there from the third day on.
        first = run(folder, "monitor", "--as-of", at(BURST))
        assert "120 new texts" in first
        assert "no new alert" in first
        assert "0 new texts, 0 buckets judged" in run(folder, "monitor", "--as-of", at(BURST))
        # The receiver refuses the first alert: the run fails, and loses nothing.
        receiver.answers = [403]
        refused = run(folder, "monitor", "--as-of", at(BURST + 1), code=1)
        assert "Alert not delivered" in refused
        assert "token" not in refused
        alerts = [Alert.model_validate_json(line) for line in (state / ALERTS).read_text().splitlines()]
        tried = [key for key, _ in receiver.requests]
        assert tried == [own.id for own in alerts]
        assert "8 new texts" not in run(folder, "monitor", "--as-of", at(BURST + 1))
        # Posted again was the refused one alone.
        assert [key for key, _ in receiver.requests] == [*tried, tried[0]]
        run(folder, "monitor", "--as-of", at(DAYS))
        assert len(receiver.requests) == len(tried) + 1
    assert alerts[0].point.series.label == "all texts"
    assert (alerts[0].point.texts, alerts[0].point.start) == (8, FIRST + BURST * DAY)
    assert alerts[0].point.share > 0.8
    assert all(text.text.startswith("soap is") for text in alerts[0].worst)
    trends = pl.read_parquet(state / TRENDS)
    every = trends.filter(pl.col("by") == "")
    # Twenty days less the first two, whose history is too short, each counted once.
    assert every["texts"].to_list() == [8] * 18
    towns = trends.filter(pl.col("by") == "town").group_by("value").agg(pl.col("texts").sum()).sort("value")
    assert set(towns["value"]) == {"north", "south"}
    assert set(trends.filter(pl.col("by") == "topic")["value"]) <= set(THINGS)
    assert_fit_to_be_mailed((state / PAGE).read_text(encoding="utf-8"))


def test_two_runs_at_once_and_a_workspace_that_watches_nothing(folder: Path) -> None:
    run(folder, "publish")
    monitor = Monitor.of(Workspace.load(folder), Settings(), FIRST)
    with monitor.alone():
        assert "expected no other run, found one under way" in run(folder, "monitor", code=1)
        with pytest.raises(MonitorBusyError), monitor.alone():
            pass
    file = folder / "polyrank.yaml"
    before = file.read_text(encoding="utf-8")
    document = yaml.safe_load(before)
    del document["monitor"]
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    assert "expected a section monitor, found none" in run(folder, "monitor", code=2)
    document["monitor"] = {**MONITOR, "task": "tnoe"}
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    assert "section monitor: task: unknown task on texts 'tnoe'; did you mean 'tone'?" in run(folder, "monitor", code=2)
    file.write_text(before, encoding="utf-8")
