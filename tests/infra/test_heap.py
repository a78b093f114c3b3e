from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from infra.heap import settle


class Node:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    """Leave the tests' own heap as their start settled it."""
    yield
    settle()


def test_what_lives_is_left_out_of_later_collections() -> None:
    kept = [[n] for n in range(10_000)]
    settle()
    assert gc.get_freeze_count() > len(kept)
    assert not any(found is kept for found in gc.get_objects())


def test_cycles_kept_by_an_earlier_call_are_collected() -> None:
    node = Node()
    gone = weakref.ref(node)
    settle()
    del node
    gc.collect()
    assert gone() is not None
    settle()
    assert gone() is None
