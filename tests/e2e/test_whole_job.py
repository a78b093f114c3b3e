"""The whole main job on a small slice of real data: what was built is what is served, and serving stays up."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import polars as pl
import pytest
from journey import CUT, Built, Server, polyrank

from features.store import FeatureStore
from flows.build import Build
from flows.explain import UnknownUserError, explain_item
from flows.report import read
from flows.stages.release import ReleaseParts
from flows.workspace import Workspace
from infra.errors import InvalidInputError
from infra.releases import ReleaseStore
from infra.settings import Settings
from ranking.answers import load_release
from ranking.client import RankingClient
from ranking.contract import ClassPrediction, TagsPrediction
from ranking.predictions import of_texts
from retrieval import layout
from retrieval.quota import SOURCES


def test_report_holds_every_section(built: Built) -> None:
    folder = built.folder / ".polyrank" / "reports" / built.release_id
    report = read(folder / "report.json")
    assert {row.task for row in report.tasks} >= {"purchase", "repurchase"}
    assert {row.scorer for row in report.tasks} == {"encoder head", "GBDT", "blend"}
    assert {row.task for row in report.texts} == {"topic", "tone", "slots"}
    assert {row.rows for row in report.texts} == {"texts from 2017-12-04 00:00 on"}
    assert len(report.rankings) == len(report.retrieval) == 2
    assert [row.source for row in report.retrieval[0].sources] == [*SOURCES, "campaign", "merged"]
    assert "sequence model" in {row.scorer for row in report.rankings[0].scorers}
    assert report.ablation
    assert len(report.examples) == 3
    assert report.index[0].recall.value >= 0.5
    assert report.relatedness is not None
    assert {"purchase", "topic", "demand"} <= set(report.relatedness.names)
    assert any(value for row in report.relatedness.affinity or () for value in row)
    assert report.audit is not None
    assert {row.column for row in report.audit.comparisons} == {"age", "brand"}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert 'src="http' not in page


def test_texts_to_label_next_are_those_without_a_label(built: Built) -> None:
    out = polyrank(built.folder, "label-queue", "topic", "--out", str(built.folder / "next.csv"), "--size", "3")
    queue = pl.read_csv(built.folder / "next.csv")
    assert "wrote" in out
    texts = pl.read_parquet(built.folder / "texts.parquet")
    unlabelled = texts.filter(pl.col("topic").is_null())["text_id"].cast(pl.String).to_list()
    assert queue.height == min(3, len(unlabelled))
    assert set(queue["text_id"].cast(pl.String)) <= set(unlabelled)


def test_pseudo_labels_were_given_to_texts_without_a_label(built: Built) -> None:
    encoder = built.folder / ".polyrank" / "releases" / built.release_id / "encoder"
    found = json.loads((encoder / "few_labels.json").read_bytes())
    texts = pl.read_parquet(built.folder / "texts.parquet")
    unlabelled = set(texts.filter(pl.col("topic").is_null())["text"])
    given = {row["text"] for row in found["labels"]}
    assert given
    assert given <= unlabelled


def test_a_heads_words_are_told_apart(built: Built) -> None:
    out = polyrank(built.folder, "attribute", "topic", "--text", "where is my order of bread", "--steps", "4")
    assert "class" in out
    assert "bread" in out
    folder = built.folder / ".polyrank" / "reports" / built.release_id
    assert "bread" in (folder / "attributions-topic.html").read_text(encoding="utf-8")
    out = polyrank(built.folder, "attribute", "slots", "--unit", "3", "--text", "your stale bread", "--steps", "4")
    assert "unit 3 (bread), tag" in out


def test_an_items_place_is_explained_by_parts_that_add_up(built: Built) -> None:
    release = ReleaseStore(built.folder / ".polyrank" / "releases").path(built.release_id)
    golden = json.loads((release / "warmup.json").read_bytes())["ranking"][0]
    user, item = golden["user"]["user_id"], golden["items"][0]
    out = polyrank(built.folder, "explain", "--user", user, "--item", item, "--objective", "100 * purchase - 1")
    assert "= 100 * purchase - 1" in out
    assert re.search(r"place +\d+ of \d+ candidates", out)
    shown = out[out.index("Logit of purchase") : out.index("Strongest features")]
    *parts, logit = (float(found.replace("−", "-")) for found in re.findall(r"[+-]\d+\.\d{3}", shown))
    assert len(parts) == 9
    assert sum(parts) == pytest.approx(logit, abs=0.0005 * 9)
    with pytest.raises(InvalidInputError, match=r"unknown task on pairs 'purchse'; did you mean 'purchase'\?"):
        explain_item(str(built.folder), user, item, task="purchse")
    with pytest.raises(UnknownUserError, match="found 'nobody'"):
        explain_item(str(built.folder), "nobody", item)


def test_release_saw_nothing_at_or_after_its_as_of_time(built: Built) -> None:
    manifest = ReleaseStore(built.folder / ".polyrank" / "releases").manifest(built.release_id)
    assert manifest.as_of == CUT
    build = Build.start(Workspace.load(built.folder), Settings(), CUT)
    assert build.data.events["timestamp"].max() < CUT
    assert build.data.tables.texts["timestamp"].max() < CUT
    assert all(build.plan.end(cut) <= CUT for cut in build.plan.ranker)
    assert build.plan.end(build.plan.encoder_validation) <= min(build.plan.ranker)


def test_golden_rows_are_equal_offline_and_online(built: Built) -> None:
    # Offline: Feast's point-in-time join. Online: one read of the materialised row.
    workspace = Workspace.load(built.folder)
    offline = Build.start(workspace, Settings(), CUT).features.users(CUT)
    online = FeatureStore(workspace.feast, Settings())
    ranker = load_release(workspace.releases / built.release_id).ranker
    for user in [user for user in offline if len(user.items)][:10]:
        row = online.online_user(user.user_id)
        assert row.as_of == user.as_of
        for name in ("stats", "items", "history", "categories", "category_stats"):
            np.testing.assert_array_equal(getattr(row, name), getattr(user, name))
        items = ranker.retriever.candidates(user, 50).candidates.items
        np.testing.assert_array_equal(ranker.score(row, items).features, ranker.score(user, items).features)
        np.testing.assert_array_equal(
            ranker.score(row, items).tasks["purchase"], ranker.score(user, items).tasks["purchase"]
        )


def _parts(build: Build, encoder: Path) -> ReleaseParts:
    return ReleaseParts(
        encoder=encoder, scene=build.scene(CUT, encoder), models=build.models(encoder), merge=build.merge(encoder)
    )


def test_second_run_reuses_every_step(built: Built) -> None:
    runs = built.folder / ".polyrank" / "runs"
    before = {path: path.stat().st_ino for path in runs.glob("*")}
    build = Build.start(Workspace.load(built.folder), Settings(), CUT)
    encoder = build.encoder()
    assert build.release(_parts(build, encoder)) == built.release_id
    assert {path: path.stat().st_ino for path in before} == before


def test_served_order_is_the_evaluated_one(built: Built, server: Server) -> None:
    workspace = Workspace.load(built.folder)
    users = [user for user in Build.start(workspace, Settings(), CUT).features.users(CUT) if len(user.items)][:5]
    ranker = load_release(workspace.releases / built.release_id).ranker
    with RankingClient(server.url, timeout_s=30) as client:
        for user in users:
            answer = client.recommend(user_id=user.user_id, k=20)
            found = ranker.rank(user, ranker.retriever.candidates(user, 500).candidates.items, k=20)
            assert answer.release == built.release_id
            assert answer.degraded == []
            assert [item.item_id for item in answer.items] == [
                ranker.retriever.snapshot.item_ids[position] for position in found.items
            ]


def test_an_event_changes_the_next_answer(built: Built, server: Server) -> None:
    workspace = Workspace.load(built.folder)
    user = next(user for user in Build.start(workspace, Settings(), CUT).features.users(CUT) if len(user.items) > 5)
    ranker = load_release(workspace.releases / built.release_id).ranker
    ids = ranker.retriever.snapshot.item_ids
    bought = set(user.items.tolist())
    new = next(item for item in ranker.retriever.snapshot.eligible_positions.tolist() if item not in bought)
    event = {
        "event_id": "e2e-1", "user_id": user.user_id, "item_id": ids[new], "event": "purchase",
        "timestamp": "2017-12-04T10:00:00Z", "value": 2.5, "quantity": 1,
    }  # fmt: skip
    before, led_to = _tasks(server, user.user_id, ids[new]), _sequence(server, user.user_id)
    assert "repurchase" not in before
    first = httpx.post(f"{server.url}/v1/events", json=event)
    assert first.status_code == 202
    assert first.json()["accepted"] == 1
    assert httpx.post(f"{server.url}/v1/events", json=event).json()["duplicates"] == 1
    assert "repurchase" in _tasks(server, user.user_id, ids[new])
    assert len(led_to) == 20
    assert _sequence(server, user.user_id) != led_to


def _tasks(server: Server, user_id: str, item_id: str) -> dict[str, float]:
    body = {"user_id": user_id, "items": [{"item_id": item_id}]}
    answer = httpx.post(f"{server.url}/v1/rank", json=body).raise_for_status().json()
    tasks: dict[str, float] = answer["items"][0]["tasks"]
    return tasks


def _sequence(server: Server, user_id: str) -> list[str]:
    body = {"user_id": user_id, "k": 20, "sources": ["sequence"]}
    answer = httpx.post(f"{server.url}/v1/candidates", json=body).raise_for_status().json()
    assert {source for row in answer["candidates"] for source in row["sources"]} == {"sequence"}
    return [row["item_id"] for row in answer["candidates"]]


def test_a_running_campaign_is_among_the_candidates_of_whom_it_addresses(built: Built, server: Server) -> None:
    tables = Build.start(Workspace.load(built.folder), Settings(), CUT).data.tables
    marked = {}
    aged = pl.col("age") == "45-54"
    for addressed, rows in ((True, tables.users.filter(aged)), (False, tables.users.filter(~aged))):
        body = {"user_id": rows["user_id"][0], "k": 100}
        answer = httpx.post(f"{server.url}/v1/candidates", json=body).raise_for_status().json()
        marked[addressed] = [row["item_id"] for row in answer["candidates"] if "campaign" in row["sources"]]
        recommended = httpx.post(f"{server.url}/v1/recommend", json={**body, "k": 5}).raise_for_status().json()
        assert len(recommended["items"]) == 5
    assert not marked[False]
    assert len(marked[True]) == 20
    brands = dict(tables.items.select("item_id", "brand").iter_rows())
    assert {brands[item] for item in marked[True]} == {"Private"}


def test_a_later_event_leaves_the_release_of_an_earlier_time(built: Built) -> None:
    """The event above is in the tables now; what was built as of a time before it is found, not built again."""
    workspace = Workspace.load(built.folder)
    build = Build.start(workspace, Settings(), CUT)
    assert pl.read_parquet(build.tables / "events.parquet")["timestamp"].max() >= CUT
    steps = set(workspace.runs.iterdir())
    encoder = build.encoder()
    assert build.release(_parts(build, encoder)) == built.release_id
    assert set(workspace.runs.iterdir()) == steps


def test_unknown_user_and_text_query_are_answered(server: Server) -> None:
    answer = httpx.post(f"{server.url}/v1/recommend", json={"user_id": "nobody", "k": 5}).raise_for_status().json()
    assert len(answer["items"]) == 5
    assert "unknown_user" in answer["degraded"]
    found = httpx.post(f"{server.url}/v1/candidates", json={"text": "milk", "k": 5}).raise_for_status().json()
    assert len(found["candidates"]) == 5


def test_a_filter_holds_and_a_bad_one_is_pointed_at(built: Built, server: Server) -> None:
    items = Build.start(Workspace.load(built.folder), Settings(), CUT).data.tables.items
    brands = dict(zip(items["item_id"], items["brand"], strict=True))
    own = 'brand == "Private" and not mean_price >= 3'
    for path, part, query in (
        ("candidates", "candidates", {"text": "milk", "k": 20}),
        ("recommend", "items", {"user_id": "nobody", "k": 5}),
    ):
        answer = httpx.post(f"{server.url}/v1/{path}", json={**query, "filter": own}).raise_for_status().json()
        assert {brands[row["item_id"]] for row in answer[part]} == {"Private"}
        refused = httpx.post(f"{server.url}/v1/{path}", json={**query, "filter": 'brand = "Private"'})
        assert refused.status_code == 422
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["detail"].split("\n") == [
            "filter, character 7: expected '==', found '='",
            '    brand = "Private"',
            "          ^",
        ]


def test_predicts_churn(built: Built, server: Server) -> None:
    users = [
        user
        for user in Build.start(Workspace.load(built.folder), Settings(), CUT).features.users(CUT)
        if len(user.items)
    ]
    body = {"user_ids": [user.user_id for user in users[:3]]}
    answer = httpx.post(f"{server.url}/v1/predict", json=body).raise_for_status().json()
    if answer["predictions"][0]["tasks"]:
        assert all(0 < row["tasks"]["churn"] < 1 for row in answer["predictions"])


def test_predicts_texts_by_their_heads(built: Built, server: Server) -> None:
    texts = ["the milk was sour", "please deliver on monday"]
    predictor = load_release(Workspace.load(built.folder).releases / built.release_id).predictor
    with RankingClient(server.url, timeout_s=30) as client:
        answer = client.predict(texts=texts)
        with pytest.raises(InvalidInputError, match=r"unknown text task 'slot'; did you mean 'slots'"):
            client.predict(texts=texts, tasks=["slot"])
    expected = of_texts(predictor, texts, ["topic", "tone", "slots"])
    for row, one in enumerate(answer.predictions):
        topic, offline = one.tasks["topic"], expected["topic"][row]
        assert isinstance(topic, ClassPrediction)
        assert isinstance(offline, ClassPrediction)
        assert set(topic.probabilities) == {"billing", "delivery", "quality"}
        assert sum(topic.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert topic.probabilities == pytest.approx(offline.probabilities, abs=1e-5)
        assert one.tasks["tone"] == pytest.approx(expected["tone"][row], abs=1e-5)
        slots, whole = one.tasks["slots"], expected["slots"][row]
        assert isinstance(slots, TagsPrediction)
        assert isinstance(whole, TagsPrediction)
        assert [unit.text for unit in slots.tags] == texts[row].split()
        assert [unit.tag for unit in slots.tags] == [unit.tag for unit in whole.tags]
        assert [unit.probability for unit in slots.tags] == pytest.approx([unit.probability for unit in whole.tags])
        # The only tag but O is B: each slot is one word.
        assert [slot.text for slot in slots.slots] == [unit.text for unit in slots.tags if unit.tag == "B"]
    # The texts differ, and so do their answers.
    assert answer.predictions[0].tasks["tone"] != answer.predictions[1].tasks["tone"]


def test_predicts_the_demand_of_products_and_the_spend_of_users(built: Built, server: Server) -> None:
    build = Build.start(Workspace.load(built.folder), Settings(), CUT)
    items = build.data.tables.items
    products = items.filter(pl.col("kind") == "product")["item_id"].head(2).to_list()
    coupon = items.filter(pl.col("kind") == "coupon")["item_id"][0]
    user = next(user for user in build.features.users(CUT) if len(user.items))
    with RankingClient(server.url, timeout_s=30) as client:
        found = client.predict(item_ids=[*products, coupon, "gone"])
        spend = client.predict([user.user_id], tasks=["spend"]).predictions[0].tasks["spend"]
    assert [set(one.tasks) for one in found.predictions] == [{"demand"}, {"demand"}, set(), set()]
    assert found.degraded == ["unknown_items"]
    heads = load_release(build.workspace.releases / built.release_id).predictor.heads
    assert heads is not None
    vectors = np.load(build.workspace.releases / built.release_id / "vectors" / "items.npy")
    assert found.predictions[0].tasks["demand"] == pytest.approx(
        float(heads.row_logits("demand", vectors[:1])[0]), abs=1e-5
    )
    # Three steps learn no more than the mean: dollars of a household in four weeks, not a share.
    assert isinstance(spend, float)
    assert spend > 10


def test_index_refresh_publish_and_rollback_under_load(built: Built, server: Server) -> None:
    """A release with new vectors is published and taken back while requests run; none of them fails."""
    store = ReleaseStore(built.folder / ".polyrank" / "releases")
    out = polyrank(built.folder, "refresh", "index")
    refreshed = store.list()[0].release_id
    assert refreshed in out
    assert refreshed != built.release_id
    assert store.manifest(refreshed).parent == built.release_id
    for part in (layout.MERGE, f"{layout.SEQUENCE_DIR}/weights.safetensors"):
        own, kept = ((store.path(release) / part).read_bytes() for release in (built.release_id, refreshed))
        assert own == kept
    assert load_release(store.path(refreshed)).ranker.models.schema.sequence
    polyrank(built.folder, "evaluate", refreshed)
    _assert_level(built, refreshed)
    steps = [["publish", refreshed], ["rollback"]]
    for arguments, expected in zip(steps, (refreshed, built.release_id), strict=True):
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *arguments, "-w", str(built.folder)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert _ask_until(server, expected), f"the service never answered from {expected}"
        assert process.wait(60) == 0


def _assert_level(built: Built, refreshed: str) -> None:
    """The same models over the same items answer every user alike: each metric is a tie, which the gate lets pass."""
    beside = read(built.folder / ".polyrank" / "reports" / refreshed / "report.json").beside
    assert beside is not None
    assert (beside.release_id, beside.void, beside.lacking) == (built.release_id, "", ())
    assert {"ndcg", "new_items_mrr", "auc.purchase", "log_loss.churn", "accuracy.topic"} <= {
        row.name for row in beside.rows
    }
    for row in beside.rows:
        assert row.candidate == row.current
        assert (row.difference.value, row.difference.low, row.difference.high) == (0, 0, 0)


def _ask_until(server: Server, release: str, timeout_s: float = 90) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        answer = httpx.post(f"{server.url}/v1/recommend", json={"user_id": "nobody", "k": 3}, timeout=10)
        assert answer.status_code == 200, answer.text
        if answer.json()["release"] == release:
            return True
        time.sleep(0.05)
    return False


def test_serving_imports_no_torch() -> None:
    code = "import sys, flows.serve, ranking.service, retrieval.encoder.runtime; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_public_address_without_keys_is_refused(built: Built) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "serve", "-w", str(built.folder), "--host", "0.0.0.0"],  # noqa: S104
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "POLYRANK_API_KEYS" in done.stderr


def test_corrupt_release_is_refused(built: Built, tmp_path: Path) -> None:
    store = ReleaseStore(built.folder / ".polyrank" / "releases")
    copy = tmp_path / "releases"
    shutil.copytree(store.root, copy)
    blend = copy / built.release_id / "ranking" / "blend.json"
    blend.chmod(0o644)
    blend.write_text(json.dumps({}))
    with pytest.raises(Exception, match=r"blend\.json"):
        ReleaseStore(copy).publish(built.release_id)
