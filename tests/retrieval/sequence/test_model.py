"""The network: causality, items' vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retrieval.sequence.config import SequenceConfig
from retrieval.sequence.model import ItemTable, Reader


@pytest.mark.parametrize("reader", ["attention", "mean"])
def test_no_state_depends_on_later_events(reader: str) -> None:
    torch.manual_seed(0)
    config = SequenceConfig.model_validate({"width": 8, "length": 5, "reader": reader})
    net = Reader(2, config).eval()
    vectors, kinds, gaps = torch.randn(1, 5, 8), torch.tensor([[0, 1, 0, 1, 1]]), torch.tensor([[0, 3, 1, 2, 5]])
    whole = net(vectors, kinds, gaps)
    changed = vectors.clone()
    changed[0, 3:] = torch.randn(2, 8)
    np.testing.assert_allclose(net(changed, kinds, gaps)[0, :3].detach(), whole[0, :3].detach(), atol=1e-6)
    assert not torch.allclose(net(changed, kinds, gaps)[0, 3:], whole[0, 3:], atol=1e-3)
    np.testing.assert_allclose(
        net(vectors[:, :2], kinds[:, :2], gaps[:, :2]).detach(), whole[:, :2].detach(), atol=1e-6
    )


@pytest.mark.parametrize(("reader", "same"), [("attention", False), ("mean", True)])
def test_only_the_mean_is_blind_to_order(reader: str, same: bool) -> None:
    torch.manual_seed(0)
    net = Reader(1, SequenceConfig.model_validate({"width": 8, "length": 4, "reader": reader})).eval()
    vectors, zeros = torch.randn(1, 4, 8), torch.zeros(1, 4, dtype=torch.int64)
    turned = net(vectors[:, [2, 0, 3, 1]], zeros, zeros)[0, -1]
    assert torch.allclose(turned, net(vectors, zeros, zeros)[0, -1], atol=1e-5) is same


def test_an_unseen_item_is_its_text_alone() -> None:
    texts = np.array([[3.0, 0.0], [0.0, 2.0], [0.0, 2.0]], np.float32)
    table = ItemTable(texts, torch.tensor([True, True, False]), SequenceConfig(width=2, heads=1))
    with torch.no_grad():
        table.projection.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        table.own.copy_(torch.tensor([[0.0, 4.0], [3.0, 0.0], [9.0, 9.0]]))
    # (3, 0) + (0, 4) = (3, 4) of length 5; (0, 4) + (3, 0); (0, 4) with nothing of its own.
    expected = [[0.6, 0.8], [0.6, 0.8], [0.0, 1.0]]
    np.testing.assert_allclose(table().detach(), expected, atol=1e-6)
    np.testing.assert_allclose(table(torch.tensor([2, 0])).detach(), [expected[2], expected[0]], atol=1e-6)
