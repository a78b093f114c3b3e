"""The service on loopback, through its own clients, on a real release, a real Feast store and a real event log."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest

from features.event_log import Event, EventLog
from features.events import EventProcessor, UserBase, write_user_base
from features.schema import ITEM_ID, USER_ID, UserFeatures
from features.store import FeatureStore, FeaturesUnavailableError
from features.tables import Tables
from features.transforms import FeatureConfig
from infra.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError
from infra.releases import ReleaseStore
from infra.settings import Settings
from infra.telemetry import Metrics
from infra.watcher import ReleaseWatcher
from ranking.answers import LoadedRelease, load_release
from ranking.client import AsyncRankingClient, RankingClient
from ranking.contract import ClassPrediction, RankResponse, SlotPrediction, TagPrediction, TagsPrediction
from ranking.rules.config import Boost, Discovery, Frequency, Named, Pin, Rules
from ranking.service import Parts, create_app, create_combined_app
from retrieval.lazy_encoder import TextEncoderLike
from tests.loopback import serving

CUT = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=140)


class Switchable:
    """The real feature store behind a switch that cuts it off; counts reads."""

    def __init__(self, store: FeatureStore) -> None:
        self.store = store
        self.reachable = True
        self.reads = 0

    def online_user(self, user_id: str) -> UserFeatures:
        self.reads += 1
        if not self.reachable:
            raise FeaturesUnavailableError("feature store read: connection refused")
        return self.store.online_user(user_id)


@dataclass
class Running:
    url: str
    features: Switchable
    parts: Parts
    client: RankingClient


def load_with(encoder: TextEncoderLike) -> Callable[[Path], LoadedRelease]:
    """Return what loads a release and gives it a text encoder: these releases carry no transformer."""

    def load(release: Path) -> LoadedRelease:
        loaded = load_release(release)
        loaded.predictor.texts.load = lambda: encoder
        return loaded

    return load


@pytest.fixture(scope="module")
def feature_store(tmp_path_factory: pytest.TempPathFactory, world) -> FeatureStore:  # type: ignore[no-untyped-def]
    store = FeatureStore(tmp_path_factory.mktemp("feast"), Settings())
    store.apply()
    store.write_snapshot(world.frames(CUT), pl.Series(world.user_ids), world.items[ITEM_ID])
    store.materialize(CUT)
    return store


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory, world, feature_store: FeatureStore) -> EventProcessor:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("events")
    events = world.events.with_columns(
        pl.Series(USER_ID, world.user_ids).gather(world.events["user"]),
        world.items[ITEM_ID].gather(world.events["item"]).alias(ITEM_ID),
    ).drop("user", "item")
    tables = Tables(items=world.items, users=pl.DataFrame({USER_ID: world.user_ids}), events=events)
    write_user_base(folder / "base", tables, world.categories, CUT, 0)
    log = EventLog(folder / "log.sqlite")
    return EventProcessor(log, feature_store, UserBase.load(folder / "base"), FeatureConfig())


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory, release: Path) -> ReleaseStore:
    store = ReleaseStore(tmp_path_factory.mktemp("store"))
    for name in ("first", "second"):
        with store.create(name, as_of=CUT) as writer:
            shutil.copytree(release, writer.path, dirs_exist_ok=True)
    store.publish("first")
    return store


@pytest.fixture(scope="module")
def parts(
    releases: ReleaseStore, feature_store: FeatureStore, processor: EventProcessor, text_encoder: TextEncoderLike
) -> Parts:
    watcher: ReleaseWatcher[LoadedRelease] = ReleaseWatcher(releases, load_with(text_encoder), 0.05)
    watcher.load_initial()
    return Parts(
        watcher=watcher, store=releases, features=Switchable(feature_store), events=processor,
        settings=Settings(max_batch=500), metrics=Metrics(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def running(parts: Parts) -> Iterator[Running]:
    with serving(create_combined_app(parts)) as url, RankingClient(url, timeout_s=30) as client:
        assert isinstance(parts.features, Switchable)
        yield Running(url, parts.features, parts, client)


@pytest.fixture
def cut_off(running: Running) -> Iterator[Running]:
    running.features.reachable = False
    yield running
    running.features.reachable = True


PRODUCTS = [f"item-{number}" for number in range(90)]


def test_rank(running: Running) -> None:
    answer = running.client.rank("user-1", [*PRODUCTS, "item-95"], k=50, request_id="mine")
    assert answer.request_id == "mine"
    assert answer.release == "first"
    assert answer.degraded == []
    scores = [item.score for item in answer.items]
    assert len(scores) == 50
    assert scores == sorted(scores, reverse=True)
    assert all("purchase" in item.tasks for item in answer.items if item.item_id != "item-95")
    assert any("repurchase" in item.tasks for item in answer.items)
    assert all(item.sources is None for item in answer.items)


def test_recommend_reads_the_user_once_and_keeps_provenance(running: Running) -> None:
    before = running.features.reads
    answer = running.client.recommend("user-1", k=10, candidates=60, filter='kind == "product"', explain=True)
    assert running.features.reads == before + 1
    assert len(answer.items) == 10
    assert answer.degraded == []
    for item in answer.items:
        assert item.sources
        assert item.explanation is not None
        assert item.explanation.reason
        groups = {"history", "category", "item", "cross", "user", "collaborative", "encoder", "base"}
        assert set(item.explanation.contributions) == groups
    assert answer.items[0].explanation is not None
    assert answer.items[0].explanation.reason.startswith("bought ")


def test_recommend_equals_candidates_then_rank(running: Running) -> None:
    whole = running.client.recommend("user-3", k=60, candidates=60)
    found = running.client.candidates(user_id="user-3", k=60)
    ranked = running.client.rank("user-3", [candidate.item_id for candidate in found.candidates])
    assert [item.item_id for item in whole.items] == [item.item_id for item in ranked.items]
    assert [item.score for item in whole.items] == [item.score for item in ranked.items]


def test_filter_and_exclusion_hold(running: Running) -> None:
    answer = running.client.recommend("user-1", k=5, filter='kind == "coupon"', exclude=["item-91"])
    items = [item.item_id for item in answer.items]
    assert len(items) == 5
    assert all(int(item.removeprefix("item-")) >= 90 for item in items)
    assert "item-91" not in items


def test_unknown_user_gets_an_answer(running: Running) -> None:
    answer = running.client.recommend("nobody", k=10)
    assert len(answer.items) == 10
    assert answer.degraded == ["unknown_user"]


def test_unknown_and_repeated_items(running: Running) -> None:
    answer = running.client.rank("user-1", ["item-3", "gone", "item-3", "item-4"])
    assert sorted(item.item_id for item in answer.items) == ["item-3", "item-4"]
    assert answer.unknown_items == ["gone"]
    assert answer.degraded == ["unknown_items"]
    nothing = running.client.rank("user-1", ["gone"])
    assert nothing.items == []


def test_features_cut_off(cut_off: Running) -> None:
    """Last known row for a user read before; defaults for another; never a 5xx."""
    cut_off.features.reachable = True
    fresh = cut_off.client.rank("user-5", PRODUCTS)
    cut_off.features.reachable = False
    stale = cut_off.client.rank("user-5", PRODUCTS)
    assert stale.degraded == ["features_unavailable", "stale_features"]
    assert stale.items == fresh.items
    never = cut_off.client.recommend("user-77", k=3)
    assert "features_unavailable" in never.degraded
    assert len(never.items) == 3
    text = httpx.get(f"{cut_off.url}/metrics").text
    assert 'polyrank_degraded_total{reason="features_unavailable"}' in text


def test_predict(running: Running) -> None:
    answer = running.client.predict(["user-1", "nobody"], tasks=["churn"])
    assert [one.id for one in answer.predictions] == ["user-1", "nobody"]
    assert 0 < answer.predictions[0].tasks["churn"] < 1
    assert answer.predictions[1].tasks == {}
    assert answer.degraded == ["unknown_user"]
    assert set(running.client.predict(["user-1"]).predictions[0].tasks) == {"churn", "spend", "club"}


def test_predict_items(running: Running) -> None:
    """A product has a demand; a coupon is none that is sold, and "gone" is no item of the release."""
    answer = running.client.predict(item_ids=["item-3", "item-95", "gone"])
    assert [set(one.tasks) for one in answer.predictions] == [{"demand"}, set(), set()]
    assert isinstance(answer.predictions[0].tasks["demand"], float)
    assert answer.degraded == ["unknown_items"]


def test_predict_texts(running: Running) -> None:
    answer = running.client.predict(texts=["where is it?", "hello"])
    assert [one.id for one in answer.predictions] == ["where is it?", "hello"]
    for one in answer.predictions:
        topic, urgent = one.tasks["topic"], one.tasks["urgent"]
        assert isinstance(topic, ClassPrediction)
        assert topic.probabilities[topic.label] == topic.probability == max(topic.probabilities.values())
        assert len(topic.probabilities) == 5
        assert isinstance(urgent, float)
        assert 0 < urgent < 1
    assert set(running.client.predict(texts=["hello"], tasks=["urgent"]).predictions[0].tasks) == {"urgent"}


def test_predict_tags(running: Running) -> None:
    """Two words with capitals are two slots, as the tags are B and O; the fourth word of four is not read."""
    answer = running.client.predict(texts=["ship Milk Bread today", "tea"], tasks=["slots"])
    first, second = (one.tasks["slots"] for one in answer.predictions)
    assert first == TagsPrediction(
        tags=[
            TagPrediction(start=0, end=4, text="ship", tag="O", probability=0.75),
            TagPrediction(start=5, end=9, text="Milk", tag="B", probability=0.875),
            TagPrediction(start=10, end=15, text="Bread", tag="B", probability=0.875),
            TagPrediction(start=16, end=21, text="today", tag=None, probability=None),
        ],
        slots=[
            SlotPrediction(name="slots", start=5, end=9, text="Milk", probability=0.875),
            SlotPrediction(name="slots", start=10, end=15, text="Bread", probability=0.875),
        ],
    )
    assert isinstance(second, TagsPrediction)
    assert second.slots == []
    body = {"texts": ["ship Milk Bread today"], "tasks": ["slots"]}
    (sent,) = httpx.post(f"{running.url}/v1/predict", json=body).json()["predictions"]
    # Said, not left out.
    assert sent["tasks"]["slots"]["tags"][3] == {
        "start": 16, "end": 21, "text": "today", "tag": None, "probability": None,
    }  # fmt: skip


def test_predictions_that_do_not_exist(running: Running) -> None:
    with pytest.raises(InvalidInputError, match="unknown user task 'chrn'; did you mean 'churn'"):
        running.client.predict(["user-1"], tasks=["chrn"])
    with pytest.raises(InvalidInputError, match=r"unknown text task 'answer' \(known: slots, topic, urgent\)"):
        running.client.predict(texts=["hello"], tasks=["answer"])
    with pytest.raises(InvalidInputError, match="at most 500 entries, found 501"):
        running.client.predict(texts=["hello"] * 501)
    with pytest.raises(InvalidInputError, match="exactly one of user_ids, item_ids and texts"):
        running.client.predict()
    assert httpx.post(f"{running.url}/v1/predict", json={"user_ids": ["a"], "texts": ["b"]}).status_code == 422


def test_a_formula_orders_and_an_item_that_it_has_no_value_for_has_no_score(running: Running) -> None:
    plain = running.client.rank("user-1", PRODUCTS)
    turned = running.client.rank("user-1", PRODUCTS, objective="1 - 2 * purchase")
    assert sorted(item.score or 0 for item in turned.items) == pytest.approx(
        sorted(1 - 2 * (item.score or 0) for item in plain.items)
    )
    none = running.client.rank("user-1", PRODUCTS, objective="log(purchase - 1)")
    assert [item.score for item in none.items] == [None] * len(plain.items)
    assert {item.item_id for item in none.items} == {item.item_id for item in plain.items}


def test_errors_are_clear(running: Running) -> None:
    with pytest.raises(InvalidInputError, match="unknown task, attribute or feature 'proft'"):
        running.client.rank("user-1", PRODUCTS, objective="proft")
    with pytest.raises(InvalidInputError, match="at most 500 entries, found 600"):
        running.client.recommend("user-1", candidates=600)
    with pytest.raises(InvalidInputError, match="at least 1 item"):
        running.client.rank("user-1", [])
    with pytest.raises(InvalidInputError, match=r"filter, character 1: unknown attribute 'department'"):
        running.client.recommend("user-1", filter='department == "GROCERY"')
    with pytest.raises(ConflictError, match="expected source sequence, found a release with semantic, collaborative"):
        running.client.recommend("user-1", sources=["sequence"])


def test_rules_of_the_request(running: Running) -> None:
    rules = Rules(discovery=Discovery(every=2, first_page=2))
    plain = running.client.rank("user-1", PRODUCTS)
    ruled = running.client.rank("user-1", PRODUCTS, rules=rules)
    assert [item.item_id for item in ruled.items[:2]] == [item.item_id for item in plain.items[:2]]
    bought = ["repurchase" in item.tasks for item in ruled.items]
    assert not any(bought[row] and bought[row + 1] for row in range(2, 20))


def ids(answer: RankResponse) -> list[str]:
    return [item.item_id for item in answer.items]


def test_rules_say_what_they_moved(running: Running) -> None:
    plain = running.client.rank("user-1", PRODUCTS)
    first, second, third, *_, last = ids(plain)
    rules = Rules(
        block=Named(ids=(first,)), bury=Named(ids=(second,)), boost=(Boost(items=f'item_id == "{last}"', places=2),),
        pin=(Pin(ids=(third, first), places=(3,)),),
    )  # fmt: skip
    ruled = running.client.rank("user-1", PRODUCTS, rules=rules)
    assert sorted([*ids(ruled), first]) == sorted(PRODUCTS)
    moved = {item.item_id: item.rules for item in ruled.items if item.rules}
    assert moved == {second: ["bury"], last: ["boost"], third: ["pin"]}
    assert (ids(ruled)[2], ids(ruled)[-1]) == (third, second)
    scores = {item.item_id: item.score for item in plain.items}
    assert all(item.score == scores[item.item_id] for item in ruled.items)  # rules move items, not scores
    body = {"user_id": "user-1", "items": [{"item_id": first}]}
    assert "rules" not in httpx.post(f"{running.url}/v1/rank", json=body).json()["items"][0]


def test_a_pinned_item_need_not_be_a_candidate(running: Running) -> None:
    plain = running.client.recommend("user-1", k=5, candidates=5)
    pinned = next(item for item in PRODUCTS if item not in ids(plain))
    rules = Rules(pin=(Pin(ids=(pinned, "gone"), places=(1,)),))
    ruled = running.client.recommend("user-1", k=6, candidates=5, rules=rules)
    assert ids(ruled)[0] == pinned
    assert set(ids(ruled)) == {pinned, *ids(plain)}
    assert ruled.items[0].sources
    # What the request doesn't allow isn't pinned either.
    for limits in ({"exclude": [pinned]}, {"allow": ids(plain)}, {"filter": 'kind == "coupon"'}):
        found = running.client.recommend("user-1", k=6, candidates=5, rules=rules, **limits)
        assert pinned not in ids(found)


def test_mistakes_in_rules_are_pointed_at(running: Running) -> None:
    body = {"user_id": "user-1", "items": [{"item_id": "item-1"}]}

    def detail(rules: dict[str, object]) -> str:
        answer = httpx.post(f"{running.url}/v1/rank", json=body | {"rules": rules})
        assert answer.status_code == 422
        return str(answer.json()["detail"])

    unfit = detail({"boost": [{"items": 'knd == "coupon"', "places": 3}]})
    assert unfit.startswith("rules.boost.0.items: filter, character 1: unknown attribute 'knd'; did you mean 'kind'?")
    assert unfit.endswith('    knd == "coupon"\n    ^')
    unread = detail({"block": {"items": 'kind = "coupon"'}})
    assert "body.rules.block.items: Value error, filter, character 6: expected '==', found '='" in unread
    assert '    kind = "coupon"\n         ^' in unread
    assert detail({"caps": [{"attribute": "brand", "most": 1, "first": 5}]}).startswith(
        "rules.caps.0: unknown attribute 'brand' (known: kind"
    )


def test_what_was_shown_and_not_answered_sinks(running: Running) -> None:
    user, rules = "user-21", Rules(frequency=Frequency(times=2))
    best = ids(running.client.rank(user, PRODUCTS))[0]

    def send(number: int, kind: str, hours_ago: float) -> None:
        when = datetime.now(UTC) - timedelta(hours=hours_ago)
        running.client.send_events(
            [Event(event_id=f"shown-{number}", user_id=user, item_id=best, event=kind, timestamp=when)]
        )

    def sinks(**asked: Any) -> bool:
        ruled = running.client.rank(user, PRODUCTS, rules=rules, **asked)
        assert (ruled.items[-1].rules == ["frequency"]) == (ids(ruled)[-1] == best)
        return ids(ruled)[-1] == best

    send(1, "exposure", 3)
    send(2, "exposure", 200)  # more than a week ago
    assert not sinks()
    assert sinks(shown={best: 2})  # the caller knows better
    send(3, "exposure", 2)
    assert sinks()
    assert not sinks(shown={})
    send(4, "response", 1)
    assert not sinks()


def event(number: int, item: str, user: str = "user-9", days: float = 0.5) -> Event:
    return Event(
        event_id=f"event-{number}", user_id=user, item_id=item, event="purchase",
        timestamp=CUT + timedelta(days=days), value=3.0, quantity=1.0,
    )  # fmt: skip


def test_an_event_changes_the_next_answer(running: Running) -> None:
    def task_names(item: str) -> set[str]:
        return set(running.client.rank("user-9", [item]).items[0].tasks)

    before = running.client.rank("user-9", PRODUCTS)
    new = next(item.item_id for item in reversed(before.items) if "repurchase" not in item.tasks)
    taken = running.client.send_events([event(1, new)])
    assert (taken.accepted, taken.duplicates, taken.users_updated, taken.degraded) == (1, 0, 1, [])
    assert "repurchase" in task_names(new)
    after = {item.item_id: item.score for item in running.client.rank("user-9", PRODUCTS).items}
    assert after[new] != next(item.score for item in before.items if item.item_id == new)
    explained = running.client.rank("user-9", [new], explain=True).items[0].explanation
    assert explained is not None
    assert explained.reason.startswith("bought 1 time")


def test_an_event_counts_once(running: Running) -> None:
    first = running.client.send_events([event(2, "item-1", "user-11"), event(3, "item-2", "user-11")])
    again = running.client.send_events([event(2, "item-1", "user-11"), event(3, "item-2", "user-11")])
    assert (first.accepted, first.duplicates) == (2, 0)
    assert (again.accepted, again.duplicates) == (0, 2)


def test_one_bare_event_is_taken_with_202(running: Running) -> None:
    found = httpx.post(f"{running.url}/v1/events", json=event(4, "unheard-of").model_dump(mode="json"))
    assert found.status_code == 202
    assert found.json() == {
        "accepted": 1, "duplicates": 0, "unknown_items": 1, "users_updated": 1, "degraded": [],
    }  # fmt: skip
    assert httpx.post(f"{running.url}/v1/events", json={"event_id": "x"}).status_code == 422


def test_an_event_of_the_future_is_refused(running: Running) -> None:
    late = event(5, "item-1").model_copy(update={"timestamp": datetime.now(UTC) + timedelta(days=2)})
    with pytest.raises(InvalidInputError, match="event-5"):
        running.client.send_events([late])


def test_releases_and_activation(running: Running) -> None:
    found = {one.release_id: one for one in running.client.releases().releases}
    assert set(found) == {"first", "second"}
    assert (found["first"].current, found["first"].serving) == (True, True)
    answer = running.client.activate("second")
    assert (answer.release, answer.previous) == ("second", "first")
    deadline = time.monotonic() + 20
    while running.client.rank("user-1", PRODUCTS).release != "second":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    running.client.activate("first")
    while running.client.rank("user-1", PRODUCTS).release != "first":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(NotFoundError, match="third"):
        running.client.activate("third")


def test_async_client(running: Running) -> None:
    async def ask() -> None:
        async with AsyncRankingClient(running.url, timeout_s=30) as client:
            ranked, recommended, predicted, read, listed = await asyncio.gather(
                client.rank("user-1", PRODUCTS), client.recommend("user-1"), client.predict(["user-1"]),
                client.predict(texts=["hello"]), client.releases(),
            )  # fmt: skip
            assert set(read.predictions[0].tasks) == {"topic", "urgent", "slots"}
            assert len(ranked.items) == 90
            assert len(recommended.items) == 20
            assert predicted.predictions[0].tasks
            assert len(listed.releases) == 2
            assert (await client.send_events([event(2, "item-1", "user-11")])).duplicates == 1
            with pytest.raises(NotFoundError):
                await client.activate("third")

    asyncio.run(ask())


def test_retrieval_elsewhere(running: Running) -> None:
    """Ranking on its own asks the retrieval service over HTTP; without it, what trends is ranked."""
    own = replace(running.parts, metrics=Metrics(), watcher=loaded(running.parts))
    settings = Settings.model_validate({"retrieval_url": running.url, "timeout_s": 30})
    with serving(create_app(replace(own, settings=settings))) as url, RankingClient(url, timeout_s=30) as client:
        remote = client.recommend("user-3", k=20, candidates=60)
        assert remote.degraded == []
        local = running.client.recommend("user-3", k=20, candidates=60)
        assert [item.item_id for item in remote.items] == [item.item_id for item in local.items]
    nowhere = Settings.model_validate({"retrieval_url": "http://127.0.0.1:9", "timeout_s": 0.5})
    own = replace(own, metrics=Metrics(), watcher=loaded(running.parts), settings=nowhere)
    with serving(create_app(own)) as url, RankingClient(url, timeout_s=30) as client:
        answer = client.recommend("user-3", k=20)
        assert answer.degraded == ["retrieval_unavailable"]
        assert len(answer.items) == 20
        assert all(item.sources == ["trending"] for item in answer.items)


def loaded(parts: Parts) -> ReleaseWatcher[LoadedRelease]:
    watcher: ReleaseWatcher[LoadedRelease] = ReleaseWatcher(parts.store, load_release, 60)
    watcher.load_initial()
    return watcher


def test_openapi_names_the_contract(running: Running) -> None:
    document = httpx.get(f"{running.url}/openapi.json").json()
    assert {"/v1/rank", "/v1/recommend", "/v1/predict", "/v1/events", "/v1/releases", "/v1/candidates"} <= set(
        document["paths"]
    )
    schemas = document["components"]["schemas"]
    assert "tag: null where the unit has none of its own" in schemas["TagPrediction"]["description"]
    assert set(schemas["TagPrediction"]["required"]) == {"start", "end", "text", "tag", "probability"}
    assert {"TagsPrediction", "SlotPrediction", "ClassPrediction"} <= set(schemas)
    assert httpx.get(f"{running.url}/health/ready").json()["release"] == "first"


def test_unreachable_service() -> None:
    with RankingClient("http://127.0.0.1:9", timeout_s=0.5) as client, pytest.raises(UnavailableError):
        client.rank("user-1", ["item-1"])


def test_many_requests_at_once_agree(running: Running) -> None:
    expected = running.client.rank("user-1", PRODUCTS)
    found: list[object] = []

    def ask() -> None:
        for _ in range(10):
            found.append(running.client.rank("user-1", PRODUCTS).items == expected.items)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.all(found)
    assert len(found) == 40
