"""Users' vectors of many histories at once, and how well they find what comes next."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from retrieval.sequence.config import SequenceConfig
from retrieval.sequence.histories import Histories, Int64
from retrieval.sequence.model import SequenceNet

# Users whose rankings are made at once.
_ROWS: Final = 512
_CUT: Final = 10


@torch.no_grad()
def user_vectors(net: SequenceNet, histories: Histories, users: Int64, length: int) -> Tensor:
    """Return float32 `[users, width]` of length 1: `users` (int64, with an event at least) after their last one."""
    net.eval()
    every, found = net.items(), []
    for first in range(0, len(users), _ROWS):
        some = users[first : first + _ROWS]
        sizes = np.minimum(histories.lengths[some], length)
        steps = np.arange(int(sizes.max()))
        places = torch.from_numpy(
            np.where(steps < sizes[:, None], histories.starts[some + 1, None] - sizes[:, None] + steps, 0)
        )
        items, kinds, gaps = (
            torch.from_numpy(column)[places].long() for column in (histories.items, histories.kinds, histories.gaps)
        )
        states = net.reader(every[items], kinds, gaps)
        found.append(states[torch.arange(len(some)), torch.from_numpy(sizes) - 1])
    return torch.cat(found)


@torch.no_grad()
def held_out_ndcg(net: SequenceNet, full: Histories, known: Histories, users: Int64, config: SequenceConfig) -> float:
    """Return the mean NDCG@10 of the users' last events among all items, those of the history out unless `again`."""
    every = net.items()
    vectors = user_vectors(net, known, users, config.length)
    targets = torch.from_numpy(full.items[full.starts[users + 1] - 1].astype(np.int64))
    gains = np.zeros(len(users))
    for first in range(0, len(users), _ROWS):
        rows = slice(first, first + _ROWS)
        scores = vectors[rows] @ every.T
        own = scores.gather(1, targets[rows, None])
        if not config.again:
            for row, user in enumerate(users[rows].tolist()):
                scores[row, torch.from_numpy(known.user(user)[0]).long()] = -torch.inf
        ranks = (scores > own).sum(1).numpy()
        gains[rows] = np.where(ranks < _CUT, 1 / np.log2(ranks + 2), 0)
    return float(gains.mean())
