from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from infra.errors import InvalidInputError
from retrieval.encoder.relatedness.config import RelatednessConfig

TASKS = ("retrieval", "purchase", "churn")


def _config(**sections: object) -> RelatednessConfig:
    return RelatednessConfig.model_validate(sections)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"hierarchy": {"paths": {"purchase": "commerce//purchase"}}}, "path of purchase: expected names joined by"),
        ({"hierarchy": {"paths": {"purchase": ""}}}, "found ''"),
        ({"graph": {"edges": [{"between": ["churn", "churn"]}]}}, "two different names, found 'churn' twice"),
        ({"graph": {"edges": [{"between": ["churn", "purchase"], "length": 0}]}}, "greater than 0"),
        (
            {"graph": {"edges": [{"between": ["churn", "purchase"]}, {"between": ["purchase", "churn"]}]}},
            "expected each edge once, found purchase - churn again",
        ),
        ({"expert": {"names": ["purchase", "churn"], "matrix": [[1, 0.5]]}}, "expected 2 rows of 2 values"),
        ({"expert": {"names": ["churn", "churn"], "matrix": [[1, 0], [0, 1]]}}, "expected distinct names"),
        ({"expert": {"names": ["churn"], "matrix": [[0.5]]}}, "expected 1 on the diagonal, found 0.5 for churn"),
        ({"expert": {"names": ["purchase", "churn"], "matrix": [[1, 1.5], [1.5, 1]]}}, "less than or equal to 1"),
        (
            {"expert": {"names": ["purchase", "churn"], "matrix": [[1, 0.5], [0.4, 1]]}},
            "symmetric matrix, found 0.5 above the diagonal and 0.4 below for purchase and churn",
        ),
        ({"cooccurrence": {"weight": -1}}, "greater than or equal to 0"),
        ({"hierachy": {}}, "Extra inputs"),
    ],
)
def test_a_wrong_declaration_says_what_is_wrong(sections: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        _config(**sections)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"hierarchy": {"paths": {"purchas": "a/b"}}}, "relatedness.hierarchy.paths: unknown task 'purchas'"),
        (
            {"graph": {"edges": [{"between": ["churm", "loyalty"]}], "concepts": ["loyalty"]}},
            "relatedness.graph.edges: unknown task or concept 'churm'; did you mean 'churn'?",
        ),
        ({"graph": {"edges": [{"between": ["churn", "loyalty"]}]}}, "unknown task or concept 'loyalty'"),
        ({"expert": {"names": ["retrival"], "matrix": [[1]]}}, "unknown task 'retrival'; did you mean 'retrieval'?"),
    ],
)
def test_an_unknown_task_is_named_with_the_nearest(sections: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        _config(**sections).check(TASKS)


def test_tasks_and_declared_concepts_are_known() -> None:
    _config(
        hierarchy={"paths": {"purchase": "commerce/purchase"}},
        graph={"edges": [{"between": ["churn", "loyalty"], "length": 2}], "concepts": ["loyalty"]},
        expert={"names": ["purchase", "churn"], "matrix": [[1, None], [None, 1]]},
    ).check(TASKS)
