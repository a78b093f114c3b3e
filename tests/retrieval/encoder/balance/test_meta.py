from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from retrieval.encoder.balance.meta import Episode, anil, fomaml, reptile


class Product(nn.Module):
    """body and head, scalars, and one more parameter that no loss reads."""

    def __init__(self, body: float, head: float) -> None:
        super().__init__()
        self.body = nn.Parameter(torch.tensor(body))
        self.head = nn.Parameter(torch.tensor(head))
        self.unused = nn.Parameter(torch.tensor(7.0))

    def distance(self, target: float) -> Callable[[], Tensor]:
        return lambda: (self.body * self.head - target).square() / 2

    def gradients(self) -> list[float | None]:
        return [None if p.grad is None else float(p.grad) for p in (self.body, self.head, self.unused)]


def assert_unmoved(module: Product, body: float, head: float) -> None:
    assert (module.body.item(), module.head.item(), module.unused.item()) == (body, head, 7.0)


def test_fomaml_by_hand() -> None:
    module = Product(1.0, 2.0)
    fomaml(module, [Episode(support=module.distance(1.0), query=module.distance(0.0))], steps=1, rate=0.1)
    # Support: error 2 - 1 = 1, slopes (head, body) = (2, 1): body .8, head 1.9.
    # Query there: error .8 x 1.9 = 1.52, slopes 1.52 x (1.9, .8).
    assert module.gradients() == [pytest.approx(2.888), pytest.approx(1.216), None]
    assert_unmoved(module, 1.0, 2.0)


def test_anil_adapts_the_head_alone_and_teaches_both() -> None:
    module = Product(1.0, 2.0)
    episode = Episode(support=module.distance(1.0), query=module.distance(0.0))
    anil(module, [module.head], [episode], steps=1, rate=0.1)
    # Head 1.9, body 1: query's error 1.9, slopes 1.9 x (1.9, 1).
    assert module.gradients() == [pytest.approx(3.61), pytest.approx(1.9), None]
    assert_unmoved(module, 1.0, 2.0)


def test_reptile_by_hand() -> None:
    module = Product(1.0, 2.0)
    reptile(module, [module.distance(1.0)], steps=2, rate=0.1)
    # First step by (2, 1) to (.8, 1.9); then error .52, slopes .52 x (1.9, .8) = (.988, .416): to (.7012, 1.8584).
    # (1 - .7012) / .1 and (2 - 1.8584) / .1:
    assert module.gradients() == [pytest.approx(2.988), pytest.approx(1.416), None]
    assert_unmoved(module, 1.0, 2.0)


def test_each_task_starts_anew_and_counts_alike() -> None:
    together, alone = Product(1.0, 2.0), [Product(1.0, 2.0), Product(1.0, 2.0)]
    reptile(together, [together.distance(1.0), together.distance(3.0)], steps=3, rate=0.1)
    for module, target in zip(alone, (1.0, 3.0), strict=True):
        reptile(module, [module.distance(target)], steps=3, rate=0.1)
    for n in range(2):
        each = [module.gradients()[n] for module in alone]
        assert together.gradients()[n] == pytest.approx(sum(value for value in each if value is not None) / 2)


def test_no_inner_step_is_the_query_s_own_gradient() -> None:
    module = Product(1.0, 2.0)
    fomaml(module, [Episode(support=module.distance(1.0), query=module.distance(0.0))], steps=0, rate=0.1)
    # Error 2, slopes 2 x (2, 1).
    assert module.gradients() == [4.0, 2.0, None]


def test_one_reptile_step_is_the_gradient_at_any_rate() -> None:
    for rate in (1e-9, 0.1):
        module = Product(1.0, 2.0)
        reptile(module, [module.distance(1.0)], steps=1, rate=rate)
        assert module.gradients() == [2.0, 1.0, None]


def test_episodes_count_by_their_weights() -> None:
    module = Product(1.0, 2.0)
    reptile(module, [module.distance(1.0), module.distance(0.0)], steps=1, rate=0.1, weights=[3.0, 1.0])
    # Errors 1 and 2, slopes (2, 1) and (4, 2): 3/4 of the first and 1/4 of the second.
    assert module.gradients() == [pytest.approx(2.5), pytest.approx(1.25), None]
    module = Product(1.0, 2.0)
    episodes = [Episode(support=module.distance(9.0), query=module.distance(target)) for target in (1.0, 0.0)]
    fomaml(module, episodes, steps=0, rate=0.1, weights=[1.0, 3.0])
    # 1/4 of (2, 1) and 3/4 of (4, 2).
    assert module.gradients() == [pytest.approx(3.5), pytest.approx(1.75), None]


def test_parameters_come_back_even_from_a_failure() -> None:
    module = Product(1.0, 2.0)

    def broken() -> Tensor:
        raise ValueError("no rows")

    with pytest.raises(ValueError, match="no rows"):
        fomaml(module, [Episode(support=module.distance(1.0), query=broken)], steps=2, rate=0.1)
    assert_unmoved(module, 1.0, 2.0)


def test_gradients_add_to_those_there() -> None:
    module = Product(1.0, 2.0)
    module.body.grad = torch.tensor(1.0)
    fomaml(module, [Episode(support=module.distance(1.0), query=module.distance(0.0))], steps=0, rate=0.1)
    assert module.gradients() == [5.0, 2.0, None]
