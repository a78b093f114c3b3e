from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from retrieval.encoder.balance.config import BalanceConfig


@pytest.mark.parametrize(
    "values", [{"metod": "static"}, {"dual": {"eta_": 0.1}}, {"method": "pcgard"}, {"level": "features"}]
)
def test_unknown_keys_and_values_fail(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        BalanceConfig.model_validate(values)


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_an_importance_is_a_finite_number_from_0(weight: float) -> None:
    with pytest.raises(ValidationError, match=r"weights\.a"):
        BalanceConfig(weights={"a": weight})


def test_limits_and_their_method_come_together() -> None:
    with pytest.raises(ValidationError, match="at least one task, found none"):
        BalanceConfig(method="lagrangian")
    with pytest.raises(ValidationError, match="found 'volume', which would not keep them"):
        BalanceConfig.model_validate({"lagrangian": {"limits": {"a": 0.9}}})


def test_serving_can_read_the_configuration_without_torch() -> None:
    code = "import sys, retrieval.encoder.balance.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
