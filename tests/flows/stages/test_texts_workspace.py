"""Workspaces without shops, through every flow and the app: texts alone, and texts with the items that answer them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from fastapi.testclient import TestClient
from safetensors.numpy import load_file, save_file

from features.item_log import ItemChange, ItemLog
from flows.build import Build
from flows.folder import WorkspaceFolder
from flows.report import Report, read
from flows.serve import service_parts
from flows.task_values import task_values
from flows.tune.study import tune
from flows.tune.study_data import study_data
from flows.workspace import Workspace
from infra.releases import ReleaseStore
from infra.settings import Settings
from ranking.answers import load_release
from ranking.service import create_combined_app
from retrieval.catalogue import CatalogueConfig
from retrieval.contract import Limits
from retrieval.encoder.runtime import TextEncoder
from retrieval.layout import ENCODER_DIR
from retrieval.warmup import WarmupError

T = datetime(2024, 1, 1, tzinfo=UTC)
THINGS = ("tea", "coffee", "bread", "soap")
WORDS = ("is", "likes", "user", "gift", "number")
# Eighty texts of a thing, a word and a digit; one in four is held out from everything, one in four stops training.
ROWS = [(thing, word, number) for thing in THINGS for word in WORDS for number in range(4)]
SPLITS = ("train", "test", "train", "validation")
ON_TEXT: list[dict[str, Any]] = [
    {"name": "intent", "kind": "multiclass", "on": "text", "label": {"type": "column", "column": "intent"}},
    {"name": "drink", "kind": "binary", "on": "text", "label": {"type": "column", "column": "drink"}},
    {"name": "size", "kind": "regression", "on": "text", "label": {"type": "column", "column": "size"}},
    {"name": "slots", "kind": "token_tags", "on": "text", "label": {"type": "column", "column": "slots"}},
]
ANSWER = {"name": "answer", "kind": "contrastive", "on": "text", "label": {"type": "column", "column": "answer"}}


def texts(**changes: list[Any]) -> pl.DataFrame:
    columns: dict[str, list[Any]] = {
        "text_id": [f"t{row}" for row in range(len(ROWS))],
        "text": [f"{thing} {word} {number}" for thing, word, number in ROWS],
        "intent": [thing for thing, _, _ in ROWS],
        "drink": [int(thing in ("tea", "coffee")) for thing, _, _ in ROWS],
        "size": [float(number) for _, _, number in ROWS],
        "slots": [["B", "O", "O"] for _ in ROWS],
        "answer": [f"about-{thing}" for thing, _, _ in ROWS],
        "split": [SPLITS[number] for _, _, number in ROWS],
    }
    return pl.DataFrame({**columns, **changes}, strict=False)


def write(folder: Path, encoder: dict[str, Any], tasks: list[dict[str, Any]], *, items: bool, **lines: Any) -> Path:
    folder.mkdir(exist_ok=True)
    names = ("items", "texts") if items else ("texts",)
    tables = {name: {"type": "parquet", "path": f"{name}.parquet"} for name in names}
    file = {"name": folder.name, "source": {"type": "tables", **tables}, "tasks": tasks, "encoder": encoder, **lines}
    (folder / "polyrank.yaml").write_text(yaml.safe_dump(file), encoding="utf-8")
    texts().write_parquet(folder / "texts.parquet")
    ids, titles = [f"about-{thing}" for thing in THINGS], [f"gift {thing}" for thing in THINGS]
    pl.DataFrame({"item_id": ids, "title": titles}).write_parquet(folder / "items.parquet")
    return folder


@dataclass(frozen=True)
class Made:
    folder: Path
    release_id: str
    report: Report


def make(folder: Path, run: Callable[..., str]) -> Made:
    for arguments in (["validate"], ["refresh", "features"], ["refresh", "model"], ["evaluate"], ["publish"]):
        run(folder, *arguments)
    current = ReleaseStore(folder / ".polyrank" / "releases").current()
    assert current is not None
    return Made(folder, current, read(folder / ".polyrank" / "reports" / current / "report.json"))


@pytest.fixture(scope="module")
def finance(tmp_path_factory: pytest.TempPathFactory, encoder_lines: dict[str, Any], run: Callable[..., str]) -> Made:
    folder = tmp_path_factory.mktemp("texts") / "finance"
    gate = {"texts": {"intent": {"accuracy": 0.5}, "size": {"mae": 3}}}
    return make(write(folder, {**encoder_lines, "steps": 120}, ON_TEXT, items=False, gate=gate), run)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, encoder_lines: dict[str, Any], run: Callable[..., str]) -> Made:
    folder = tmp_path_factory.mktemp("texts") / "desk"
    gate = {"min_index_recall": 0.5, "texts": {"answer": {"recall_at_1": 0.3, "mrr": 0.3}}}
    return make(write(folder, {**encoder_lines, "steps": 120}, [*ON_TEXT[:1], ANSWER], items=True, gate=gate), run)


def served(made: Made) -> TestClient:
    parts = service_parts(Workspace.load(made.folder), Settings())
    parts.watcher.load_initial()
    return TestClient(create_combined_app(parts))


def test_texts_alone_make_a_release_of_an_encoder(finance: Made) -> None:
    release = finance.folder / ".polyrank" / "releases" / finance.release_id
    assert sorted(path.name for path in release.iterdir()) == [
        "encoder", "manifest.json", "tasks.json", "warmup.json", "workspace.yaml",
    ]  # fmt: skip
    # Nothing was computed for what there isn't.
    steps = {path.name.rpartition("-")[0] for path in (finance.folder / ".polyrank" / "runs").iterdir()}
    assert steps == {"tables", "encoder"}
    assert {path.name for path in (finance.folder / ".polyrank").iterdir()} == {"tables", "runs", "releases", "reports"}
    assert {row.table for row in finance.report.validation} == {"texts"}


def test_tasks_on_texts_are_measured_on_the_test_split(finance: Made) -> None:
    report = finance.report
    assert not report.is_dated
    assert {row.task: (row.kind, row.n) for row in report.texts} == {
        "intent": ("multiclass", 20), "drink": ("binary", 20), "size": ("regression", 20), "slots": ("token_tags", 20),
    }  # fmt: skip
    intent = report.texts[0]
    assert intent.rows == "texts of split test"
    accuracy = intent.figures[0]
    # A word of each text is its label: it is learnt; a constant is right for one thing of four.
    assert accuracy.figure.value > 0.9
    assert accuracy.constant == 0.25
    assert intent.confusion is not None
    # The first word of each text has the tag B; always O, the most frequent tag, finds none.
    (tags,) = report.texts[3].figures
    assert (tags.metric, tags.figure.value, tags.constant) == ("micro_f1", 1.0, 0.0)
    assert sum(map(sum, intent.confusion.counts)) == 20
    assert (report.rankings, report.tasks, report.index, report.time_plan, report.examples) == ((), (), (), (), ())
    assert report.data is not None
    assert (report.data.texts, report.data.items, report.data.users) == (60, 0, 0)


def test_an_encoder_alone_is_served_with_its_golden_answers(finance: Made) -> None:
    warmup = json.loads((finance.folder / ".polyrank" / "releases" / finance.release_id / "warmup.json").read_bytes())
    assert (warmup["retrieval"], warmup["ranking"]) == ([], [])
    # No golden answer is of a text that is measured on.
    held_out = set(texts().filter(pl.col("split") == "test")["text"])
    assert len(warmup["texts"]) == 8
    assert not {case["text"] for case in warmup["texts"]} & held_out
    with served(finance) as http:
        assert http.get("/health/ready").json()["release"] == finance.release_id
        answer = http.post("/v1/predict", json={"texts": ["soap is 1"], "tasks": ["intent", "drink", "size"]})
        (row,) = answer.raise_for_status().json()["predictions"]
        assert row["tasks"]["intent"]["label"] == "soap"
        assert row["tasks"]["drink"] < 0.5
        for path, body in (("/v1/candidates", {"text": "soap"}), ("/v1/recommend", {"user_id": "u"})):
            refused = http.post(path, json=body)
            assert refused.status_code == 409
            assert "found a release with encoder alone" in refused.json()["detail"]


def test_a_wrong_head_is_caught_when_the_release_is_loaded(finance: Made, tmp_path: Path) -> None:
    copy = shutil.copytree(finance.folder / ".polyrank" / "releases" / finance.release_id, tmp_path / "copy")
    heads = copy / "encoder" / "heads.safetensors"
    arrays = load_file(heads)
    arrays["head/intent/bias"] = arrays["head/intent/bias"][::-1] * 9 + 5 * np.arange(4, dtype=np.float32)
    heads.unlink()
    save_file(arrays, heads)
    with pytest.raises(WarmupError, match=r"warm-up text .*, task intent: expected"):
        load_release(copy)


def test_the_same_texts_make_the_same_release_and_no_index_is_refreshed(finance: Made, run: Callable[..., str]) -> None:
    assert finance.release_id in run(finance.folder, "refresh", "model")
    assert "undated" in run(finance.folder, "releases")
    assert "expected items to index, found a source without" in run(finance.folder, "refresh", "index", code=1)
    assert "removed 0 releases" in run(finance.folder, "prune", "--unused-days", "1")


def test_without_held_out_texts_an_evaluation_says_what_is_missing(
    finance: Made, run: Callable[..., str], tmp_path: Path
) -> None:
    folder = shutil.copytree(finance.folder, tmp_path / "whole")
    texts(split=[None] * len(ROWS)).write_parquet(folder / "texts.parquet")
    refused = " ".join(run(folder, "evaluate", code=2).split())
    assert "expected events, or labelled texts, after it or labelled texts of split test, to measure on" in refused


def test_the_gate_refuses_what_the_texts_do_not_show(finance: Made, run: Callable[..., str], tmp_path: Path) -> None:
    folder = shutil.copytree(finance.folder, tmp_path / "strict")
    document = yaml.safe_load((folder / "polyrank.yaml").read_text(encoding="utf-8"))
    document["gate"] = {"texts": {"intent": {"log_loss": 1e-9}}}
    (folder / "polyrank.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    refused = run(folder, "publish", code=1)
    assert "task intent: expected log_loss of at most 1e-09 on held-out texts, found" in refused


def test_a_release_that_learnt_less_does_not_replace_the_current_one(
    finance: Made, run: Callable[..., str], tmp_path: Path
) -> None:
    """The same texts by an encoder of one step, and another task: it knows the intents less well, not what is new."""
    folder = shutil.copytree(finance.folder, tmp_path / "worse")
    document = yaml.safe_load((folder / "polyrank.yaml").read_text(encoding="utf-8"))
    document["encoder"] |= {"steps": 1, "validate_every": 1, "learning_rate": 1e-6, "head_learning_rate": 1e-6}
    document["tasks"].append({**ON_TEXT[0], "name": "thing"})
    document["gate"] = {"not_worse_than_current": {"metrics": ["accuracy.intent", "accuracy.thing"]}}
    (folder / "polyrank.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    run(folder, "refresh", "model")
    store = ReleaseStore(folder / ".polyrank" / "releases")
    worse = store.list()[0].release_id
    assert f"`polyrank evaluate {worse}` makes one" in run(folder, "publish", code=2)
    out = run(folder, "evaluate", worse)
    assert f"Beside the current release {finance.release_id}" in out
    report = read(folder / ".polyrank" / "reports" / worse / "report.json")
    assert report.beside is not None
    assert "accuracy.thing" in report.beside.lacking
    row = next(row for row in report.beside.rows if row.name == "accuracy.intent")
    # Each side's figure is that of its own report: the same texts by the same statistic.
    (before,) = (own.figures[0].figure for own in finance.report.texts if own.task == "intent")
    assert (row.current.value, row.current.n) == (before.value, 20)
    assert row.difference.value == pytest.approx(row.candidate.value - row.current.value)
    refused = run(folder, "publish", code=1)
    assert f"accuracy.intent: expected no worse than the current release {finance.release_id}" in refused
    assert "accuracy.thing" not in refused
    assert store.current() == finance.release_id
    run(folder, "publish", "--without-comparison")
    assert store.current() == worse


def test_a_current_release_of_later_data_is_not_compared(
    finance: Made, run: Callable[..., str], tmp_path: Path
) -> None:
    """One that has seen the window before it began: its figures there would be memory."""
    folder = shutil.copytree(finance.folder, tmp_path / "later")
    store, later = ReleaseStore(folder / ".polyrank" / "releases"), datetime(2024, 6, 1, tzinfo=UTC)
    with store.create("later", as_of=later) as writer:
        shutil.copytree(
            store.path(finance.release_id), writer.path, dirs_exist_ok=True, ignore=lambda *_: ["manifest.json"]
        )
    store.publish("later")
    document = yaml.safe_load((folder / "polyrank.yaml").read_text(encoding="utf-8"))
    document["gate"] = {"not_worse_than_current": {"metrics": ["accuracy.intent"]}}
    (folder / "polyrank.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    assert "has seen data up to 2024-06-01" in " ".join(run(folder, "evaluate", finance.release_id).split())
    refused = run(folder, "publish", finance.release_id, code=1)
    assert "expected a comparison with the current release later, found it void" in refused
    assert "polyrank publish --without-comparison" in refused


def test_an_index_refresh_keeps_models_that_must_be_there(
    finance: Made, run: Callable[..., str], tmp_path: Path
) -> None:
    """Items alone need no model but the encoder; users need those of what they did, which this release hasn't."""
    folder = shutil.copytree(finance.folder, tmp_path / "grown")
    document = yaml.safe_load((folder / "polyrank.yaml").read_text(encoding="utf-8"))
    document["source"]["items"] = {"type": "parquet", "path": "items.parquet"}
    (folder / "polyrank.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    run(folder, "refresh", "index")
    grown = ReleaseStore(folder / ".polyrank" / "releases").list()[0]
    assert grown.parent == finance.release_id
    assert load_release(folder / ".polyrank" / "releases" / grown.release_id).parts == ("encoder", "items")
    document["source"]["events"] = {"type": "parquet", "path": "events.parquet"}
    (folder / "polyrank.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    bought = {"user_id": ["u"], "item_id": ["about-tea"], "event": ["purchase"], "timestamp": [T]}
    pl.DataFrame(bought).write_parquet(folder / "events.parquet")
    refused = run(folder, "refresh", "index", code=1)
    assert f"release {finance.release_id}: expected collaborative/ to keep, found none" in refused


def test_labels_are_asked_for_and_words_explained_without_events(finance: Made, run: Callable[..., str]) -> None:
    out = finance.folder / "next.csv"
    unlabelled = [None if row % 8 in (1, 2) else thing for row, (thing, _, _) in enumerate(ROWS)]
    texts(intent=unlabelled).write_parquet(finance.folder / "texts.parquet")
    try:
        run(finance.folder, "refresh", "features")
        run(finance.folder, "label-queue", "intent", "--out", str(out))
    finally:
        texts().write_parquet(finance.folder / "texts.parquet")
        run(finance.folder, "refresh", "features")
    # Of rows 1 and 2 of eight, 1 is of the test: it is no text to label.
    assert sorted(pl.read_csv(out)["text_id"]) == sorted(f"t{row}" for row in range(80) if row % 8 == 2)
    assert "soap" in run(finance.folder, "attribute", "intent", "--text", "soap is 1", "--steps", "2")


def test_garbage_in_the_test_split_changes_no_weight(finance: Made, tmp_path: Path) -> None:
    """Not even the name of the encoder's step: nothing that training reads, however indirectly, holds a test row."""
    own = Workspace.load(finance.folder)
    folder = tmp_path / "garbage"
    shutil.copytree(finance.folder, folder, ignore=shutil.ignore_patterns(".polyrank"))
    test = [number == 1 for _, _, number in ROWS]

    def spoilt(column: str, garbage: Any) -> list[Any]:
        sound = texts()[column].to_list()
        return [garbage if held else value for held, value in zip(test, sound, strict=True)]

    garbage = {"intent": "nonsense", "drink": 1, "size": -1e6, "slots": ["Z", "Z", "Z"], "text": "number number"}
    texts(**{column: spoilt(column, value) for column, value in garbage.items()}).write_parquet(
        folder / "texts.parquet"
    )
    build = Build.start(Workspace.load(folder), Settings(), None)
    before = Build.start(own, Settings(), None)
    assert build.tables.name != before.tables.name
    assert build.encoder_key == before.encoder_key
    mine, theirs = build.training_data(), before.training_data()
    assert [task.classes for task in mine.tasks] == [task.classes for task in theirs.tasks]
    trained = build.encoder()
    for name in ("heads.safetensors", "model.safetensors"):
        assert (trained / name).read_bytes() == (before.encoder() / name).read_bytes()


def test_texts_and_items_are_indexed_and_found(desk: Made) -> None:
    release = desk.folder / ".polyrank" / "releases" / desk.release_id
    assert {path.name for path in release.iterdir()} >= {"encoder", "index", "items", "vectors"}
    assert not (release / "collaborative").exists()
    assert [path.name for path in (release / "vectors").iterdir()] == ["items.npy"]
    answer = next(row for row in desk.report.texts if row.task == "answer")
    figures = {own.metric: own for own in answer.figures}
    # The constant order's first item answers one text in four.
    assert figures["recall_at_1"].constant == 0.25
    assert figures["mrr"].constant == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert figures["recall_at_1"].figure.value > 0.9
    assert desk.report.data is not None
    assert desk.report.data.eligible_items == 4
    assert desk.report.index[0].recall.value == 1


def test_an_answer_is_found_by_the_text_that_asks_for_it(desk: Made) -> None:
    with served(desk) as http:
        found = http.post("/v1/candidates", json={"text": "bread likes 1", "k": 4}).raise_for_status().json()
        assert found["candidates"][0]["item_id"] == "about-bread"
        assert len(found["candidates"]) == 4
        similar = http.get("/v1/similar/about-tea").raise_for_status().json()["candidates"]
        assert {one["item_id"] for one in similar} == {"about-coffee", "about-bread", "about-soap"}
        intent = http.post("/v1/predict", json={"texts": ["tea is 1"]}).raise_for_status().json()
        assert intent["predictions"][0]["tasks"]["intent"]["label"] == "tea"
        unknown = http.post("/v1/candidates", json={"user_id": "u"})
        assert "expected users, found a release with encoder, items alone" in unknown.json()["detail"]


def test_new_items_are_indexed_with_the_same_encoder_and_taken_back(desk: Made, run: Callable[..., str]) -> None:
    store = ReleaseStore(desk.folder / ".polyrank" / "releases")
    items = pl.read_parquet(desk.folder / "items.parquet")
    more = pl.DataFrame({"item_id": ["about-gifts"], "title": ["gift gift"]})
    pl.concat([items, more]).write_parquet(desk.folder / "items.parquet")
    ItemLog(WorkspaceFolder.find(desk.folder).item_log).append(
        [
            ItemChange(item_id="about-numbers", values={"title": "number number"}),
            ItemChange(item_id="about-tea", values={"title": "tea tea tea"}),
        ],
        T,
    )
    run(desk.folder, "refresh", "index")
    refreshed = store.list()[0].release_id
    assert store.manifest(refreshed).parent == desk.release_id
    retriever = load_release(store.path(refreshed)).retriever
    assert retriever is not None
    assert retriever.snapshot.item_ids[-2:] == ["about-gifts", "about-numbers"]
    assert [retriever.snapshot.titles[retriever.position(f"about-{name}")] for name in ("tea", "numbers")] == [
        "tea tea tea",
        "number number",
    ]
    encoder = TextEncoder.load(store.path(refreshed) / ENCODER_DIR)
    np.testing.assert_allclose(retriever.item_vectors[-1], encoder.encode(["number number"], "item")[0], atol=1e-5)
    catalogue = CatalogueConfig.load(store.path(refreshed))
    assert catalogue is not None
    assert catalogue.item_sequence == 2
    # What a task's filter may name in training, a request's may name too.
    found = retriever.candidates(None, 5, text="soap", limits=Limits(filter='title == "tea tea tea"')).candidates.items
    assert found.tolist() == [retriever.position("about-tea")]
    run(desk.folder, "evaluate", refreshed)
    run(desk.folder, "publish", refreshed)
    assert store.current() == refreshed
    run(desk.folder, "rollback")
    assert store.current() == desk.release_id


def test_studies_of_texts_read_no_test_split(desk: Made) -> None:
    build = Build.start(Workspace.load(desk.folder), Settings(), None)
    data = study_data(build)
    held_out = set(texts().filter(pl.col("split") == "test")["text"])
    parts = (data.texts, data.validation_texts, data.test_texts)
    assert all(len(part.texts) for part in parts)
    assert not held_out & {text for part in parts for text in part.texts}
    assert not data.cuts


def test_task_values_and_tuning_need_no_events(tmp_path: Path, encoder_lines: dict[str, Any]) -> None:
    cheap = {**encoder_lines, "steps": 2, "validate_every": 1, "baseline_batches": 1}
    folder = str(write(tmp_path / "studied", cheap, [*ON_TEXT[:1], ANSWER], items=True))
    values = task_values(folder, seeds=1)
    assert {row.target for row in values.targets} == {"intent", "answer"}
    found = tune(folder, trials=1, seeds=1)
    assert {row.task for row in found.gains} == {"intent", "answer"}
