"""Reading a source's new texts by the release in service: which are negative, and which series each is of."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from features.schema import TEXT, TEXT_ID, TIMESTAMP, Float32
from flows.monitor.config import MonitorConfig
from flows.monitor.store import MonitorStore, ScoredText
from infra.errors import InvalidInputError, unknown_name
from ranking.predictor import Predictor
from retrieval.encoder.head_runtime import Heads

# So many texts are read, then kept: a killed run repeats at most these.
_BLOCK: Final = 1024


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What a run read of a source.

    Attributes:
        new: texts that were not known.
        rescored: known texts that something else had scored.
        late: new texts of buckets that are judged.
        undated: texts without a time, which are left out.
    """

    new: int
    rescored: int
    late: int
    undated: int


def score_new(
    store: MonitorStore, texts: pl.DataFrame, scorer: Scorer, *, since: datetime | None, until: datetime
) -> Scored:
    """Score the texts of a source that the store lacks, or has by another release or rule, and keep them.

    Args:
        store: the monitor's.
        texts: the source's table.
        scorer: of the release in service.
        since: texts before it are in no history any more; None reads all.
        until: texts at or after it are not read.

    Raises:
        InvalidInputError: the texts have no times, or lack a column of `by`.
    """
    check_texts(texts, scorer.config, scorer.grouping_tasks)
    dated = texts.filter(pl.col(TIMESTAMP) < until)
    if since is not None:
        dated = dated.filter(pl.col(TIMESTAMP) >= since)
    known = store.scored()
    kept = pl.Series([known.get(text_id) != scorer.key for text_id in dated[TEXT_ID]], dtype=pl.Boolean)
    fresh = dated.filter(kept)
    for start in range(0, fresh.height, _BLOCK):
        store.add(scorer.score(fresh[start : start + _BLOCK]), scorer.key)
    is_new = pl.Series([text_id not in known for text_id in fresh[TEXT_ID]], dtype=pl.Boolean)
    new, judged = fresh.filter(is_new), store.judged_until()
    late = 0 if judged is None else new.filter(pl.col(TIMESTAMP) < judged).height
    undated = texts[TIMESTAMP].null_count()
    return Scored(new=new.height, rescored=fresh.height - new.height, late=late, undated=undated)


def check_texts(texts: pl.DataFrame, config: MonitorConfig, tasks: Collection[str]) -> None:
    """Check that texts have times and what they are grouped by.

    Raises:
        InvalidInputError: naming the column.
    """
    if TIMESTAMP not in texts.columns:
        raise InvalidInputError(f"section monitor: table texts: expected a column {TIMESTAMP}, found none")
    for name in config.by:
        if name not in tasks and name not in texts.columns:
            known = [*tasks, *texts.columns]
            raise InvalidInputError(f"section monitor: by: {unknown_name('task or column of the texts', name, known)}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Scorer:
    """Reads texts as the services would.

    Attributes:
        release_id: of the release.
        predictor: of the release.
        config: which task, and which of its answers are negative.
    """

    release_id: str
    predictor: Predictor
    config: MonitorConfig

    @property
    def key(self) -> str:
        """What tells scores of one release and rule from others'."""
        config = self.config
        rule = (config.task, config.negative, config.below, config.above, config.by)
        return json.dumps([self.release_id, *rule])

    @property
    def heads(self) -> Heads:
        """The release's heads."""
        heads = self.predictor.heads
        assert heads is not None, "every release of a flow has an encoder"
        return heads

    @property
    def grouping_tasks(self) -> tuple[str, ...]:
        """Tasks whose likeliest class can group texts; one goes before a column of its name."""
        heads = self.heads.tasks.values()
        return tuple(task.name for task in heads if task.on == "text" and task.kind == "multiclass")

    def score(self, texts: pl.DataFrame) -> Iterator[ScoredText]:
        """Yield texts (at most some thousands) with their scores, all of one pass of the encoder.

        Raises:
            EncoderUnavailableError: the release's encoder can't be read.
            InvalidInputError: the release has no such task, or its task no such class.
        """
        vectors = self.predictor.texts.encode(texts[TEXT].to_list())
        scores, negative = self._rule(vectors)
        columns = {name: self._values(name, texts, vectors) for name in self.config.by}
        rows = texts.select(TEXT_ID, TEXT, TIMESTAMP).iter_rows()
        for row, (text_id, text, at) in enumerate(rows):
            groups = {name: value for name, values in columns.items() if (value := values[row]) is not None}
            yield ScoredText(
                text_id=text_id, text=text, at=at, score=float(scores[row]), is_negative=bool(negative[row]),
                groups=groups,
            )  # fmt: skip

    def _rule(self, vectors: Float32) -> tuple[Float32, npt.NDArray[np.bool_]]:
        """Return each text's score, float32 `[n]`, and whether it is negative, bool `[n]`."""
        config = self.config
        found = self.heads.row_predictions(config.task, vectors)
        if not config.negative:
            if config.below is not None:
                return found, found < config.below
            assert config.above is not None, "the section names one rule"
            return found, found > config.above
        classes = self.heads.tasks[config.task].classes
        for name in config.negative:
            if name not in classes:
                raise InvalidInputError(f"section monitor: negative: {unknown_name('class', name, classes)}")
        codes = [classes.index(name) for name in config.negative]
        return found[:, codes].sum(axis=1), np.isin(found.argmax(axis=1), codes)

    def _values(self, name: str, texts: pl.DataFrame, vectors: Float32) -> Sequence[str | None]:
        """Return each text's value of a grouping: a task's likeliest class, or a column's value in words."""
        if name not in self.grouping_tasks:
            return texts[name].cast(pl.String).to_list()
        classes = self.heads.tasks[name].classes
        return [classes[code] for code in self.heads.row_predictions(name, vectors).argmax(axis=1).tolist()]
