"""What the candidates hold of the held-out window: each source alone, and their merge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from features.schema import Int32, UserFeatures
from flows.report import Figure, RetrievalTable, SourceRecall
from flows.stages.rankings import HeldOut
from retrieval.engine import Retriever
from retrieval.evaluate import bootstrap_interval
from retrieval.recall import MERGED, Answers, recall, source_answers

# What a ranker is given by default, and a fifth of it.
_KS: Final = (100, 500)
# Each user asks some six times, 30 ms in all, and 500 users tell recall@500 to about .01.
_MOST: Final = 500


def retrieval_tables(retriever: Retriever, users: Sequence[UserFeatures], truth: HeldOut) -> tuple[RetrievalTable, ...]:
    """Return the recall of all purchases of the window, and of those of items that a user never bought before.

    Both are of the same answers, which may name what was bought before: those that the ranker gets. Of many users
    evenly spaced ones are asked.

    Args:
        retriever: of the release.
        users: features as of the cut, by user position.
        truth: the window.
    """
    with threadpool_limits(1, "blas"):  # as a service does
        rows = range(0, len(truth.positions), -(-len(truth.positions) // _MOST) or 1)
        answers = source_answers(retriever, [users[truth.positions[row]] for row in rows], _KS)
    tables = (
        _table("All purchases", answers, [truth.relevant[row] for row in rows]),
        _table("Items never bought before", answers, [truth.fresh[row] for row in rows]),
    )
    return tuple(table for table in tables if table is not None)


def _table(title: str, answers: Answers, relevant: Sequence[Int32]) -> RetrievalTable | None:
    """Return the recall over the users who have something relevant; None where there is nobody."""
    rows = [row for row, items in enumerate(relevant) if len(items)]
    if not rows:
        return None
    truth = [relevant[row] for row in rows]

    def figure(source: str, k: int) -> Figure:
        found = bootstrap_interval(recall([answers[source, k][row] for row in rows], truth))
        return Figure(value=found.mean, low=found.low, high=found.high, n=found.users)

    names = list(dict.fromkeys(name for name, _ in answers))
    return RetrievalTable(
        title=title,
        note=f"{len(rows):,} users; the same candidates, whichever purchases are looked for; 95% intervals over users.",
        ks=_KS,
        sources=tuple(SourceRecall(source=name, recalls=tuple(figure(name, k) for k in _KS)) for name in names),
        merged=MERGED,
    )
