"""A side's own configuration, and how trials are compared."""

from __future__ import annotations

import math

import pytest

from flows.tune.sides import diverged, for_tasks, mean_relative_error, relative_gain, unmeasured
from retrieval.encoder.adapt.config import LimitConfig, ResidualConfig
from retrieval.encoder.balance.config import BalanceConfig, DualConfig, LagrangianConfig
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.labels.config import FewLabelsConfig, PseudoLabelConfig
from retrieval.encoder.trial import Quality, Trial


def trial(**errors: float) -> Trial:
    found = {task: Quality(metric="auc", value=1 - error, error=error, loss=1.0) for task, error in errors.items()}
    return Trial(tasks=tuple(errors), validation=found, test=found, steps=1, seconds=0.1)


def test_what_names_other_tasks_goes() -> None:
    balance = BalanceConfig(
        method="dual", weights={"buy": 2.0, "spend": 3.0}, dual=DualConfig(baselines={"churn": 0.5, "spend": 0.9})
    )
    residual = ResidualConfig(pairs=(("buy", "spend"), ("buy", "churn")))
    found = for_tasks(EncoderConfig(balance=balance, residual=residual), ["buy", "churn"])
    assert found.balance.method == "dual"
    assert found.balance.weights == {"buy": 2.0}
    assert found.balance.dual.baselines == {"churn": 0.5}
    assert found.residual is not None
    assert found.residual.pairs == (("buy", "churn"),)
    assert for_tasks(EncoderConfig(residual=residual), ["churn", "spend"]).residual is None


def test_limits_of_other_tasks_go() -> None:
    balance = BalanceConfig(method="lagrangian", lagrangian=LagrangianConfig(limits={"spend": 0.9}))
    gap = LimitConfig(task="spend", on="user", column="age", measure="loss_gap", limit=0.1)
    config = EncoderConfig(balance=balance, limits=(gap,))
    kept, gone = for_tasks(config, ["buy", "spend"]), for_tasks(config, ["buy", "churn"])
    assert (kept.balance.method, kept.limits) == ("lagrangian", (gap,))
    # Without a limit the method would be a contradiction.
    assert (gone.balance.method, gone.limits) == ("static", ())
    assert EncoderConfig.model_validate(gone.model_dump()) == gone


def test_lines_for_few_labels_of_other_tasks_go() -> None:
    config = EncoderConfig(few_labels=dict.fromkeys(("topic", "tone"), FewLabelsConfig(pseudo=PseudoLabelConfig())))
    assert for_tasks(config, ["tone", "buy"]).few_labels.keys() == {"tone"}
    assert for_tasks(config, ["buy"]).few_labels == {}


def test_tasks_without_importance_learn_where_nothing_else_does() -> None:
    config = EncoderConfig(balance=BalanceConfig(weights={"buy": 0.0, "churn": 0.0}))
    assert for_tasks(config, ["buy", "spend"]).balance.weights == {"buy": 0.0}
    assert for_tasks(config, ["buy", "churn"]).balance.weights == {}
    assert for_tasks(config, ["buy"]).balance == BalanceConfig()


def test_errors_are_held_against_the_reference_s() -> None:
    reference = trial(buy=0.4, churn=0.2)
    # (.2 / .4 + .3 / .2) / 2 = (.5 + 1.5) / 2
    assert mean_relative_error(trial(buy=0.2, churn=0.3), reference, ["buy", "churn"]) == pytest.approx(1.0)
    assert mean_relative_error(trial(buy=0.2, churn=0.3), reference, ["buy"]) == pytest.approx(0.5)
    # Below one row in a thousand nothing is told: 0 against 0 is 1, and .01 against 0 is .01 / .001.
    assert mean_relative_error(trial(buy=0.0), trial(buy=0.0), ["buy"]) == 1
    assert mean_relative_error(trial(buy=0.01), trial(buy=0.0), ["buy"]) == pytest.approx(10)


def test_a_gain_is_the_share_taken_away() -> None:
    assert relative_gain(0.4, 0.3) == pytest.approx(0.25)
    assert relative_gain(0.2, 0.3) == pytest.approx(-0.5)
    assert relative_gain(0.0, 0.0) == 0


def test_what_can_t_be_compared_is_named() -> None:
    assert unmeasured(trial(buy=0.1).validation, ["buy", "churn"]) == ["churn"]
    lost = Quality(metric="auc", value=0.5, error=0.5, loss=math.nan)
    assert diverged(trial(buy=0.1).model_copy(update={"test": {"churn": lost}})) == ["churn"]
    assert not diverged(trial(buy=0.1))
