from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from features.schema import UserFeatures
from infra.errors import InvalidInputError
from ranking import warmup
from ranking.answers import load_release
from ranking.contract import ClassPrediction, TagsPrediction
from ranking.layout import SCHEMA
from ranking.models import SchemaVersionError
from ranking.objective import ObjectiveError
from ranking.predictor import Predictor
from ranking.ranker import Ranker
from ranking.rows import CutData, CutRows
from ranking.rules.config import NO_RULES, Discovery, Named, Rules
from retrieval.warmup import WarmupError


@pytest.fixture(scope="module")
def user(cut_data: CutData) -> UserFeatures:
    return max(cut_data.users, key=lambda one: len(one.items))


ITEMS = np.arange(100, dtype=np.int32)


def test_scores_fall_and_every_item_comes_once(ranker: Ranker, user: UserFeatures) -> None:
    ranked = ranker.rank(user, ITEMS)
    assert sorted(ranked.items.tolist()) == ITEMS.tolist()
    assert np.all(np.diff(ranked.scores) <= 0)
    assert len(ranker.rank(user, ITEMS, k=7).items) == 7
    assert len(ranker.rank(user, ITEMS[:3], k=7).items) == 3


def test_tasks_apply_where_they_should(ranker: Ranker, user: UserFeatures) -> None:
    """Products are bought, bought products rebought, coupons (positions from 90) responded to; churn is no item's."""
    ranked = ranker.rank(user, ITEMS)
    coupon, bought = ranked.items >= 90, np.isin(ranked.items, user.items)
    assert set(ranked.tasks) == {"purchase", "repurchase", "coupon_response"}
    assert np.array_equal(~np.isnan(ranked.tasks["purchase"]), ~coupon)
    assert np.array_equal(~np.isnan(ranked.tasks["repurchase"]), bought & ~coupon)
    assert np.array_equal(~np.isnan(ranked.tasks["coupon_response"]), coupon)
    for values in ranked.tasks.values():
        assert np.all((values[~np.isnan(values)] > 0) & (values[~np.isnan(values)] < 1))


def test_an_items_score_does_not_depend_on_the_list(ranker: Ranker, user: UserFeatures) -> None:
    whole = ranker.rank(user, ITEMS)
    scores = dict(zip(whole.items.tolist(), whole.scores.tolist(), strict=True))
    for items in (ITEMS[40:41], ITEMS[::-1][:13], ITEMS[50:]):
        part = ranker.rank(user, np.ascontiguousarray(items))
        for item, score in zip(part.items.tolist(), part.scores.tolist(), strict=True):
            assert score == pytest.approx(scores[item], rel=1e-5)


def test_offline_and_online_scores_agree(ranker: Ranker, serving_data: CutData, cut_rows: list[CutRows]) -> None:
    """Golden rows through both paths: the flow's batch of many users, and one request each."""
    rows = cut_rows[2]
    inputs = ranker.models.pair_inputs(rows.features, rows.signals, rows.applies)
    offline = ranker.models.probabilities(inputs, rows.applies)
    for number in (0, 5):
        mine = rows.users == serving_data.positions[number]
        online = ranker.score(serving_data.users[number], rows.items[mine])
        for task, values in online.tasks.items():
            assert np.allclose(values, offline[task][mine], rtol=1e-5, equal_nan=True)


def test_the_default_objective_is_purchase(ranker: Ranker, user: UserFeatures) -> None:
    ranked = ranker.rank(user, ITEMS[:90])
    assert ranked.scores.tolist() == ranked.tasks["purchase"].tolist()
    with pytest.raises(ObjectiveError, match=r"expected one of default.*unknown task, attribute or feature 'proft'"):
        ranker.rank(user, ITEMS, asked="proft")


def test_a_formula_orders_and_what_it_has_no_value_for_comes_last(ranker: Ranker, user: UserFeatures) -> None:
    """The hundred items have prices as attributes or none; a log of a negative number is no score."""
    plain = ranker.rank(user, ITEMS)
    turned = ranker.rank(user, ITEMS, asked="-purchase")
    assert np.array_equal(np.sort(turned.scores), np.sort(-plain.scores))
    assert (np.diff(turned.scores) <= 0).all()
    middle = float(np.median(plain.scores))
    logged = ranker.rank(user, ITEMS, asked=f"log(purchase - {middle!r})")
    known = np.isfinite(logged.scores)
    assert 0 < known.sum() < len(ITEMS)
    assert known[: known.sum()].all()


def test_what_a_user_buys_ranks_above_what_she_does_not(ranker: Ranker, user: UserFeatures) -> None:
    top = ranker.rank(user, ITEMS[:90], k=5).items
    assert np.isin(top, user.items).sum() >= 4


def test_an_unknown_user_is_ranked(ranker: Ranker) -> None:
    ranked = ranker.rank(UserFeatures.unknown("nobody"), ITEMS)
    assert sorted(ranked.items.tolist()) == ITEMS.tolist()
    assert np.isfinite(ranked.scores).all()


def test_history_of_items_newer_than_the_release(ranker: Ranker, user: UserFeatures) -> None:
    """The online store may know items that this release does not."""
    newer = UserFeatures(**{**vars(user), "items": np.where(user.items == user.items[0], 5_000, user.items)})
    assert len(ranker.rank(newer, ITEMS).items) == 100


def test_no_items(ranker: Ranker, user: UserFeatures) -> None:
    ranked = ranker.rank(user, ITEMS[:0], explain=True)
    assert len(ranked.items) == 0
    assert ranked.explanations == []


def test_discovery_rule(ranker: Ranker, user: UserFeatures) -> None:
    rules = Rules(discovery=Discovery(every=2, first_page=0))
    found = ranker.rank(user, ITEMS[:90], rules=rules).items
    new = ~np.isin(found, user.items)
    assert new[:20].reshape(-1, 2).any(axis=1).all()
    assert not ~np.isin(ranker.rank(user, ITEMS[:90]).items, user.items)[:20].reshape(-1, 2).any(axis=1).all()


def with_rules(release: Path, folder: Path, rules: dict[str, object]) -> Path:
    """A copy of a release whose workspace declared some rules."""
    shutil.copytree(release, folder)
    body = json.loads((folder / SCHEMA).read_text())
    (folder / SCHEMA).write_text(json.dumps(body | {"rules": rules}))
    return folder


def test_a_release_has_rules_of_its_own_and_a_request_others(
    release: Path, user: UserFeatures, ranker: Ranker, tmp_path: Path
) -> None:
    own = with_rules(release, tmp_path / "own", {"block": {"items": 'kind == "coupon"'}})
    # Golden answers are about models: they hold whatever the rules are.
    loaded = load_release(own)
    assert loaded.ranker is not None
    assert sorted(loaded.ranker.rank(user, ITEMS).items.tolist()) == list(range(90))
    plain = loaded.ranker.rank(user, ITEMS, rules=NO_RULES)
    assert plain.items.tolist() == ranker.rank(user, ITEMS).items.tolist()
    assert plain.moved is None


@pytest.mark.parametrize("task", ["purchase", "repurchase", "coupon_response"])
def test_terms_sum_to_the_logit(ranker: Ranker, user: UserFeatures, task: str) -> None:
    """Bought items, others and coupons: signals that are missing, twins of never-bought items, trees that don't run."""
    scored = ranker.score(user, ITEMS)
    rows = np.array([0, 3, 40, 89, 95], np.intp)
    terms = ranker.terms(scored, rows, task)
    logits = ranker.models.blend.tasks[task].logits(scored.inputs)[rows]
    # The trees' raw scores are float32 in the blend.
    assert terms.logits == pytest.approx(logits, abs=1e-4)
    assert sum(terms.groups().values()) == pytest.approx(terms.logits)
    assert terms.names == ranker.models.schema.features


def test_explanations_follow_the_rules(ranker: Ranker, user: UserFeatures) -> None:
    plain = ranker.rank(user, ITEMS[:90], explain=True)
    first = ranker.retriever.snapshot.item_ids[plain.items[0]]
    ruled = ranker.rank(user, ITEMS[:90], rules=Rules(bury=Named(ids=(first,))), explain=True)
    assert plain.explanations is not None
    assert ruled.explanations is not None
    assert ruled.items[-1] == plain.items[0]
    assert ruled.explanations[-1] == plain.explanations[0]
    assert ruled.scores[-1] == plain.scores[0]


def test_rules_that_do_not_fit_are_refused_when_a_release_is_loaded(release: Path, tmp_path: Path) -> None:
    for number, (rules, said) in enumerate(
        [
            ({"bury": {"items": "prise > 3"}}, r"rules\.bury\.items: filter, character 1: unknown attribute 'prise'"),
            ({"caps": [{"attribute": "brand", "most": 1, "first": 5}]}, r"rules\.caps\.0: unknown attribute 'brand'"),
        ]
    ):
        with pytest.raises(InvalidInputError, match=said):
            load_release(with_rules(release, tmp_path / str(number), rules))


def test_a_release_of_another_version_is_refused(release: Path, tmp_path: Path) -> None:
    folder = with_rules(release, tmp_path / "old", {})
    (folder / SCHEMA).write_text(json.dumps({"version": 1, "rerank": {}}))
    with pytest.raises(SchemaVersionError, match=r"schema\.json: expected version 2, found 1; build a release"):
        load_release(folder)


def test_explanations_sum_to_the_logit_and_say_why(ranker: Ranker, user: UserFeatures) -> None:
    ranked = ranker.rank(user, ITEMS[:90], k=5, explain=True, sources=[["repeat"]] * 90)
    assert ranked.explanations is not None
    curve = ranker.models.calibrators["purchase"]
    for one, probability in zip(ranked.explanations, ranked.tasks["purchase"].tolist(), strict=True):
        logit = sum(one.contributions.values())
        assert curve.probabilities(np.array([logit]))[0] == pytest.approx(probability)
        assert 0 < len(one.features) <= 5
        assert one.reason


def test_users_are_predicted(ranker: Ranker, cut_data: CutData) -> None:
    found = ranker.predict_users([*cut_data.users[:3], UserFeatures.unknown("nobody")])
    assert set(found) == {"churn"}
    assert np.all((found["churn"][:3] > 0) & (found["churn"][:3] < 1))
    assert np.isnan(found["churn"][3])


def test_warmup_replays(release: Path, predictor: Predictor) -> None:
    warmup.check(predictor, release)


def test_other_scores_are_refused(release: Path, predictor: Predictor, tmp_path: Path) -> None:
    body = json.loads((release / "warmup.json").read_text())
    # ten of the hundred are coupons, which the default objective scores 0
    body["ranking"][1]["scores"] = [score * 1.5 for score in body["ranking"][1]["scores"]]
    (tmp_path / "warmup.json").write_text(json.dumps(body))
    with pytest.raises(WarmupError, match="1 differ of the answers to 2 requests; warm-up ranking 1: 90 of 100 scores"):
        warmup.check(predictor, tmp_path)


def test_golden_predictions_of_texts_replay_and_others_are_refused(
    reading_predictor: Predictor, tmp_path: Path
) -> None:
    cases = warmup.record_texts(reading_predictor, ["where is my order", "hello"])
    assert [set(case.tasks) for case in cases] == [{"topic", "urgent", "slots"}] * 2
    assert warmup.replay_texts(reading_predictor, cases) == []
    first = cases[0]
    urgent, topic, slots = first.tasks["urgent"], first.tasks["topic"], first.tasks["slots"]
    assert isinstance(slots, TagsPrediction)
    assert isinstance(urgent, float)
    assert isinstance(topic, ClassPrediction)
    # Rounding passes, another number doesn't, and nor does another class with the golden one's probability.
    near = first.model_copy(update={"tasks": {**first.tasks, "urgent": urgent + 0.01}})
    assert warmup.replay_texts(reading_predictor, [near]) == []
    other = topic.model_copy(update={"label": "another"})
    # One word of four has another tag: more than one in ten.
    retagged = [slots.tags[0].model_copy(update={"tag": "another"}), *slots.tags[1:]]
    wrong = [
        first.model_copy(update={"tasks": {**first.tasks, "urgent": 1 - urgent + 0.3}}),
        first.model_copy(update={"tasks": {**first.tasks, "topic": other}}),
        first.model_copy(update={"tasks": {**first.tasks, "slots": slots.model_copy(update={"tags": retagged})}}),
    ]
    for case in wrong:
        assert len(warmup.replay_texts(reading_predictor, [case])) == 1
    warmup.write(tmp_path, [], [], wrong[1:2])
    with pytest.raises(WarmupError, match="1 differ of the answers to 1 requests; warm-up text 0, task topic"):
        warmup.check(reading_predictor, tmp_path)


def test_an_encoder_of_another_release_is_caught(release: Path, tmp_path: Path) -> None:
    """A ranker trained on encoder A's scores never meets encoder B: its golden answers differ."""
    mixed = tmp_path / "mixed"
    shutil.copytree(release, mixed)
    vectors = np.load(mixed / "vectors/users.npy")
    np.save(mixed / "vectors/users.npy", vectors[::-1])
    with pytest.raises(WarmupError):
        load_release(mixed)
