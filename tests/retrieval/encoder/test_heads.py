from __future__ import annotations

import math

import pytest
import torch

from retrieval.encoder.heads import PairHead, RetrievalHead, RowHead, TagHead, product_logit


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
def test_a_row_head_starts_as_its_constant(hidden: int) -> None:
    head = RowHead(5, hidden)
    with torch.no_grad():
        head.bias.fill_(-2)
    assert head(torch.randn(4, 5)).tolist() == [-2.0] * 4


def test_a_row_head_of_classes_and_one_of_numbers() -> None:
    head = RowHead(4, 0, outputs=3)
    with torch.no_grad():
        head.outer.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 0, 0]]))
    # The vector is scaled by sqrt(4) = 2.
    assert head(torch.tensor([[0.5, 0.25, 0, 0]])).tolist() == [[1.0, 0.5, 0.0]]
    number = RowHead(4, 0)
    with torch.no_grad():
        number.outer.weight.copy_(torch.tensor([[1.0, 0, 0, 0]]))
        number.bias.fill_(3.0)
        number.scale.fill_(10.0)
    # 10 x (2 x .5 + 3): the constant of a mean of 30 and a standard deviation of 10.
    assert number(torch.tensor([[0.5, 0, 0, 0]])).tolist() == [40.0]


def test_a_head_reads_the_energy_of_other_heads_classes() -> None:
    head = RowHead(4, 0, energies=2)
    vectors = torch.tensor([[0.5, 0, 0, 0], [0, 0.5, 0, 0]])
    classes = [torch.log(torch.tensor([[1.0, 2.0], [4.0, 8.0]])), torch.log(torch.tensor([[5.0], [4.0]]))]
    with torch.no_grad():
        head.bias.fill_(-1)
        assert head(vectors, classes).tolist() == [-1, -1], "its weight begins at 0"
        head.energy.fill_(0.05)  # type: ignore[union-attr]
        head.scale.fill_(2)
    # Half of log(1 + 2 + 5) and of log(4 + 8 + 4), less 1, times 2.
    found = head(vectors, classes)
    assert found.tolist() == pytest.approx([math.log(8) - 2, math.log(16) - 2], abs=1e-6)
    # The second head's logits were doubled since: half of them is what they were.
    head.sharpness.copy_(torch.tensor([1.0, 0.5]))
    torch.testing.assert_close(head(vectors, [classes[0], 2 * classes[1]]), found)
    assert head.arrays()["energy"].tolist() == pytest.approx([1.0, 1.0, 0.5])
    other = RowHead(4, 0, energies=2)
    other.set_arrays(head.arrays())
    torch.testing.assert_close(other(vectors, [classes[0], 2 * classes[1]]), found)


def test_a_tag_head_reads_normalised_states() -> None:
    head = TagHead(2, 2)
    with torch.no_grad():
        head.outer.weight.copy_(torch.eye(2))
        head.bias.copy_(torch.tensor([0.0, 1.0]))
    # (3, 1) has mean 2 and standard deviation 1: (1, -1), whatever its scale.
    for scale in (1.0, 100.0):
        assert head(scale * torch.tensor([[3.0, 1.0]]))[0].tolist() == pytest.approx([1.0, 0.0], abs=1e-3)


def test_a_childs_probability_is_the_product() -> None:
    parent, own = torch.tensor([0.0, 2.0, -30.0, 30.0]), torch.tensor([0.0, -1.0, 40.0, 30.0])
    found = torch.sigmoid(product_logit(parent, own))
    # At 0 and 0: .5 x .5.
    assert float(found[0]) == pytest.approx(0.25)
    torch.testing.assert_close(found, torch.sigmoid(parent) * torch.sigmoid(own))
    assert bool((found <= torch.sigmoid(parent)).all())
    assert bool(torch.isfinite(product_logit(torch.tensor([-90.0, 90.0]), torch.tensor([-90.0, 90.0]))).all())
