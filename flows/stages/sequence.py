"""The sequence model as of a cut: purchases before it as histories, training, and what a release takes over."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import structlog

from features.schema import ITEM, USER
from features.transforms import AGE, as_of
from flows.stages.data import Data, Mask
from retrieval.layout import ITEM_VECTORS, SEQUENCE_DIR
from retrieval.rows import mapped
from retrieval.sequence.config import SequenceConfig
from retrieval.sequence.events import event_times
from retrieval.sequence.export import exported
from retrieval.sequence.histories import Histories
from retrieval.sequence.texts import TextScale
from retrieval.sequence.train import SequenceDataError, train

log = structlog.get_logger(__name__)


def fit_sequence(data: Data, cut: datetime, item_vectors: Path, config: SequenceConfig, out: Path) -> None:
    """Train on purchases of eligible items before the cut, and write the model below `out`.

    Args:
        data: the catalogue and events; those at or after the cut are not read.
        cut: the time.
        item_vectors: folder that `embed_items` wrote.
        config: the model.
        out: empty folder.

    Raises:
        SequenceDataError: no item is eligible, or nobody bought two of those before the cut.
    """
    texts, eligible = mapped(item_vectors / ITEM_VECTORS), data.eligible(cut)
    members = np.flatnonzero(eligible).astype(np.int32)
    if not len(members):
        raise SequenceDataError(f"sequence, before {cut.isoformat()}: expected eligible items, found none")
    scale = TextScale.of(texts[members])
    trained = train(purchase_histories(data, cut, eligible), scale.standardised(texts[members]), config, show=True)
    exported(trained.net, scale, config).placed(members, texts).save(out / SEQUENCE_DIR)
    best = trained.epochs[trained.best - 1]
    log.info(
        "sequence_fitted",
        cut=cut.date().isoformat(),
        items=len(members),
        epoch=trained.best,
        epochs=len(trained.epochs),
        ndcg=round(best.ndcg, 4),
        seconds=round(trained.epochs[-1].seconds),
    )


def purchase_histories(data: Data, cut: datetime, eligible: Mask) -> Histories:
    """Return users' purchases of eligible items before a cut, timed as a request reads them, by place among those.

    Args:
        data: the events.
        cut: only events strictly before it count.
        eligible: bool `[n_items]`.
    """
    bought = as_of(data.events, cut, data.features).purchases
    # Events of one moment go by position, and what is one moment depends on float32 ages.
    bought = (
        bought.select(USER, ITEM, pl.col(AGE).cast(pl.Float32))
        .filter(pl.lit(pl.Series(eligible)).gather(pl.col(ITEM)))
        .sort(USER, pl.col(AGE), ITEM, descending=[False, True, False])
    )
    places = np.cumsum(eligible, dtype=np.int32) - 1
    return Histories.of(
        bought[USER].to_numpy(),
        places[bought[ITEM].to_numpy()],
        n_users=data.n_users,
        times=event_times(bought[AGE].to_numpy()),
    )
