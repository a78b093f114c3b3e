from __future__ import annotations

import numpy as np
import torch

from retrieval.encoder.state_store import Memory, PooledStates, TokenStates
from retrieval.encoder.tokens import TokenTable

# Three texts of 2, 1 and 3 tokens.
TABLE = TokenTable(ids=np.arange(6, dtype=np.int32), starts=np.array([0, 2, 3, 6]), pad_id=0)
LENGTHS = np.array([2, 1, 3])


def _states(*tokens: int) -> torch.Tensor:
    """A state [t, -t] for each token t."""
    own = torch.tensor(tokens, dtype=torch.float32)
    return torch.stack([own, -own], dim=1)


def test_token_states_come_back_text_by_text() -> None:
    store = TokenStates(TABLE, 2, room=100)
    texts = np.array([2, 0])
    store.keep(texts, LENGTHS[texts], _states(3, 4, 5, 0, 1))
    assert store.known(np.array([0, 1, 2])).tolist() == [True, False, True]
    back = store.read(np.array([0, 2]), LENGTHS[[0, 2]])
    assert torch.equal(back.float(), _states(0, 1, 3, 4, 5))


def test_what_has_no_room_is_not_held() -> None:
    store = TokenStates(TABLE, 2, room=4)
    # Text 0 takes two of four places, text 2 needs three more, so it and what follows it stay out.
    texts = np.array([0, 2, 1])
    store.keep(texts, LENGTHS[texts], _states(0, 1, 3, 4, 5, 2))
    assert store.known(texts).tolist() == [True, False, False]
    store.keep(np.array([1]), LENGTHS[[1]], _states(2))
    assert torch.equal(store.read(np.array([1, 0]), LENGTHS[[1, 0]]).float(), _states(2, 0, 1))


def test_pooled_states_tell_what_they_lack() -> None:
    store = PooledStates(4, 2)
    store.keep(np.array([3, 1]), _states(3, 1).to(torch.bfloat16))
    assert store.lacking(np.array([0, 1, 3])).tolist() == [0]
    assert torch.equal(store.read(np.array([1, 3])), _states(1, 3))


def test_runs_share_a_store_only_for_equal_texts_and_starts() -> None:
    memory = Memory()
    first = memory.of(TABLE, "bert").pooled_states(2)
    assert memory.of(TABLE, "bert").pooled_states(2) is first
    assert memory.of(TABLE, "other").pooled_states(2) is not first
    changed = TokenTable(ids=TABLE.ids[::-1].copy(), starts=TABLE.starts, pad_id=0)
    second = memory.of(TABLE, "bert").token_states(1, 2, 10)
    assert memory.of(TABLE, "bert").token_states(1, 2, 10) is second
    assert memory.of(TABLE, "bert").token_states(2, 2, 10) is not second
    assert memory.of(changed, "bert").token_states(2, 2, 10) is not memory.of(TABLE, "bert").token_states(2, 2, 10)
