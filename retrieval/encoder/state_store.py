"""States of texts under weights that don't learn, computed once: within a run, and over the runs of a study."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retrieval.encoder.tokens import Int64, TokenTable, ragged_positions

Bool = npt.NDArray[np.bool_]
Store = TypeVar("Store", "TokenStates", "PooledStates")


class TokenStates:
    """Token states below the layers that learn, as float16, as far as the room reaches.

    Args:
        table: the texts.
        dim: of a state.
        room: tokens that fit.
    """

    def __init__(self, table: TokenTable, dim: int, room: int) -> None:
        self._filled = np.zeros(len(table.lengths), bool)
        self._slots = np.zeros(len(table.lengths), np.int64)
        self._states = torch.empty(min(int(table.starts[-1]), room), dim, dtype=torch.float16)
        self._used = 0

    def known(self, texts: Int64) -> Bool:
        """Tell which texts are held, bool `[n]`."""
        return self._filled[texts]

    def read(self, texts: Int64, lengths: Int64) -> Tensor:
        """Return the states `[tokens, dim]` of texts that are held, one text after the other."""
        return self._states[torch.from_numpy(ragged_positions(self._slots[texts], lengths))]

    def keep(self, texts: Int64, lengths: Int64, states: Tensor) -> None:
        """Store as many of the texts, in order, as there is room for; `states` is `[tokens, dim]`."""
        ends = np.cumsum(lengths)
        fits = int(np.searchsorted(ends, len(self._states) - self._used, side="right"))
        if fits == 0:
            return
        total = int(ends[fits - 1])
        self._states[self._used : self._used + total] = states[:total].to("cpu", torch.float16)
        self._slots[texts[:fits]] = self._used + ends[:fits] - lengths[:fits]
        self._filled[texts[:fits]] = True
        self._used += total


class PooledStates:
    """Pooled states of texts under the backbone as it was loaded.

    Args:
        size: of the token table.
        dim: of a state.
    """

    def __init__(self, size: int, dim: int) -> None:
        self._filled = np.zeros(size, bool)
        self._states = torch.empty(size, dim)

    def lacking(self, texts: Int64) -> Int64:
        """Return those of the texts that aren't held, int64."""
        return texts[~self._filled[texts]]

    def read(self, texts: Int64) -> Tensor:
        """Return the states `[n, dim]` of texts that are held."""
        return self._states[torch.from_numpy(texts)]

    def keep(self, texts: Int64, states: Tensor) -> None:
        """Store the states, `[n, dim]`, of texts."""
        self._states[torch.from_numpy(texts)] = states.to("cpu", torch.float32)
        self._filled[texts] = True


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedStates:
    """The stores of one run, from those of its study.

    Attributes:
        memory: of the study.
        table: the run's texts.
        start: what the backbone is loaded from.
    """

    memory: Memory
    table: TokenTable
    start: str

    def token_states(self, layers: int, dim: int, room: int) -> TokenStates:
        """Return the store of the states that so many frozen layers give."""
        return self.memory.token_states(self._key(f"{layers} {room}"), lambda: TokenStates(self.table, dim, room))

    def pooled_states(self, dim: int) -> PooledStates:
        """Return the store of pooled states before fine-tuning."""
        return self.memory.pooled_states(self._key("pooled"), lambda: PooledStates(len(self.table.lengths), dim))

    def _key(self, what: str) -> str:
        texts = hashlib.sha256(self.table.ids.tobytes() + self.table.starts.tobytes())
        return f"{texts.hexdigest()} {self.start} {what}"


class Memory:
    """What the runs of a study need not compute again: half of a short run on the demo's data.

    Runs share a store where their texts and the backbone that they start from are the same. States computed in another
    run's batches differ by rounding, so a run that reuses them repeats to about 1e-3, not bit by bit.
    """

    def __init__(self) -> None:
        self._token: dict[str, TokenStates] = {}
        self._pooled: dict[str, PooledStates] = {}

    def of(self, table: TokenTable, start: str) -> SharedStates:
        """Return the stores of a run on these texts with the backbone that `start` tells."""
        return SharedStates(memory=self, table=table, start=start)

    def token_states(self, key: str, make: Callable[[], TokenStates]) -> TokenStates:
        """Return the store of this key."""
        return _shared(self._token, key, make)

    def pooled_states(self, key: str, make: Callable[[], PooledStates]) -> PooledStates:
        """Return the store of this key."""
        return _shared(self._pooled, key, make)


def _shared(stores: dict[str, Store], key: str, make: Callable[[], Store]) -> Store:
    """Return the store of this key; another key's is let go, as its room would be held for nothing."""
    if key not in stores:
        stores.clear()
        stores[key] = make()
    return stores[key]
