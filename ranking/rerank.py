"""Rules applied to an ordered list after scoring: pure functions of the order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

Rows = npt.NDArray[np.intp]


class RerankConfig(BaseModel):
    """Rules after scoring.

    Attributes:
        discovery_every: any so many consecutive positions after the first page hold at least one item that the user
            never bought, as long as any is left; None leaves the order alone.
        first_page: positions that stay as scored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    discovery_every: int | None = Field(default=None, ge=1)
    first_page: int = Field(default=10, ge=0)


def discover(order: Rows, bought: npt.NDArray[np.bool_], config: RerankConfig, k: int | None = None) -> Rows:
    """Return the order, never-bought items brought forward where too many bought ones would follow each other.

    Within bought and within never-bought items the order stays.

    Args:
        order: intp `[n]`, rows best first.
        bought: bool `[n]` by row: whether the user ever bought that item.
        config: the rule.
        k: how many rows to return; None for all.
    """
    length = len(order) if k is None else min(k, len(order))
    if config.discovery_every is None or length <= config.first_page:
        return order[:length]
    page, rest = order[: config.first_page], order[config.first_page :]
    is_new = ~bought[rest]
    # Ranks within the rest of the two kinds, ascending: a merge takes the smaller one, or a new one when due.
    known, new = np.flatnonzero(~is_new).tolist(), np.flatnonzero(is_new).tolist()
    merged: list[int] = []
    old = fresh = streak = 0
    while old < len(known) and fresh < len(new) and len(merged) < length - len(page):
        if new[fresh] < known[old] or streak == config.discovery_every - 1:
            merged.append(new[fresh])
            fresh, streak = fresh + 1, 0
        else:
            merged.append(known[old])
            old, streak = old + 1, streak + 1
    merged += known[old:] + new[fresh:]
    return np.concatenate([page, rest[np.array(merged, np.intp)]]).astype(np.intp)[:length]
