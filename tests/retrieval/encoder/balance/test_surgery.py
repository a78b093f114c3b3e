from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from retrieval.encoder.balance.config import SurgeryConfig
from retrieval.encoder.balance.gradients import Weighted
from retrieval.encoder.balance.protocols import Aggregator, Jacobian
from retrieval.encoder.balance.surgery import WEIGHTINGS, ConflictFree, SignDropout, SurgeryWeighting

CONFLICT = [[2.0, 0.0], [-1.0, 1.0]]
AGREED = [[3.0, 0.0], [0.0, 1.0]]


def jacobian(rows: Sequence[Sequence[float]], names: str = "ab") -> Jacobian:
    return Jacobian(names=tuple(names), rows=torch.tensor(rows), losses=torch.ones(len(rows)))


def weighting(method: str) -> Weighted:
    return Weighted(SurgeryWeighting(method, SurgeryConfig(), seed=0))


BY_HAND = [
    # g1.g2 = -2: g1 + 2/2 g2 = (1, 1), g2 + 2/4 g1 = (0, 1); their mean.
    ("pcgrad", CONFLICT, (0.5, 1.0)),
    ("gradvac", CONFLICT, (0.5, 1.0)),
    # Both projections lie in the dual cone, so they are UPGrad's too.
    ("upgrad", CONFLICT, (0.5, 1.0)),
    # Shortest point between them: .4 g1 + .6 g2.
    ("mgda", CONFLICT, (0.2, 0.6)),
    # G^-1 (|g1|, |g2|) = ((2 + sqrt 2) / 2, 1 + sqrt 2), over their sum: sqrt 2 - 1 and 2 - sqrt 2.
    ("imtlg", CONFLICT, (3 * math.sqrt(2) - 4, 2 - math.sqrt(2))),
    # The mean (.5, .5) has g2.m = 0, so it needs no projection ...
    ("dualproj", CONFLICT, (0.5, 0.5)),
    # ... of (4, 0) and (-1, 1) the mean (1.5, .5) has g2.m = -1: plus 1/2 g2.
    ("dualproj", [[4.0, 0.0], [-1.0, 1.0]], (1.0, 1.0)),
    # Orthogonal rows are scaled to the shortest: (1, 0) and (0, 1).
    ("aligned_mtl", AGREED, (0.5, 0.5)),
    # alpha = 2: |g|^2 w = w^(-1/2), so w = |g|^(-4/3): of lengths 8 and 1 it is 1/16 to 1.
    ("fairgrad", [[8.0, 0.0], [0.0, 1.0]], (8 / 17, 16 / 17)),
    # |g|^2 w = 1 / w, so w = 1 / |g|: 1/3 to 1.
    ("nash_mtl", AGREED, (0.75, 0.75)),
]


@pytest.mark.parametrize(("method", "rows", "expected"), BY_HAND)
def test_gradient_by_hand(method: str, rows: list[list[float]], expected: tuple[float, float]) -> None:
    found = weighting(method)(jacobian(rows))
    torch.testing.assert_close(found, torch.tensor(expected), rtol=2e-3, atol=1e-3)


def test_every_weighting_is_tested() -> None:
    assert {method for method, _, _ in BY_HAND} == WEIGHTINGS


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("method", sorted(WEIGHTINGS))
def test_thresholds_follow_the_gradients_scale(method: str, scale: float) -> None:
    """At the features of a large batch gradients are tiny."""
    rows = torch.tensor([[2.0, 0.5], [-1.0, 1.0]])
    plain = weighting(method)(jacobian(rows.tolist()))
    torch.testing.assert_close(
        weighting(method)(jacobian((rows * scale).tolist())) / scale, plain, rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("method", sorted(WEIGHTINGS))
def test_no_gradient_at_all_gives_zeros(method: str) -> None:
    assert torch.equal(weighting(method)(jacobian([[0.0, 0.0], [0.0, 0.0]])), torch.zeros(2))


@pytest.mark.parametrize("unit", [1.0, 100.0])
def test_imtlg_and_config_ignore_a_row_s_unit(unit: float) -> None:
    """Equal projections on every row's direction: a unit may change the length alone."""
    rows = [[2.0 * unit, 0.0], [-1.0, 1.0]]
    directions = torch.nn.functional.normalize(torch.tensor(rows), dim=1)
    for rule in (weighting("imtlg"), ConflictFree()):
        along = directions @ rule(jacobian(rows))
        assert float(along[0]) == pytest.approx(float(along[1]), rel=1e-3)
        assert float(along[0]) > 0


def test_upgrad_never_works_against_a_task() -> None:
    torch.manual_seed(0)
    for _ in range(20):
        rows = torch.randn(4, 6)
        found = weighting("upgrad")(Jacobian(names=tuple("abcd"), rows=rows, losses=torch.ones(4)))
        assert float((rows @ found).min()) > -1e-2


def test_gradvac_remembers_each_set_of_tasks_apart() -> None:
    rule = weighting("gradvac")
    first = rule(jacobian(CONFLICT, "ab"))
    later = rule(jacobian(CONFLICT, "ab"))
    # The second time the cosine aimed at is half the one found, not 0: less is corrected.
    assert not torch.allclose(first, later)
    assert torch.equal(rule(jacobian(CONFLICT, "ac")), first)


def test_config_by_hand() -> None:
    # Unit rows (1, 0) and (0, 1): direction (1, 1) / sqrt 2, length (3 + 1) / sqrt 2, of two tasks: (2, 2) / 2.
    torch.testing.assert_close(ConflictFree()(jacobian(AGREED)), torch.tensor([1.0, 1.0]))


def test_graddrop_takes_one_sign_by_its_share() -> None:
    rule = SignDropout(leak=0.0, seed=0)
    # Where the signs agree, the mean; where they don't, +1 by a chance of (1 + (1 - 3) / 4) / 2 = 1/4, else -3.
    rows = [[1.0, 2.0], [-3.0, 4.0]]
    found = torch.stack([rule(jacobian(rows)) for _ in range(400)])
    assert torch.equal(found[:, 1], torch.full((400,), 3.0))
    assert set(found[:, 0].tolist()) == {0.5, -1.5}
    # Deviation of the share: sqrt(.25 .75 / 400) = .022.
    assert float((found[:, 0] > 0).float().mean()) == pytest.approx(0.25, abs=0.07)


def test_graddrop_that_leaks_everything_is_the_mean() -> None:
    found = SignDropout(leak=1.0, seed=0)(jacobian([[1.0, 2.0], [-3.0, 4.0]]))
    torch.testing.assert_close(found, torch.tensor([-1.0, 3.0]))


def graddrop(seed: int) -> list[Tensor]:
    rule: Aggregator = SignDropout(leak=0.0, seed=seed)
    torch.manual_seed(5)
    return [rule(jacobian([[1.0] * 20, [-1.0] * 20])) for _ in range(3)]


def test_draws_repeat_by_their_seed_and_leave_torch_s_own_alone() -> None:
    first, again, other = graddrop(0), graddrop(0), graddrop(1)
    assert all(torch.equal(left, right) for left, right in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], first[1])
    after = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(3))
