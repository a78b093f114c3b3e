from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.tasks import TaskSpec
from infra.errors import InvalidInputError
from ranking.fit import RankingConfig, fit_ablations, fit_ranking, join_rows, labelled
from ranking.gbdt import GbdtConfig
from ranking.models import FeatureMismatchError, RankingModels
from ranking.rows import CutData, CutRows
from ranking.signals import SignalSchema
from retrieval.evaluate import auc

SMALL = GbdtConfig(rounds=5)
EVERY = GbdtConfig(negative_rate=1)


def test_rows_carry_each_space(cut_rows: list[CutRows], cut_data: CutData) -> None:
    """Purchase on candidates that are products, repurchase on bought ones, coupons on exposed ones."""
    rows = cut_rows[1]
    purchase, repurchase, coupon = (
        rows.task_rows(name, EVERY) for name in ("purchase", "repurchase", "coupon_response")
    )
    products = rows.items < 90
    candidates = sum((own < 90).sum() for own in cut_data.candidates)
    assert len(purchase) == candidates
    bought = ~np.isnan(rows.features[:, 0])
    assert len(repurchase) <= (bought & products).sum()
    exposed = cut_data.labels["coupon_response"]
    assert len(coupon) == exposed.filter(exposed["user"].is_in(cut_data.positions.tolist())).height
    # a positive among the candidates carries its label
    positives = set(cut_data.labels["purchase"].select("user", "item").iter_rows())
    pairs = zip(rows.users.tolist(), rows.items.tolist(), strict=True)
    for pair, label in list(zip(pairs, rows.labels["purchase"].tolist(), strict=True))[:2000]:
        assert label == float(pair in positives) or np.isnan(label)


def test_groups_of_cuts_stay_apart(cut_rows: list[CutRows]) -> None:
    parts = [rows.task_rows("purchase", EVERY) for rows in cut_rows[:2]]
    joined = join_rows(parts)
    assert len(np.unique(joined.groups)) == sum(len(np.unique(part.groups)) for part in parts)


def test_every_task_is_served(models: RankingModels) -> None:
    assert set(models.blend.tasks) == {"purchase", "repurchase", "coupon_response", "churn"}
    assert set(models.calibrators) == set(models.blend.tasks)
    assert set(models.trees) == {"purchase", "repurchase", "coupon_response"}
    assert set(models.user_trees) == {"churn"}


def test_out_of_time_probabilities_are_good_and_calibrated(models: RankingModels, cut_rows: list[CutRows]) -> None:
    held_out = cut_rows[2]
    inputs = models.pair_inputs(held_out.features, held_out.signals, held_out.applies)
    found = models.probabilities(inputs, held_out.applies)
    for task, least in {"purchase": 0.85, "repurchase": 0.75}.items():
        labels, probability = labelled(held_out, task), found[task]
        kept = ~np.isnan(labels)
        assert auc(labels[kept] > 0, probability[kept].astype(np.float32)) > least
        assert probability[kept].mean() == pytest.approx(labels[kept].mean(), rel=0.25)
        assert np.isnan(probability[~held_out.applies[task]]).all()


def test_shuffled_labels_leave_the_stacker_at_chance(
    cut_rows: list[CutRows], tasks: tuple[TaskSpec, ...], schema: SignalSchema, config: RankingConfig
) -> None:
    """If features or signals leaked the label window, a model of shuffled labels could not tell and real ones would."""
    rng = np.random.default_rng(0)
    shuffled = []
    for rows in cut_rows[:2]:
        labels = dict(rows.labels)
        kept = np.flatnonzero(rows.applies["purchase"] & ~np.isnan(labels["purchase"]))
        mixed = labels["purchase"].copy()
        mixed[kept] = rng.permutation(mixed[kept])
        labels["purchase"] = mixed
        shuffled.append(replace(rows, labels=labels))
    models = fit_ranking(shuffled[:1], shuffled[1], tasks, schema, config)
    held_out = cut_rows[2]
    found = models.probabilities(
        models.pair_inputs(held_out.features, held_out.signals, held_out.applies), held_out.applies
    )["purchase"]
    labels = labelled(held_out, "purchase")
    kept = np.flatnonzero(~np.isnan(labels))
    truth = rng.permutation(labels[kept]) > 0
    positives, negatives = truth.sum(), (~truth).sum()
    error = np.sqrt((positives + negatives + 1) / (12 * positives * negatives))
    assert abs(auc(truth, found[kept].astype(np.float32)) - 0.5) < 4 * error


def test_a_task_with_few_positives_has_no_trees_but_a_blend(
    cut_rows: list[CutRows], tasks: tuple[TaskSpec, ...], schema: SignalSchema, config: RankingConfig
) -> None:
    rows = cut_rows[0]
    labels = dict(rows.labels)
    coupon = labels["coupon_response"].copy()
    coupon[np.flatnonzero(coupon == 1)[10:]] = 0
    labels["coupon_response"] = coupon
    models = fit_ranking([replace(rows, labels=labels)], cut_rows[1], tasks, schema, config)
    assert "coupon_response" not in models.trees
    assert "coupon_response" in models.blend.tasks


def test_ablations_name_every_subset(models: RankingModels, cut_rows: list[CutRows], config: RankingConfig) -> None:
    found = fit_ablations(models, cut_rows[1], config)
    assert set(found) == {
        "encoder", "collaborative", "gbdt", "without_encoder", "without_collaborative", "without_gbdt", "all",
    }  # fmt: skip
    assert found["all"].blend == models.blend.tasks["purchase"]
    held_out = cut_rows[2]
    inputs = models.pair_inputs(held_out.features, held_out.signals, held_out.applies)
    labels = labelled(held_out, "purchase")
    kept = ~np.isnan(labels)

    def loss(name: str) -> float:
        p = found[name].probabilities(inputs)[kept]
        return float(-np.mean(np.where(labels[kept] > 0, np.log(p), np.log1p(-p))))

    assert loss("all") < min(loss("encoder"), loss("collaborative"))


def test_saved_and_loaded_models_agree_bit_for_bit(
    models: RankingModels, cut_rows: list[CutRows], tmp_path: Path
) -> None:
    models.save(tmp_path)
    loaded = RankingModels.load(tmp_path)
    rows = cut_rows[2]
    assert loaded.schema == models.schema
    for task, values in models.probabilities(
        models.pair_inputs(rows.features, rows.signals, rows.applies), rows.applies
    ).items():
        again = loaded.probabilities(loaded.pair_inputs(rows.features, rows.signals, rows.applies), rows.applies)
        assert again[task].tobytes() == values.tobytes()


def test_models_of_other_features_are_refused(models: RankingModels, tmp_path: Path) -> None:
    schema = models.schema.model_copy(
        update={"features": ("history_gone", *models.schema.features[1:]), "feature_hash": "0"}
    )
    replace(models, schema=schema).save(tmp_path)
    with pytest.raises(FeatureMismatchError, match=r"only in the release: \['history_gone'\]"):
        RankingModels.load(tmp_path)


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"main_task": "purchas"}, "ranking.main_task: unknown task 'purchas'; did you mean 'purchase'"),
        ({"tasks": {"chrn": SMALL}}, "ranking.tasks: unknown task 'chrn'; did you mean 'churn'"),
    ],
)
def test_config_names_the_nearest_task(update: dict[str, object], message: str, tasks: tuple[TaskSpec, ...]) -> None:
    with pytest.raises(InvalidInputError, match=message):
        RankingConfig().model_copy(update=update).check(tasks)


def test_without_objectives_the_main_task_orders() -> None:
    config = RankingConfig.model_validate({"main_task": "watch"})
    assert config.objectives == {"default": "watch"}
    own = {"main_task": "watch", "objectives": {"default": "2 * like"}}
    assert RankingConfig.model_validate(own).objectives == {"default": "2 * like"}
