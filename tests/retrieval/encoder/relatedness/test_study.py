from __future__ import annotations

import json

import numpy as np
import pytest
from pydantic import ValidationError

from infra.errors import InvalidInputError
from retrieval.encoder.relatedness.config import RelatednessConfig
from retrieval.encoder.relatedness.cooccurrence import Cooccurrence
from retrieval.encoder.relatedness.matrix import Affinity
from retrieval.encoder.relatedness.report import RelatednessReport
from retrieval.encoder.relatedness.study import study
from retrieval.encoder.relatedness.topics import VectorTopics

NAN = float("nan")
NAMES = ("purchase", "repurchase", "churn")
LABELS = Cooccurrence(tasks=NAMES[:2], labels=np.array([[1.0, 1], [1, 0], [0, 0], [0, 0]]), min_rows=1)
TOPICS = VectorTopics({name: np.array([[1.0, 0]]) for name in ("purchase", "churn")})
CONFIG = RelatednessConfig.model_validate(
    {
        "cooccurrence": {"weight": 2},
        "hierarchy": {"paths": {"purchase": "commerce/purchase", "repurchase": "commerce/purchase/repurchase"}},
        "graph": {"weight": 3, "edges": [{"between": ["purchase", "repurchase"]}]},
        "expert": {"weight": 4, "names": ["purchase", "churn"], "matrix": [[1, 0], [0, 1]]},
    }
)


def _affinity(matrix: list[list[float]]) -> Affinity:
    values = np.array(matrix, np.float64)
    return Affinity(names=NAMES, matrix=values, batches=(~np.isnan(values)).astype(np.int64))


MEASURED = _affinity([[0.1, -0.02, 0.01], [-0.02, 0.2, NAN], [0.03, NAN, 0.1]])


def test_every_prior_counts_by_its_weight() -> None:
    found = study(NAMES, CONFIG, cooccurrence=LABELS, topics=TOPICS)
    # purchase - repurchase: labels p(ij) = p(j) = 1/4, p(i) = 1/2: lift 2, ln 2 / ln 4 = .5, weight 2; tree 2 x 2 /
    # (2 + 3) = .8, weight 1; graph 1 / (1 + 1) = .5, weight 3: (1 + .8 + 1.5) / 6. purchase - churn: cosine 1, weight
    # 1; expert 0, weight 4: 1 / 5.
    assert found.prior[0][1] == pytest.approx(3.3 / 6)
    assert found.prior[0][2] == pytest.approx(0.2)
    assert found.prior[1][2] is None
    assert found.affinity is None
    assert found.groups.basis == "prior"


def test_a_measurement_decides_the_groups() -> None:
    found = study(NAMES, CONFIG, cooccurrence=LABELS, affinity=MEASURED)
    assert found.groups.basis == "affinity"
    # purchase and churn gain .02 on average, purchase and repurchase lose as much.
    assert found.groups.names == (("purchase", "churn"), ("repurchase",))


def test_a_measurement_without_pairs_decides_nothing() -> None:
    alone = _affinity([[0.1, NAN, NAN], [NAN, 0.2, NAN], [NAN, NAN, 0.1]])
    found = study(NAMES, CONFIG, cooccurrence=LABELS, affinity=alone)
    assert found.groups.basis == "prior"
    assert found.affinity == ((0.1, None, None), (None, 0.2, None), (None, None, 0.1))


def test_declared_tasks_are_checked() -> None:
    with pytest.raises(InvalidInputError, match="unknown task 'repurchase'"):
        study(("purchase", "churn"), CONFIG)


def test_json_keeps_everything_and_holds_no_nan() -> None:
    report = study(NAMES, CONFIG, cooccurrence=LABELS, topics=TOPICS, affinity=MEASURED)
    text = report.model_dump_json()
    assert json.loads(text)["affinity"][1] == [-0.02, 0.2, None]
    assert "NaN" not in text
    assert RelatednessReport.model_validate_json(text) == report


def test_report_is_square_and_groups_every_task() -> None:
    content = study(NAMES, CONFIG, affinity=MEASURED).model_dump()
    with pytest.raises(ValidationError, match=r"affinity: expected 3 rows of 3 values, found rows of \[3, 3\]"):
        RelatednessReport.model_validate(content | {"affinity": content["affinity"][:2]})
    with pytest.raises(ValidationError, match="groups: expected each of buy, repurchase, churn once"):
        RelatednessReport.model_validate(content | {"names": ("buy", *NAMES[1:])})
