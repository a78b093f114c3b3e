"""Customer service from the workspace file to the reply, and from the reply to what the next release learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from fastapi.testclient import TestClient

from features.schema import TEXT, TEXT_ID
from features.tables import read_tables
from flows.build import Build
from flows.phrase_server.app import create_app
from flows.phrase_server.model import CausalModel
from flows.report import REPORT_JSON, read
from flows.serve import service_parts
from flows.workspace import Workspace
from infra.releases import ReleaseStore
from infra.settings import Settings
from ranking.answers import load_release
from ranking.client import RankingClient
from ranking.reply.phrasing import conversation
from ranking.service import create_combined_app
from tests.flows.stages.test_texts_workspace import ANSWER, ON_TEXT, write
from tests.flows.tiny_phraser import write_phraser
from tests.loopback import serving

REPLY: dict[str, Any] = {
    "intent": "intent", "answers": "answer", "slots": "slots", "given": ["day"], "passages": 1,
    "templates": {"tea": "{slots} comes on {day}."}, "thresholds": {"intent": 0.5, "similarity": 0.3},
}  # fmt: skip
# Neither is a text of the workspace.
BREAD, COFFEE = "bread likes bread", "coffee likes coffee"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, encoder_lines: dict[str, Any], run: Callable[..., str]) -> Path:
    tasks = [ON_TEXT[0], ON_TEXT[3], ANSWER]
    lines = {**encoder_lines, "steps": 120}
    folder = write(tmp_path_factory.mktemp("replies") / "desk", lines, tasks, items=True, reply=REPLY)
    items = pl.read_parquet(folder / "items.parquet")
    items.with_columns(pl.lit("shop").alias("area")).write_parquet(folder / "items.parquet")
    assert "replies: 1 templates, passages by answer" in run(folder, "validate")
    run(folder, "refresh", "model")
    store = ReleaseStore(Workspace.load(folder).releases)
    store.publish(store.list()[0].release_id)
    return folder


def served(folder: Path, **settings: Any) -> TestClient:
    parts = service_parts(Workspace.load(folder), Settings.model_validate(settings))
    parts.watcher.load_initial()
    return TestClient(create_combined_app(parts))


def reply(http: TestClient, text: str, **body: Any) -> dict[str, Any]:
    found: dict[str, Any] = http.post("/v1/reply", json={"text": text, **body}).raise_for_status().json()
    return found


def test_a_sure_intent_a_passage_or_a_person_replies(desk: Path) -> None:
    with served(desk) as http:
        tea = reply(http, "tea is 0", slots={"day": "Monday"})
        assert (tea["kind"], tea["text"], tea["phrased"]) == ("template", "tea comes on Monday.", False)
        lacking = reply(http, "tea is 0")
        assert (lacking["kind"], lacking["missing_slots"]) == ("passages", ["day"])
        bread = reply(http, "bread is 0")
        assert (bread["kind"], bread["text"]) == ("passages", "gift bread")
        assert [source["item_id"] for source in bread["sources"]] == ["about-bread"]
        assert bread["degraded"] == []
        nobody = reply(http, "bread is 0", filter='area == "elsewhere"')
        assert (nobody["kind"], nobody["sources"]) == ("hand_over", [])


def test_an_evaluation_tells_how_held_out_texts_are_replied_to(desk: Path, run: Callable[..., str]) -> None:
    assert "Replies to held-out texts" in run(desk, "evaluate")
    workspace = Workspace.load(desk)
    current = ReleaseStore(workspace.releases).current()
    assert current is not None
    found = read(workspace.reports / current / REPORT_JSON).replies
    assert found is not None
    assert (found.rows, found.n) == ("texts of split test", 20)
    kinds = {own.kind: own for own in found.kinds}
    # One thing of four has a template, whose day the caller gives; the others' passages name them. A word of each text
    # is its label: it is learnt.
    for kind, due in (("template", 5), ("passages", 15)):
        precision, recall = kinds[kind].precision, kinds[kind].recall
        assert precision is not None
        assert recall is not None
        assert (precision.value > 0.9, recall.value > 0.8, recall.n) == (True, True, due), kind
    # No label tells what is out of scope.
    assert kinds["hand_over"].precision is None
    assert found.missed == kinds["hand_over"].texts
    assert [row.threshold for row in found.intent if row.served] == [0.5]
    assert [row.threshold for row in found.similarity if row.served] == [0.3]
    with served(desk) as http:
        # The same decision as the service's.
        texts = pl.read_parquet(desk / "texts.parquet").filter(pl.col("split") == "test")["text"].to_list()
        said = [reply(http, text, slots={"day": "Monday"})["kind"] for text in texts]
    assert {kind: said.count(kind) for kind in kinds} == {kind: own.texts for kind, own in kinds.items()}


def test_a_turn_and_what_is_said_of_it_train_the_next_release(desk: Path, run: Callable[..., str]) -> None:
    before = Build.start(Workspace.load(desk), Settings(), None)
    with serving(served(desk).app) as url, RankingClient(url, timeout_s=30) as client:  # type: ignore[arg-type]
        asked = client.reply(BREAD, conversation_id="c", user_id="u")
        client.feedback(asked.request_id, intent="soap", item_id="about-soap")
        client.reply(COFFEE)
    after = Build.start(Workspace.load(desk), Settings(), None)
    rows = read_tables(after.tables).texts.filter(pl.col(TEXT_ID).str.starts_with("turn-"))
    labels = {row[TEXT]: (row["intent"], row["answer"]) for row in rows.to_dicts()}
    assert labels[BREAD] == ("soap", "about-soap")
    assert labels[COFFEE] == (None, None)
    assert after.encoder_key != before.encoder_key
    data = after.training_data()
    assert BREAD in [*data.texts.texts, *data.validation_texts.texts]
    assert COFFEE in data.unlabelled
    out = desk / "queue.csv"
    run(desk, "label-queue", "intent", "--out", str(out))
    assert COFFEE in pl.read_csv(out)[TEXT].to_list()
    assert BREAD not in pl.read_csv(out)[TEXT].to_list()


def test_logging_turned_off_reads_no_turn(desk: Path, tmp_path: Path) -> None:
    document = yaml.safe_load((desk / "polyrank.yaml").read_text(encoding="utf-8"))
    document["reply"]["log_turns"] = False
    for name in ("texts", "items"):
        document["source"][name]["path"] = str(desk / f"{name}.parquet")
    (tmp_path / "polyrank.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    workspace = Workspace.load(tmp_path)
    workspace.turn_log.parent.mkdir(parents=True)
    workspace.turn_log.write_bytes(Workspace.load(desk).turn_log.read_bytes())
    texts = read_tables(Build.start(workspace, Settings(), None).tables).texts
    assert texts.height == 80


def test_a_changed_template_is_a_release_without_training(desk: Path, run: Callable[..., str]) -> None:
    store = ReleaseStore(Workspace.load(desk).releases)
    file = desk / "polyrank.yaml"
    sound = file.read_text(encoding="utf-8")
    try:
        file.write_text(sound.replace("{slots} comes on", "Your {slots} comes on"), encoding="utf-8")
        run(desk, "refresh", "index")
        file.write_text(sound.replace("tea: '{slots}", "tee: '{slots}"), encoding="utf-8")
        assert "unknown intent 'tee'; did you mean 'tea'?" in run(desk, "refresh", "model", code=2)
    finally:
        file.write_text(sound, encoding="utf-8")
    newest = store.list()[0]
    assert newest.parent == store.current()
    replies = load_release(store.path(newest.release_id)).replies
    assert replies is not None
    assert replies.templates == {"tea": "Your {slots} comes on {day}."}


def test_a_model_phrases_replies_and_its_loss_costs_the_phrasing_alone(desk: Path, tmp_path: Path) -> None:
    messages = conversation("bread is 0", "gift bread")
    prompt = "\n\n".join([*(message.content for message in messages), "Reply:\n"])
    model = CausalModel.load(write_phraser(tmp_path / "model", prompt, "Bread is a gift!"))
    with serving(create_app(model, Settings())) as url:
        settings = {"phrasing_url": f"{url}/v1", "phrasing_timeout_s": 60}
        with served(desk, **settings) as http:
            found = reply(http, "bread is 0")
            assert (found["text"], found["phrased"], found["degraded"]) == ("Bread is a gift!", True, [])
            assert found["sources"][0]["text"] == "gift bread"
    with served(desk, **settings) as http:
        found = reply(http, "bread is 0")
        assert (found["text"], found["phrased"]) == ("gift bread", False)
        assert found["degraded"] == ["phrasing_unavailable"]
