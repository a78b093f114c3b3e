from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from retrieval.encoder.losses import info_nce, masked_bce


def test_absent_rows_cost_nothing() -> None:
    logits = torch.tensor([0.0, 100.0])
    loss = masked_bce(logits, torch.tensor([1.0, 0.0]), torch.tensor([True, False]))
    assert loss is not None
    assert float(loss) == pytest.approx(math.log(2))
    assert masked_bce(logits, torch.zeros(2), torch.zeros(2, dtype=torch.bool)) is None


def test_info_nce_by_hand() -> None:
    logits = torch.log(torch.tensor([[4.0, 1.0, 3.0, 50.0]]))
    positive = torch.tensor([[True, False, False, False]])
    excluded = torch.tensor([[False, False, False, True]])
    # -log(4 / (4 + 1 + 3)) = log 2; the excluded fourth item doesn't count.
    loss = info_nce(logits, positive, excluded, None)
    assert loss is not None
    assert float(loss) == pytest.approx(math.log(2))
    # Divided by q: 4 / .5 = 8, 1 / .25 = 4, 3 / .75 = 4: again one half.
    corrected = info_nce(logits, positive, excluded, torch.log(torch.tensor([0.5, 0.25, 0.75, 1.0])))
    assert corrected is not None
    assert float(corrected) == pytest.approx(math.log(2))


def test_two_positives_never_compete() -> None:
    logits = torch.zeros(1, 3)
    positive = torch.tensor([[True, True, False]])
    # Each positive against the single negative: log 2.
    loss = info_nce(logits, positive, positive, None)
    assert loss is not None
    assert float(loss) == pytest.approx(math.log(2))


def test_a_row_without_negatives_has_finite_gradients() -> None:
    logits = torch.zeros(2, 2, requires_grad=True)
    loss = info_nce(logits, torch.eye(2, dtype=torch.bool), torch.tensor([[True, True], [False, True]]), None)
    assert loss is not None
    loss.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_log_q_restores_the_order_of_the_full_softmax() -> None:
    """Zipf simulator: one user, true choice p over 50 items; items enter batches with probability q ~ popularity."""
    rng = np.random.default_rng(0)
    preference = torch.linspace(2.0, 0.0, 50)
    preference = preference[torch.from_numpy(rng.permutation(50))]
    chosen = torch.softmax(preference, 0).numpy()
    zipf = 1 / np.arange(1, 51)
    draws = 12 * zipf / zipf.sum()
    q = 1 - np.exp(-draws)
    correlation = {}
    for corrected in (True, False):
        scores = torch.zeros(50, requires_grad=True)
        optimizer = torch.optim.Adam([scores], lr=0.05)
        for _ in range(500):
            target = rng.choice(50, size=8, p=chosen)
            inside = np.flatnonzero(rng.random(50) < q)
            logits = scores[torch.from_numpy(inside)][None].expand(8, -1)
            own = scores[torch.from_numpy(target)][:, None]
            same = torch.from_numpy(inside[None, :] == target[:, None])
            positive = torch.cat([torch.ones(8, 1, dtype=torch.bool), torch.zeros(8, len(inside), dtype=torch.bool)], 1)
            excluded = torch.cat([torch.zeros(8, 1, dtype=torch.bool), same], 1)
            log_q = torch.log(torch.from_numpy(q).float())
            # The positive's own column keeps its score: its probability of being its user's positive is not q.
            joined = torch.cat([own, logits - (log_q[inside] if corrected else 0)], 1)
            loss = info_nce(joined, positive, excluded, None)
            assert loss is not None
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        correlation[corrected] = float(np.corrcoef(scores.detach().numpy(), preference.numpy())[0, 1])
    assert correlation[True] > 0.8
    assert correlation[True] > correlation[False]
