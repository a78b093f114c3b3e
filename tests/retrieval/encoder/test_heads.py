from __future__ import annotations

import math

import pytest
import torch

from retrieval.encoder.heads import PairHead, RetrievalHead, UserHead


def test_pair_logit_by_hand() -> None:
    head = PairHead(4, 1)
    with torch.no_grad():
        head.left.copy_(torch.tensor([[1.0, 0, 0, 0]]))
        head.right.copy_(torch.tensor([[0, 3.0, 0, 0]]))
        head.user.copy_(torch.tensor([0.5, 0, 0, 0]))
        head.item.copy_(torch.tensor([0, 0.25, 0, 0]))
        head.bias.fill_(-1)
    # Vectors are scaled by sqrt(4) = 2: U u = 2, V v = 6, a.u = 1, b.v = .5: 12 + 1 + .5 - 1.
    logits = head(torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([[0, 1.0, 0, 0], [0, 0, 1.0, 0]]))
    assert logits.tolist() == [[12.5, 0.0]]


def test_retrieval_is_the_cosine_over_the_temperature_and_bounded() -> None:
    head = RetrievalHead(0.05)
    users = torch.eye(2)
    assert head(users, users)[0].tolist() == pytest.approx([20.0, 0.0])
    with torch.no_grad():
        head.log_scale.fill_(math.log(1e6))
    assert float(head(users, users)[0, 0].detach()) == pytest.approx(100.0)


@pytest.mark.parametrize("hidden", [0, 3])
def test_a_user_head_starts_as_its_constant(hidden: int) -> None:
    head = UserHead(5, hidden)
    with torch.no_grad():
        head.bias.fill_(-2)
    assert head(torch.randn(4, 5)).tolist() == [-2.0] * 4
