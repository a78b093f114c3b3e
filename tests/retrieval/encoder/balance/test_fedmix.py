from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from retrieval.encoder.balance.fedmix import Averages, average_groups, fedmix


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_linear_model_with_squared_loss_by_hand() -> None:
    weight = torch.tensor([2.0, -1.0], requires_grad=True)
    vectors = torch.tensor([[1.0, 1.0]], requires_grad=True)
    averages = Averages(
        vectors=torch.tensor([[3.0, 2.0], [99.0, 99.0]]), labels=torch.tensor([2.0, 99.0]), parties=torch.tensor([1, 0])
    )
    found = fedmix(
        lambda x, y: (x @ weight - y).square(),
        vectors,
        torch.tensor([1.0]),
        torch.tensor([0]),
        averages=averages,
        ratio=0.2,
        generator=generator(),
    )
    # p = w.(.8 x) = .8 (2 - 1) = .8; w.x' = 6 - 2 = 4. Own (.8 - 1)^2 = .04, other (.8 - 2)^2 = 1.44, slope
    # 2 (.8 - 1) x 4 = -1.6: .8 x .04 + .2 x 1.44 + .2 x -1.6 = .032 + .288 - .32 = 0.
    assert found.tolist() == pytest.approx([0.0], abs=1e-6)
    found.sum().backward()
    # By p: .8 x 2 (-.2) + .2 x 2 (-1.2) + .2 x 2 x 4 = -.32 - .48 + 1.6 = .8, and by w.x': .2 x 2 (-.2) = -.08.
    # dw = .8 x (.8, .8) - .08 x (3, 2); dx = .8 x .8 w.
    assert weight.grad is not None
    assert vectors.grad is not None
    assert weight.grad.tolist() == pytest.approx([0.64 - 0.24, 0.64 - 0.16])
    assert vectors.grad[0].tolist() == pytest.approx([1.28, -0.64])


def test_it_is_mixup_up_to_the_square_of_the_ratio() -> None:
    """Cross-entropy with soft labels against mixup over the group's every row."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 4).double()
    own, others = torch.randn(1, 3).double(), torch.randn(5, 3).double()
    labels = functional.one_hot(torch.tensor([2, 0, 1, 3, 3, 0]), 4).double()

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return -(functional.log_softmax(model(x), 1) * y).sum(1)

    averages = Averages(
        vectors=others.mean(0, keepdim=True), labels=labels[1:].mean(0, keepdim=True), parties=torch.tensor([1])
    )
    gaps = []
    for ratio in (0.1, 0.05):
        mixed = loss((1 - ratio) * own + ratio * others, (1 - ratio) * labels[:1] + ratio * labels[1:]).mean()
        found = fedmix(loss, own, labels[:1], torch.tensor([0]), averages=averages, ratio=ratio, generator=generator())
        gaps.append(abs(float((found.mean() - mixed).detach())))
    # Half the ratio, a quarter of the gap.
    assert gaps[1] / gaps[0] == pytest.approx(0.25, abs=0.05)


def test_partners_come_from_other_parties_alone() -> None:
    averages = Averages(
        vectors=torch.tensor([[1.0], [2.0], [4.0]]), labels=torch.zeros(3), parties=torch.tensor([0, 1, 2])
    )
    seen: set[float] = set()
    for seed in range(30):
        # L = x: (1 - r) x + r x + r x' at x = 0 is r x'.
        found = fedmix(
            lambda x, y: x[:, 0] + 0 * y,
            torch.zeros(1, 1),
            torch.zeros(1),
            torch.tensor([1]),
            averages=averages,
            ratio=0.5,
            generator=generator(seed),
        )
        seen.update(found.tolist())
    assert seen == {0.5, 2.0}


def test_rows_without_another_party_keep_their_plain_loss() -> None:
    averages = Averages(vectors=torch.ones(1, 1), labels=torch.ones(1), parties=torch.tensor([0]))
    arguments = {"averages": averages, "ratio": 0.1, "generator": generator()}
    vectors, labels = torch.tensor([[5.0], [1.0], [7.0]]), torch.tensor([1.0, 0.0, 2.0])

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return x[:, 0] - y

    plain = [4.0, 1.0, 5.0]
    assert fedmix(loss, vectors, labels, torch.tensor([0, 0, -1]), **arguments).tolist() == plain
    # Row 1 alone is of another party than the average's: x = .9: .9 x .9 + .1 (.9 - 1) + .1 x 1 = .9.
    found = fedmix(loss, vectors, labels, torch.tensor([0, 1, -1]), **arguments)
    assert found.tolist() == pytest.approx([4.0, 0.9, 5.0])


def test_without_a_share_it_is_the_plain_loss() -> None:
    averages = Averages(vectors=torch.ones(1, 1), labels=torch.ones(1), parties=torch.tensor([0]))
    found = fedmix(
        lambda x, y: (x[:, 0] - y).square(), torch.tensor([[5.0], [1.0]]), torch.zeros(2), torch.tensor([1, 2]),
        averages=averages, ratio=0.0, generator=generator(),
    )  # fmt: skip
    assert found.tolist() == [25.0, 1.0]


def test_groups_are_whole_disjoint_and_of_one_party() -> None:
    vectors = (2.0 ** torch.arange(10))[:, None].requires_grad_()
    parties = torch.tensor([7, 7, 7, 7, 7, 3, 3, 5, -1, -1])
    found = average_groups(vectors, torch.arange(10.0), parties, rows=2, generator=generator())
    # Five rows of party 7 make two groups, two of party 3 one; party 5 would publish a row of its own, and two rows
    # are of no party.
    assert sorted(found.parties.tolist()) == [3, 7, 7]
    assert not found.vectors.requires_grad
    for vector, label, party in zip(found.vectors, found.labels, found.parties, strict=True):
        # Twice a mean of powers of two tells which rows it holds.
        total = int(2 * vector.item())
        members = [n for n in range(10) if total >> n & 1]
        assert len(members) == 2
        assert {int(parties[n]) for n in members} == {int(party)}
        assert float(label) == sum(members) / 2
    totals = [int(2 * vector.item()) for vector in found.vectors]
    assert bin(sum(totals)).count("1") == 6


def test_no_whole_group_is_no_average() -> None:
    found = average_groups(torch.ones(2, 3), torch.ones(2), torch.tensor([0, 1]), rows=2, generator=generator())
    assert found.vectors.shape == (0, 3)
    assert found.labels.shape == (0,)
