"""What a release predicts of single rows: users, items and texts, by blends and by the encoder's heads.

The encoder is all that texts need; users and items take what the release holds of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from features.tasks import TaskSpec
from ranking.spaces import Bool, item_filters, load_tasks
from retrieval.encoder.head_runtime import Heads
from retrieval.encoder.layout import TaskOn
from retrieval.layout import ENCODER_DIR, ENCODER_HEADS, TASKS
from retrieval.lazy_encoder import LazyEncoder
from retrieval.parts import Part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from features.schema import UserFeatures
    from ranking.blend import Float64
    from ranking.ranker import Ranker
    from retrieval.engine import Retriever

# The part of a release that rows are read from.
_NEEDS: Final[dict[TaskOn, Part]] = {"text": "encoder", "item": "items", "user": "users", "pair": "ranking"}
# Kinds of head that give a row on its own an answer: not a ranking of items, nor tags of its words.
_ROW_KINDS: Final = ("binary", "regression", "multiclass")


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictor:
    """One loaded release; safe to use from many threads.

    Attributes:
        tasks: the release's task specs.
        heads: of the encoder; None in a release without one.
        texts: the text encoder.
        retriever: users' and items' vectors; None in a release without items.
        ranker: blends of tasks on users; None in a release that ranks nothing.
    """

    tasks: tuple[TaskSpec, ...]
    heads: Heads | None
    texts: LazyEncoder
    retriever: Retriever | None = None
    ranker: Ranker | None = None

    @classmethod
    def load(cls, release: Path, retriever: Retriever | None = None, ranker: Ranker | None = None) -> Self:
        """Load what the release directory `release` predicts by, beside its retriever and ranker where it has them."""
        return cls(
            tasks=load_tasks(release / TASKS),
            heads=Heads.load(release / ENCODER_DIR) if (release / ENCODER_HEADS).exists() else None,
            texts=LazyEncoder.of(release) if retriever is None else retriever.texts,
            retriever=retriever,
            ranker=ranker,
        )

    @property
    def pair_tasks(self) -> tuple[str, ...]:
        """Tasks that have a probability per item, which the ranker gives."""
        return () if self.ranker is None else self.ranker.pair_tasks

    @property
    def user_tasks(self) -> tuple[str, ...]:
        """Tasks that have a blended probability per user."""
        return () if self.ranker is None else self.ranker.user_tasks

    def blended(self, users: Sequence[UserFeatures], tasks: Sequence[str]) -> Mapping[str, Float64]:
        """Return each blended user task's probabilities, float64 `[len(users)]`; nothing without any in `tasks`."""
        if self.ranker is None or not set(tasks) & set(self.user_tasks):
            return {}
        return self.ranker.predict_users(users)

    @cached_property
    def item_filters(self) -> Mapping[str, Bool | None]:
        """Item task -> bool `[n_items]`, which items it speaks about; None for all."""
        own = [task for task in self.tasks if task.on == "item"]
        return {} if self.retriever is None else item_filters(own, self.retriever.snapshot)

    def row_tasks(self, on: TaskOn) -> tuple[str, ...]:
        """Return the release's tasks that are predicted of single users, items or texts: by a blend or a head."""
        held = ("encoder",) if self.retriever is None else self.retriever.parts
        if _NEEDS[on] not in held:
            return ()
        heads = {} if self.heads is None else self.heads.tasks
        blended = self.user_tasks if on == "user" else ()
        rows = [task.name for task in self.tasks if task.on == on and task.kind in _ROW_KINDS]
        return tuple(name for name in rows if name in heads or name in blended)
