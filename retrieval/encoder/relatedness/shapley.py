"""What each task is worth to a model of several: exact Shapley values over all subsets.

The value of player i is the mean, over all orders in which the players may join, of what i adds to those before it
(Shapley, 1953): with n players

    phi_i = sum over S without i of |S|! (n - |S| - 1)! / n! * (v(S + i) - v(S)).

A value function needs a training run for each subset, so players are few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from math import factorial
from typing import Final

from infra.errors import InvalidInputError

# 2 ** 5 - 1 = 31 runs for each seed; the next would be 63.
MOST_TASKS: Final = 5

Value = Callable[[frozenset[str]], float]


def shapley_values(players: Sequence[str], value: Value) -> dict[str, float]:
    """Return each player's Shapley value; together they are the value of all players less that of none.

    Args:
        players: distinct, at most five.
        value: of a subset, the empty one included; asked once for each.

    Raises:
        InvalidInputError: more than five players.
    """
    assert len(set(players)) == len(players)
    if len(players) > MOST_TASKS:
        found = f"{len(players)}: {', '.join(players)}"
        raise InvalidInputError(f"expected at most {MOST_TASKS} tasks, each subset of which is trained, found {found}")
    values = {subset: value(subset) for subset in subsets(players)}
    n = len(players)
    # By the size of the subset that a player joins.
    share = [factorial(size) * factorial(n - size - 1) / factorial(n) for size in range(n)]
    return {
        player: sum(
            share[len(subset)] * (values[subset | {player}] - worth)
            for subset, worth in values.items()
            if player not in subset
        )
        for player in players
    }


def subsets(players: Sequence[str]) -> Iterator[frozenset[str]]:
    """Yield every subset, the empty one first, smaller ones before larger ones."""
    for size in range(len(players) + 1):
        yield from (frozenset(chosen) for chosen in combinations(players, size))
