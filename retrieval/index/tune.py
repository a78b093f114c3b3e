"""The least effort that reaches the recall asked for, found by searching beside exact search on sampled queries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import structlog

from features.schema import Float32
from retrieval.index.config import IndexConfig
from retrieval.index.exact import exact, products, recall
from retrieval.index.faiss_search import find
from retrieval.index.lists import Lists
from retrieval.index.margins import Answers
from retrieval.index.meta import INVERTED, IndexMeta
from retrieval.index.plan import TUNED_K
from retrieval.index.regions import regions
from retrieval.index.rows import Int64, Rows, shortened

log = structlog.get_logger(__name__)

_QUERIES: Final = 256
_BREADTHS: Final = (256, 384, 512, 768, 1_024, 1_536, 2_048)
# Candidates a result: 8 bits hardly change the order, a product quantiser or a prefix does.
_FINE: Final = (1.0, 1.25, 1.5, 2.0)
_COARSE: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_PLATEAU: Final = 5e-4  # twice the effort for less isn't worth it


def tuned(
    cpu: Any, lists: Lists | None, rows: Rows, meta: IndexMeta, config: IndexConfig, queries: Float32 | None
) -> IndexMeta:
    """Return `meta` with the fewest probes (or breadth) and candidates whose recall reaches the target.

    Args:
        cpu: the FAISS index, which holds `rows`.
        lists: of an inverted file.
        rows: see there.
        meta: as built, of a type whose candidates are scored again.
        config: the target, and efforts that are fixed.
        queries: float32 `[q, dim]` of the kind that will ask; None samples the rows themselves.
    """
    if not len(rows):
        return meta
    asked = _sampled(rows, queries, config.seed)
    nearest, best = exact(rows.vectors, rows.positions, asked, min(TUNED_K, len(rows)))
    meta = _unmasked(cpu, rows, meta, config, asked, best)
    cases = [Answers.of(rows, asked, nearest, best)]
    cases += [Answers.of(rows, part.queries, part.nearest, part.best) for part in regions(rows, asked, config.seed)]
    # Of what may be missed under a mask, half is left to the codes and a tenth to the lists: what those miss is missed
    # by a few queries, which would lose more than the share on average says.
    miss = 1 - config.recall_target
    doubt = max(case.doubt(cpu, meta.type, 1 - miss / 2) for case in cases)
    slack = 0.0 if lists is None else max(case.slack(lists, 1 - miss / 10) for case in cases)
    meta = meta.model_copy(update={"doubt": doubt, "slack": slack})
    assert meta.recall is not None, "measured above"
    if meta.recall < config.recall_target:
        log.warning("index_recall_below_target", type=meta.type, target=config.recall_target, recall=meta.recall)
    return meta


def _sampled(rows: Rows, queries: Float32 | None, seed: int) -> Float32:
    """Return float32 `[q, dim]`: items, half of them `queries` where there are any."""
    items = rows.whole(rows.sample(_QUERIES, seed))
    if queries is None or not len(queries):
        return items
    half = np.random.default_rng(seed).choice(len(queries), min(_QUERIES // 2, len(queries)), replace=False)
    return np.concatenate([items[::2], queries[np.sort(half)]]).astype(np.float32, copy=False)


def _unmasked(cpu: Any, rows: Rows, meta: IndexMeta, config: IndexConfig, asked: Float32, best: Float32) -> IndexMeta:
    """Return `meta` with the first effort whose candidates reach the target with half of the miss to spare.

    Those who ask are strangers to the index, the items sampled aren't. The fewest candidates a result are then those
    that lose no more than a quarter of the miss.
    """
    k, widths = best.shape[1], _widths(meta)
    miss = 1 - config.recall_target
    heads = shortened(asked, meta.prefix)
    before, field = 0.0, {}
    for effort in _efforts(meta, config):
        most = k * widths[-1]
        if meta.type == "hnsw":  # a breadth below the number asked for would be raised to it
            most = min(most, max(k, effort))
        _, found = find(cpu, meta.type, heads, min(len(rows), int(most)), effort)
        reached = _recalls(rows, asked, found, best, widths)
        field = {"probes": effort} if meta.type in INVERTED else {"ef_search": effort} if meta.type == "hnsw" else {}
        if reached[-1] >= config.recall_target + miss / 2 or reached[-1] - before < _PLATEAU < before:
            break
        before = reached[-1]
    width, recalled = next(pair for pair in zip(widths, reached, strict=False) if pair[1] >= reached[-1] - miss / 4)
    return meta.model_copy(update={**field, "widen": width, "recall": recalled})


def _widths(meta: IndexMeta) -> tuple[float, ...]:
    return _COARSE if meta.type == "ivf_pq" or meta.prefix is not None else _FINE


def _efforts(meta: IndexMeta, config: IndexConfig) -> Iterator[int]:
    """Yield probes or breadths to try, ascending; a scan has one."""
    if meta.type in INVERTED:
        if config.probes is not None:
            yield min(config.probes, meta.lists)
            return
        probes = 1
        while probes < meta.lists:
            yield probes
            probes *= 2
        yield meta.lists
    elif meta.type == "hnsw":
        yield from (config.ef_search,) if config.ef_search is not None else _BREADTHS
    else:
        yield 1


def _recalls(rows: Rows, asked: Float32, found: Int64, best: Float32, widths: tuple[float, ...]) -> list[float]:
    """Return the recall by each width that fits `found` (int64 `[q, m]` rows in FAISS's order, -1 for none)."""
    scores = products(rows.vectors, asked, np.where(found < 0, np.int32(-1), rows.positions[found]))
    k = best.shape[1]
    kept: list[float] = []
    for width in widths:
        if kept and k * width > found.shape[1]:
            break
        part = scores[:, : max(k, int(k * width))]
        kept.append(recall(best, -np.partition(-part, k - 1, axis=1)[:, :k]))
    return kept
