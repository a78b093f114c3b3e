"""The merge of a user's sources, learnt: small trees say from an item's ranks how likely the user is to buy it.

Fitted on a window before the release's time, on lists made as a request's are. Trees and not one weight a source, since
what a rank is worth depends on the other lists: on Complete Journey, fitted before 2017-10-09 and measured before
2017-11-06 (28 days, half of the households), recall@100 and @500 of all purchases, then of items never bought before:

    quotas and fused ranks       .2693  .4587    .0364  .1457
    logistic regression          .2973  .4755    .0248  .1523   in each list or not, 60 / (60 + rank), both by bought
    trees, without the history   .2962  .4758    .0245  .1469
    trees                        .2948  .4770    .0372  .1715   15 leaves, 40 rounds, 1 ms a request
    and places for new items     .2938  .4764    .0375  .1710
    trees, larger                .2954  .4751    .0385  .1669   31 leaves, 60 rounds, 2 ms
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from features.schema import Float32, Int32
from infra.errors import InvalidInputError
from infra.files import write_atomic
from retrieval.contract import SourceName
from retrieval.quota import ALWAYS, PER, SOURCES, Source
from retrieval.sources import Candidates, Ranking

if TYPE_CHECKING:
    import lightgbm as lgb

# How deep into each source's list is looked for up to `PER` candidates; 500 of the semantic one give nothing more.
_DEPTHS: Final[Mapping[SourceName, int]] = {
    "semantic": 150, "collaborative": 700, "repeat": 500, "trending": 500, "sequence": 500,
}  # fmt: skip
# Of `PER` candidates so many are the first of the semantic list that no list of buyers names, whatever the trees say of
# them: an item that nobody has bought yet is in none, and they never choose it. 25 cost .003 of recall@500, 50 .009.
# In proportion for other k, rounded down: of a few candidates every place is worth more.
_RESERVED: Final = 10
# What the trees read besides ranks, by its name in the file.
_HISTORY: Final = "history"


class MergeRowsError(InvalidInputError):
    """Rows that no merge can be learnt from."""


class MergeConfig(BaseModel):
    """How the merge is learnt.

    Attributes:
        new_weight: how much a purchase of an item that the user never bought before counts beside another: 1 fills the
            candidates with what is bought again. With 1, 2 and 3, and 31 leaves, recall@500 of new items is .1494,
            .1680 and .1848, that of all purchases .4789, .4765 and .4670.
        num_leaves: leaves a tree.
        rounds: trees.
        learning_rate: shrinkage.
        min_data_in_leaf: least rows a leaf.
        seed: of LightGBM.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    new_weight: float = Field(2.0, gt=0)
    num_leaves: int = Field(15, ge=2)
    rounds: int = Field(40, ge=1)
    learning_rate: float = Field(0.1, gt=0, le=1)
    min_data_in_leaf: int = Field(200, ge=1)
    seed: int = 0


def depths(k: int) -> dict[SourceName, int]:
    """Return how many items each source names for `k` candidates: the same up to `PER`, in proportion above."""
    return {name: math.ceil(depth * max(1.0, k / PER)) for name, depth in _DEPTHS.items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranked:
    """Every item that some source names, with its rank in each list.

    Attributes:
        items: int32 `[n]` distinct positions, ascending.
        features: float32 `[n, s + 1]`: the rank by each of the release's sources, NaN in a list that lacks the item,
            and how many different items the user has bought.
        sources: uint8 `[n]` bits of `Source`.
    """

    items: Int32
    features: Float32
    sources: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, rankings: Mapping[SourceName, Ranking], history: int, sources: Sequence[SourceName]) -> Self:
        """Join the sources' lists.

        Args:
            rankings: by source; one that has nothing to say may be missing.
            history: different items in the user's history.
            sources: those that the release has, in the order of `SOURCES`.
        """
        named = [rankings[name].items for name in sources if name in rankings]
        items = np.unique(np.concatenate(named)) if named else np.empty(0, np.int32)
        features = np.full((len(items), len(sources) + 1), np.nan, np.float32)
        features[:, -1] = history
        bits = np.zeros(len(items), np.uint8)
        for column, name in enumerate(sources):
            if name in rankings:
                rows = np.searchsorted(items, rankings[name].items)
                features[rows, column] = np.arange(len(rows))
                bits[rows] |= np.uint8(Source.named(name))
        return cls(items=items, features=features, sources=bits)

    def reserved(self, n: int) -> npt.NDArray[np.bool_]:
        """Return bool: the first `n` items of the semantic source that no other names, the sequence model aside."""
        others = self.sources & np.uint8(255 - Source.SEQUENCE)
        alone = np.flatnonzero(others == Source.SEMANTIC)
        mask = np.zeros(len(self.items), bool)
        mask[alone[np.argsort(self.features[alone, SOURCES.index("semantic")])[:n]]] = True
        return mask


@dataclass(frozen=True, kw_only=True, eq=False)
class LearntMerge:
    """The fitted trees; safe to use from many threads.

    Attributes:
        booster: of ranks by source.
        sources: whose ranks they read, in that order.
    """

    booster: lgb.Booster
    sources: tuple[SourceName, ...]

    def check(self, sources: Sequence[SourceName]) -> None:
        """Check that it was learnt on the lists of a release's sources.

        Raises:
            MergeRowsError: it was learnt on others.
        """
        if self.sources != tuple(sources):
            raise MergeRowsError(f"merge: expected ranks by {', '.join(sources)}, found {', '.join(self.sources)}")

    def merge(self, rankings: Mapping[SourceName, Ranking], history: int, k: int) -> Candidates:
        """Merge rankings into at most `k` distinct candidates; scores are probabilities, equal ones by position.

        Args:
            rankings: by source, as deep as `depths` says.
            history: different items in the user's history.
            k: how many.
        """
        ranked = Ranked.of(rankings, history, self.sources)
        if not len(ranked.items):
            return Candidates(items=ranked.items, scores=np.empty(0, np.float32), sources=ranked.sources)
        scores = np.asarray(self.booster.predict(ranked.features, num_threads=1), np.float32)
        keep = np.lexsort((ranked.items, -scores, ~ranked.reserved(_RESERVED * k // PER)))[:k]
        keep = keep[np.lexsort((ranked.items[keep], -scores[keep]))]
        return Candidates(items=ranked.items[keep], scores=scores[keep], sources=ranked.sources[keep])

    @classmethod
    def fit(
        cls,
        features: Float32,
        labels: Float32,
        weights: Float32,
        config: MergeConfig,
        sources: tuple[SourceName, ...],
    ) -> Self:
        """Fit the trees.

        Args:
            features: float32 `[m, len(sources) + 1]`, of `Ranked`, of many users.
            labels: float32 `[m]` of 0 and 1: whether the user bought the item.
            weights: float32 `[m]`, positive.
            config: how.
            sources: whose ranks the features are.

        Raises:
            MergeRowsError: the labels hold a single class.
        """
        # Fitting and loading only: a release without users needs no trees.
        import lightgbm as lgb  # noqa: PLC0415

        if not 0 < labels.sum() < len(labels):
            raise MergeRowsError(
                f"merge: expected rows bought and not bought, found {labels.sum():.0f} of {len(labels)}"
            )
        parameters = {
            "objective": "binary", "num_leaves": config.num_leaves, "learning_rate": config.learning_rate,
            "min_data_in_leaf": config.min_data_in_leaf, "seed": config.seed, "deterministic": True,
            "force_row_wise": True, "num_threads": 1, "verbose": -1,
        }  # fmt: skip
        rows = lgb.Dataset(features, labels, weight=weights, feature_name=[*sources, _HISTORY])
        return cls(booster=lgb.train(parameters, rows, config.rounds), sources=sources)

    def save(self, path: Path) -> None:
        """Write LightGBM's own text, atomically."""
        write_atomic(path, self.booster.model_to_string().encode())

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Read what `save` wrote; None where a release has no learnt merge.

        Raises:
            MergeRowsError: it was fitted on other sources.
        """
        if not path.exists():
            return None
        import lightgbm as lgb  # noqa: PLC0415 - as above

        booster = lgb.Booster(model_str=path.read_text(encoding="utf-8"))
        for sources in (ALWAYS, SOURCES):
            if booster.feature_name() == [*sources, _HISTORY]:
                return cls(booster=booster, sources=sources)
        raise MergeRowsError(
            f"{path}: expected ranks by {', '.join(ALWAYS)}, perhaps sequence, and {_HISTORY}, "
            f"found {booster.feature_name()}"
        )
