"""Active learning: a list of the texts whose labels would teach the most (Settles, 2009; Sener & Savarese, 2018)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import polars as pl
import structlog
from scipy.special import entr

from features.schema import TEXT, TEXT_ID
from infra.errors import InvalidInputError
from infra.files import write_atomic
from retrieval.encoder.data import Bool, Float32, Float64
from retrieval.encoder.labels.config import LabelQueueConfig
from retrieval.encoder.labels.probabilities import check_probabilities
from retrieval.encoder.tokens import Int64

log = structlog.get_logger(__name__)

PREDICTED: Final = "predicted_label"
PROBABILITY: Final = "probability"
MARGIN: Final = "margin"
RANK: Final = "rank"

# Centres compared with all candidates at once: 500 candidates and 8,192 centres take 16 MB.
_CENTRES: Final = 8192


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelPool:
    """Texts of one task, with and without a label.

    Attributes:
        ids: `[n]` distinct text ids.
        texts: `[n]`.
        vectors: float32 `[n, dim]` unit vectors.
        probabilities: float32 `[n, classes]`, of `class_probabilities` or of a prompt.
        labelled: bool `[n]` texts that have a label already.
        classes: names by code; of a binary task, of 0 and of 1.
    """

    ids: Sequence[str]
    texts: Sequence[str]
    vectors: Float32
    probabilities: Float32
    labelled: Bool
    classes: Sequence[str]


def label_queue(pool: LabelPool, config: LabelQueueConfig) -> pl.DataFrame:
    """Choose uncertain texts that differ from each other and from all labelled ones.

    Every text that equals a labelled one is left out, and of equal texts all but one. The order depends on nothing but
    the pool's rows, in whichever order they come, and the seed.

    Args:
        pool: predictions and vectors of the present model.
        config: how many and by which measure.

    Returns:
        `text_id`, `text`, `predicted_label`, `probability` of it, `margin` to the second class, and `rank` from 1: the
        first k rows are the best choice of k.

    Raises:
        InvalidInputError: the pool's parts have different lengths, ids repeat, or probabilities are none.
    """
    _check(pool)
    open_rows = _open_rows(pool, config.seed)
    doubt = uncertainty(pool.probabilities[open_rows], config.measure)
    candidates = open_rows[np.argsort(-doubt, kind="stable")][: config.size * config.breadth]
    if config.breadth > 1:
        order = k_centre(pool.vectors[candidates], pool.vectors[pool.labelled], config.size)
        chosen = candidates[order]
    else:
        chosen = candidates
    best = pool.probabilities[chosen].argmax(1)
    log.info("label_queue_made", unlabelled=len(open_rows), candidates=len(candidates), rows=len(chosen))
    return pl.DataFrame(
        {
            TEXT_ID: pl.Series([pool.ids[row] for row in chosen], dtype=pl.String),
            TEXT: pl.Series([pool.texts[row] for row in chosen], dtype=pl.String),
            PREDICTED: pl.Series([pool.classes[code] for code in best], dtype=pl.String),
            PROBABILITY: pool.probabilities[chosen].max(1),
            MARGIN: margins(pool.probabilities[chosen]),
            RANK: np.arange(1, len(chosen) + 1, dtype=np.int32),
        }
    )


def write_label_queue(queue: pl.DataFrame, path: Path) -> None:
    """Write the list as a whole or not at all.

    Args:
        queue: of `label_queue`.
        path: `.csv` (with a byte order mark, without which spreadsheets don't read Chinese) or `.parquet`; replaced.

    Raises:
        InvalidInputError: another suffix.
    """
    stream = io.BytesIO()
    if path.suffix == ".csv":
        queue.write_csv(stream, include_bom=True)
    elif path.suffix == ".parquet":
        queue.write_parquet(stream)
    else:
        raise InvalidInputError(f"path: expected a name that ends with .csv or .parquet, found {path.name!r}")
    write_atomic(path, stream.getvalue())


def margins(probabilities: Float32) -> Float32:
    """Return the best class's probability minus the second's, float32 `[n]`, of `[n, classes]`."""
    two = np.partition(probabilities, -2, axis=1)[:, -2:]
    found: Float32 = two[:, 1] - two[:, 0]
    return found


def uncertainty(probabilities: Float32, measure: Literal["margin", "entropy", "least_confidence"]) -> Float64:
    """Return how uncertain each row is, float64 `[n]`, 0 for one sure class (Settles, 2009, section 3.1).

    Args:
        probabilities: float32 `[n, classes]`.
        measure: 1 - margin, entropy in nats, or 1 - the best class's probability.
    """
    if measure == "entropy":
        return np.asarray(entr(probabilities.astype(np.float64)).sum(1), np.float64)
    sure = margins(probabilities) if measure == "margin" else probabilities.max(1)
    return 1 - sure.astype(np.float64)


def k_centre(vectors: Float32, centres: Float32, size: int) -> Int64:
    """Choose rows one by one, each the farthest from all centres and rows chosen before it (Gonzalez, 1985).

    Args:
        vectors: float32 `[n, dim]` unit vectors; the first is chosen first.
        centres: float32 `[m, dim]` unit vectors to keep away from; may be empty.
        size: rows to choose, at most.

    Returns:
        int64 `[min(n, size)]` rows in order of choice; the lower one of two that are equally far.
    """
    nearest = np.full(len(vectors), -np.inf)
    for start in range(0, len(centres), _CENTRES):
        nearest = np.maximum(nearest, (vectors @ centres[start : start + _CENTRES].T).max(1))
    chosen: list[int] = []
    for _ in range(min(size, len(vectors))):
        row = int(nearest.argmin()) if chosen else 0
        chosen.append(row)
        nearest = np.maximum(nearest, vectors @ vectors[row])
        nearest[row] = np.inf
    return np.array(chosen, np.int64)


def _open_rows(pool: LabelPool, seed: int) -> Int64:
    """Return the rows to choose from, int64, in an order that depends on ids and seed alone."""
    order = np.argsort(np.asarray(pool.ids, dtype=np.str_), kind="stable")
    taken = {pool.texts[row] for row in np.flatnonzero(pool.labelled).tolist()}
    rows: list[int] = []
    for row in np.random.default_rng(seed).permutation(order).tolist():
        if pool.texts[row] not in taken:
            taken.add(pool.texts[row])
            rows.append(row)
    return np.array(rows, np.int64)


def _check(pool: LabelPool) -> None:
    sizes = {
        "texts": len(pool.texts),
        "vectors": len(pool.vectors),
        "probabilities": len(pool.probabilities),
        "labelled": len(pool.labelled),
    }
    for name, size in sizes.items():
        if size != len(pool.ids):
            raise InvalidInputError(f"{name}: expected {len(pool.ids)} rows, one an id, found {size}")
    if len(set(pool.ids)) != len(pool.ids):
        raise InvalidInputError(f"ids: expected distinct ones, found {len(pool.ids) - len(set(pool.ids))} repeats")
    check_probabilities(pool.probabilities, len(pool.classes), "probabilities")
