"""A space holds the workspace's own point, and a point is a configuration."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from flows.tune.config import Range, TuneConfig
from flows.tune.space import Dimension, Space, configured, nested, shortened
from infra.errors import InvalidInputError
from retrieval.encoder.balance.config import BalanceConfig
from retrieval.encoder.config import EncoderConfig


def test_values_are_widened_by_the_workspace_s_own() -> None:
    choices = Dimension.around("steps", 300, (50, 100), count=True)
    assert choices.values == (50, 100, 300)
    rate = Dimension.around("learning_rate", 1e-3, Range(low=1e-5, high=2e-4, log=True), count=False)
    assert rate.values == Range(low=1e-5, high=1e-3, log=True)


@pytest.mark.parametrize(
    ("own", "log", "expected"),
    [(None, False, "expected a number as"), (0.0, True, "expected a number above 0 as")],
)
def test_a_range_that_can_t_reach_the_own_value_is_refused(own: float | None, log: bool, expected: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"tune.space.train_layers: {expected} .* found {own}; list choices"):
        Dimension.around("train_layers", own, Range(low=1, high=4, log=log), count=True)


def test_a_drawn_number_is_run_as_it_is_written() -> None:
    dimension = Dimension.around("learning_rate", 1.23456e-4, Range(low=1e-5, high=2e-4, log=True), count=False)
    assert dimension.settle(3.14159e-5) == 3.14e-5
    assert dimension.settle(1.23456e-4) == 1.23456e-4  # the workspace's own, exactly


def test_the_own_point_is_the_workspace_s_configuration() -> None:
    encoder = EncoderConfig(balance=BalanceConfig(weights={"buy": 2.0, "idle": 0.0}))
    space = Space.around(TuneConfig(), encoder, ["buy", "churn", "idle"])
    # A task without importance keeps none.
    assert [one.key for one in space.weights] == ["balance.weights.buy", "balance.weights.churn"]
    found = configured(encoder, space.own)
    weights = {"buy": 2.0, "churn": 1.0, "idle": 0.0}
    assert found == encoder.model_copy(update={"balance": BalanceConfig(weights=weights)})


def test_a_single_task_has_nothing_to_balance() -> None:
    space = Space.around(TuneConfig(), EncoderConfig(), ["buy"])
    keys = {dimension.key for dimension in space.dimensions}
    assert not space.weights
    assert "learning_rate" in keys
    assert not keys & {"balance.method", "batch.task_exponent"}


def test_options_of_a_section_that_is_left_out_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"tune.space.lora.rank: expected encoder.lora in the workspace"):
        Space.around(TuneConfig(space={"lora.rank": (4, 8)}), EncoderConfig(), ["buy", "churn"])


def test_a_point_reaches_nested_options_and_is_checked() -> None:
    found = configured(EncoderConfig(), {"balance.method": "dual", "warmup.steps": 7, "balance.weights.buy": 0.5})
    assert (found.balance.method, found.warmup.steps, found.balance.weights) == ("dual", 7, {"buy": 0.5})
    with pytest.raises(ValidationError, match="rdrop: expected dropout above 0"):
        configured(EncoderConfig(), {"rdrop": 1.0})


def test_a_point_is_written_as_the_workspace_file_holds_it() -> None:
    point = {"steps": 50, "balance.weights.buy": 1.0, "balance.weights.churn": 0.5, "balance.method": "dual"}
    assert nested(shortened(point)) == {"steps": 50, "balance": {"method": "dual", "weights": {"churn": 0.5}}}
