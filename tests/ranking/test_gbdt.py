from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ranking import gbdt
from ranking.gbdt import GbdtConfig, TrainingRows, TrainingRowsError, fit_binary, fit_rank, predict_raw

CONFIG = GbdtConfig(num_leaves=7, rounds=40, min_data_in_leaf=10, feature_fraction=1.0, threads=1)


def rows_of(n: int = 4000, seed: int = 0, noise: float = 0.5) -> TrainingRows:
    """Label from the first of three features; 40 rows a group."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 3)).astype(np.float32)
    labels = (features[:, 0] + noise * rng.normal(size=n) > 1.2).astype(np.float32)
    return TrainingRows(
        names=("signal", "noise", "other"),
        features=features,
        labels=labels,
        weights=np.ones(n, np.float32),
        groups=np.repeat(np.arange(n // 40, dtype=np.int32), 40),
    )


def test_binary_finds_the_signal_and_keeps_the_mean() -> None:
    rows, fresh = rows_of(), rows_of(seed=1)
    booster = fit_binary(rows, CONFIG)
    probability = 1 / (1 + np.exp(-predict_raw(booster, fresh.features)))
    assert probability[fresh.labels > 0].mean() > 3 * probability[fresh.labels == 0].mean()
    assert probability.mean() == pytest.approx(fresh.labels.mean(), abs=0.02)
    assert booster.feature_importance("gain")[0] > booster.feature_importance("gain")[1:].sum()


def test_thinned_negatives_leave_the_mean_probability_alone() -> None:
    """Kept with probability .25 and weighted by 4: the weight of all negatives stays in expectation."""
    rows, fresh = rows_of(20_000), rows_of(seed=1)
    kept, weights = gbdt.thinned(rows.labels, 0.25, seed=0)
    negatives = int((rows.labels == 0).sum())
    assert (rows.labels[kept] > 0).sum() == (rows.labels > 0).sum()
    assert set(weights[rows.labels[kept] > 0].tolist()) == {1.0}
    # 4 * Binomial(negatives, .25): standard deviation 4 * sqrt(.1875 negatives); five of them
    assert abs(weights[rows.labels[kept] == 0].sum() - negatives) < 5 * 4 * np.sqrt(0.1875 * negatives)
    booster = fit_binary(replace(rows.take(kept), weights=weights), CONFIG)
    probability = 1 / (1 + np.exp(-predict_raw(booster, fresh.features)))
    assert probability.mean() == pytest.approx(fresh.labels.mean(), abs=0.02)


def test_no_thinning_keeps_every_row() -> None:
    rows = rows_of(400)
    kept, weights = gbdt.thinned(rows.labels, 1.0, seed=0)
    assert kept.tolist() == list(range(400))
    assert set(weights.tolist()) == {1.0}


def test_shuffled_labels_teach_nothing() -> None:
    """A stacker on shuffled labels must be at chance on held-out rows: AUC .5 within 4 standard errors."""
    rows, fresh = rows_of(noise=0.1), rows_of(seed=1)
    shuffled = np.random.default_rng(3).permutation(rows.labels)
    booster = fit_binary(TrainingRows(**{**vars(rows), "labels": shuffled}), CONFIG)
    scores, labels = predict_raw(booster, fresh.features), np.random.default_rng(4).permutation(fresh.labels) > 0
    order = scores.argsort().argsort() + 1
    positives, negatives = labels.sum(), (~labels).sum()
    auc = (order[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives)
    assert abs(auc - 0.5) < 4 * np.sqrt((positives + negatives + 1) / (12 * positives * negatives))


def test_same_seed_same_model() -> None:
    rows = rows_of()
    assert fit_binary(rows, CONFIG).model_to_string() == fit_binary(rows, CONFIG).model_to_string()


def test_early_stopping_on_held_out_users() -> None:
    """Labels without any relation to the features stop the model after its first trees."""
    rows = rows_of()
    unrelated = replace(rows, labels=np.random.default_rng(0).permutation(rows.labels))
    config = CONFIG.model_copy(update={"early_stopping_rounds": 5})
    assert fit_binary(unrelated, config).num_trees() < 15
    assert fit_binary(rows, config).num_trees() > 15


def test_excluded_features_are_never_split_on() -> None:
    booster = fit_binary(rows_of(), CONFIG.model_copy(update={"exclude": ("sig",)}))
    assert booster.feature_importance()[0] == 0


def test_lambdarank_orders_each_list() -> None:
    rows, fresh = rows_of(), rows_of(seed=1)
    scores = predict_raw(fit_rank(rows, CONFIG), fresh.features).reshape(-1, 40)
    labels = fresh.labels.reshape(-1, 40)
    first = labels[np.arange(len(labels)), scores.argmax(axis=1)]
    assert first.mean() > 3 * labels.mean()


def test_group_sizes_by_hand() -> None:
    assert gbdt.group_sizes(np.array([4, 4, 2, 7, 7, 7], np.int32)).tolist() == [2, 1, 3]
    assert gbdt.group_sizes(np.empty(0, np.int32)).tolist() == []


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_is_an_error(label: float) -> None:
    rows = rows_of(400)
    same = TrainingRows(**{**vars(rows), "labels": np.full(400, label, np.float32)})
    with pytest.raises(TrainingRowsError, match="rows of both labels, found"):
        fit_binary(same, CONFIG)
    with pytest.raises(TrainingRowsError, match="LambdaRank"):
        fit_rank(same, CONFIG)


def test_saved_and_loaded_model_gives_the_same_scores(tmp_path: Path) -> None:
    rows = rows_of(400)
    booster = fit_binary(rows, CONFIG)
    gbdt.save(booster, tmp_path / "ranking" / "gbdt_purchase.txt")
    loaded = gbdt.load(tmp_path / "ranking" / "gbdt_purchase.txt")
    assert predict_raw(loaded, rows.features).tobytes() == predict_raw(booster, rows.features).tobytes()


@pytest.mark.parametrize("n", [400, 12_000])  # a request's rows, and an evaluation's on all cores
def test_scores_do_not_depend_on_the_number_of_rows(n: int) -> None:
    rows = rows_of(n)
    booster = fit_binary(rows, CONFIG)
    whole = predict_raw(booster, rows.features)
    assert predict_raw(booster, rows.features[7:8])[0] == whole[7]
    assert predict_raw(booster, rows.features[:0]).shape == (0,)


def test_models_side_by_side_score_as_one_by_one() -> None:
    rows = rows_of(2_000)
    models = [fit_binary(rows, CONFIG.model_copy(update={"seed": seed, "rounds": 5})) for seed in range(4)]
    # Two are large enough for threads of their own, one of them the caller's.
    asked = [(booster, rows.features[:size]) for booster, size in zip(models, (3, 1_900, 0, 2_000), strict=True)]
    for (booster, features), scores in zip(asked, gbdt.predict_raw_each(asked), strict=True):
        assert scores.tolist() == predict_raw(booster, features).tolist()
    assert gbdt.predict_raw_each([]) == []


def test_contributions_sum_to_the_raw_score() -> None:
    rows = rows_of(400)
    booster = fit_binary(rows, CONFIG)
    parts = gbdt.contributions(booster, rows.features[:5])
    assert parts.shape == (5, 4)
    assert parts.sum(axis=1) == pytest.approx(predict_raw(booster, rows.features[:5]))
