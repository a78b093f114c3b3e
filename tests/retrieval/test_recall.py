"""What each source holds of later purchases, against lists and shares worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from features.schema import UserFeatures
from retrieval.engine import Retriever
from retrieval.quota import ALWAYS
from retrieval.recall import MERGED, recall, source_answers


def test_recall_is_the_share_of_the_relevant_items() -> None:
    """Of (1, 2, 3, 4) the answer (4, 9, 2) names two: .5; an empty answer names none."""
    answers = [np.array([4, 9, 2], np.int32), np.empty(0, np.int32), np.array([7], np.int32)]
    relevant = [np.array([1, 2, 3, 4], np.int32), np.array([1], np.int32), np.array([7], np.int32)]
    np.testing.assert_array_equal(recall(answers, relevant), [0.5, 0.0, 1.0])


def test_every_source_answers_alone_and_the_merge_as_a_request_gets_it(
    retriever: Retriever, features: Callable[..., UserFeatures]
) -> None:
    users = [features(3), features(7), UserFeatures.unknown("nobody")]
    found = source_answers(retriever, users, (5, 40))
    assert set(found) == {(name, k) for name in (*ALWAYS, MERGED) for k in (5, 40)}
    for row, user in enumerate(users):
        for k in (5, 40):
            merged = retriever.candidates(user, k).candidates.items
            np.testing.assert_array_equal(found[MERGED, k][row], merged)
            for name in ALWAYS[:3] if user.known else ():
                alone = retriever.candidates(user, k, sources=[name]).candidates.items
                np.testing.assert_array_equal(found[name, k][row], alone)
    assert [len(found[name, 5][2]) for name in ALWAYS] == [0, 0, 0, 5]
