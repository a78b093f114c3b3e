from __future__ import annotations

import pytest

from infra.errors import InvalidInputError
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.task_names import check_task_names

LIMIT = {"task": "chrn", "on": "user", "column": "age", "measure": "rate_gap", "limit": 0.1}


@pytest.mark.parametrize(
    ("lines", "option"),
    [
        ({"balance": {"weights": {"chrn": 2}}}, "balance.weights"),
        ({"balance": {"method": "lagrangian", "lagrangian": {"limits": {"chrn": 1}}}}, "balance.lagrangian.limits"),
        ({"balance": {"dual": {"baselines": {"chrn": 1}}}}, "balance.dual.baselines"),
        ({"limits": [LIMIT]}, "limits"),
        ({"few_labels": {"chrn": {"pseudo": {}}}}, "few_labels"),
        ({"residual": {"pairs": [["churn", "chrn"]]}}, "residual.pairs"),
    ],
)
def test_an_unknown_task_is_named_with_its_option_and_neighbour(lines: dict[str, object], option: str) -> None:
    config = EncoderConfig.model_validate(lines)
    with pytest.raises(InvalidInputError, match=f"encoder.{option}: unknown task 'chrn'; did you mean 'churn'"):
        check_task_names(config, ["purchase", "churn"])
    check_task_names(config, ["churn", "chrn"])
