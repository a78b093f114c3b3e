from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from flows.stages.relatedness import read_relatedness, shared_labels, write_relatedness
from retrieval.encoder.batch import Batch, PairLabels, RowLabels
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.relatedness.config import RelatednessConfig
from retrieval.encoder.relatedness.cooccurrence import Cooccurrence
from retrieval.encoder.relatedness.study import study

BUY = EncoderTask(name="buy", kind="binary", on="pair")
AGAIN = EncoderTask(name="again", kind="binary", on="pair", space="rows")
CHURN = EncoderTask(name="churn", kind="binary", on="user")
RETRIEVAL = EncoderTask(name="retrieval", kind="contrastive", on="pair")
NAN = np.nan


def _pairs(label: list[list[float]], present: list[list[bool]]) -> PairLabels:
    empty = torch.zeros(len(label), len(label[0]), dtype=torch.bool)
    return PairLabels(
        label=torch.tensor(label), present=torch.tensor(present), drawn=empty, excluded=empty, shift=empty.float()
    )


def _batch() -> Batch:
    rows = RowLabels(label=torch.tensor([1.0, 0.0]), present=torch.tensor([True, False]))
    return Batch(
        views={"user": np.arange(2)}, items=np.arange(2), log_q=torch.zeros(2), rows={"churn": rows},
        pairs={
            "buy": _pairs([[1.0, 0.0], [1.0, 0.0]], [[True, True], [True, True]]),
            "again": _pairs([[1.0, 0.0], [0.0, 0.0]], [[True, False], [True, False]]),
            "retrieval": _pairs([[1.0, 0.0], [1.0, 0.0]], [[True, True], [True, True]]),
        },
    )  # fmt: skip


def test_labels_meet_on_the_rows_that_carry_both() -> None:
    found = shared_labels((RETRIEVAL, BUY, AGAIN, CHURN), [_batch()])
    # Four pairs, user by user, then two users; a contrastive task has no label of 0 or 1.
    expected = [
        [NAN, 1, 1, NAN], [NAN, 0, NAN, NAN], [NAN, 1, 0, NAN], [NAN, 0, NAN, NAN],
        [NAN, NAN, NAN, 1], [NAN, NAN, NAN, NAN],
    ]  # fmt: skip
    np.testing.assert_array_equal(found, expected)
    assert shared_labels((RETRIEVAL,), [_batch()]).shape == (0, 1)


def test_a_report_comes_back_as_it_was_written(tmp_path: Path) -> None:
    names = ("buy", "again")
    labels = np.array([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    report = study(names, RelatednessConfig(), cooccurrence=Cooccurrence(tasks=names, labels=labels, min_rows=1))
    assert read_relatedness(tmp_path) is None
    write_relatedness(tmp_path, report)
    assert read_relatedness(tmp_path) == report
