"""The losses by hand, their gradients beside autograd's, and the sampled one's mean beside the full one."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from retrieval.sequence.losses import FullSoftmax, among, read_before, sampled_softmax

NONE = torch.empty(2, 0, dtype=torch.int64)


def test_full_softmax_by_hand() -> None:
    states = torch.tensor([[math.log(2), 0.0], [0.0, math.log(3)]])
    items = torch.eye(2)
    # Position 0: exponentials 2 and 1, target 0: log(3/2). Position 1: 1 and 3, target 0: log(4/1).
    loss = FullSoftmax.apply(states, items, torch.tensor([0, 0]), NONE, torch.float32)
    assert loss.item() == pytest.approx((math.log(1.5) + math.log(4)) / 2)
    # With item 1 closed at position 1 its target stands alone there: log 1.
    closed = torch.tensor([[1], [1]])
    loss = FullSoftmax.apply(states, items, torch.tensor([0, 0]), closed, torch.float32)
    assert loss.item() == pytest.approx(math.log(1.5) / 2)


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-6), (torch.bfloat16, 0.01)])
def test_its_gradients_are_those_of_autograd(dtype: torch.dtype, within: float) -> None:
    draw = torch.Generator().manual_seed(0)
    states = torch.randn(7, 4, generator=draw).requires_grad_()
    items = torch.randn(9, 4, generator=draw).requires_grad_()
    targets = torch.tensor([0, 1, 2, 3, 4, 4, 8])
    closed = torch.tensor([[0, 0, 5], [1, 8, 0]])
    own = torch.autograd.grad(3 * FullSoftmax.apply(states, items, targets, closed, dtype), [states, items])
    mask = torch.zeros(7, 9)
    mask[closed[0], closed[1]] = -torch.inf
    theirs = torch.autograd.grad(3 * functional.cross_entropy(states @ items.T + mask, targets), [states, items])
    for found, expected in zip(own, theirs, strict=True):
        torch.testing.assert_close(found, expected, atol=within, rtol=0)


def test_sampled_softmax_by_hand() -> None:
    states, own = torch.tensor([[math.log(2)]]), torch.tensor([[1.0]])
    drawn = torch.tensor([[0.0], [1.0], [5.0]])
    # Target exp(log 2) = 2; draws 1 / .5 = 2 and 2 / .25 = 8, the third left out: log((2 + 2 + 8) / 2).
    log_expected = torch.tensor([0.5, 0.25, 1.0]).log()
    hits = torch.tensor([[False, False, True]])
    assert sampled_softmax(states, own, drawn, log_expected, hits).item() == pytest.approx(math.log(6))


def test_drawing_every_item_surely_is_the_full_softmax() -> None:
    draw = torch.Generator().manual_seed(1)
    states, items = torch.randn(5, 3, generator=draw), torch.randn(6, 3, generator=draw)
    targets = torch.tensor([5, 0, 1, 2, 2])
    hits = among(torch.arange(6), torch.stack([torch.arange(5), targets]), 5)
    sampled = sampled_softmax(states, items[targets], items, torch.zeros(6), hits)
    torch.testing.assert_close(sampled, functional.cross_entropy(states @ items.T, targets))


def test_among_finds_pairs_of_drawn_items_alone() -> None:
    pairs = torch.tensor([[0, 0, 1, 1], [3, 4, 9, 2]])
    assert among(torch.tensor([2, 4, 7]), pairs, 2).tolist() == [[False, True, False], [True, False, False]]


def test_what_was_read_is_closed_but_never_the_target() -> None:
    # Two windows: 5, 6, 5 then 7; and 8 then 9, padded. Positions in order: after 5, after 6, after 5 again, after 8.
    read = torch.tensor([[5, 6, 5], [8, 0, 0]])
    ends = torch.tensor([[True, True, True], [True, False, False]])
    # The second position's target is 5, which was read before.
    found = read_before(read, ends, torch.tensor([6, 5, 7, 9]))
    assert found.T.tolist() == [[0, 5], [1, 6], [2, 5], [2, 6], [2, 5], [3, 8]]
