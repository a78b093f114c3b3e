"""What a report measures, in the size of the demo's: rankings, tasks, families of signals, groups."""

from __future__ import annotations

from typing import Literal

from flows.report import (
    AblationRow,
    AuditMetric,
    AuditReport,
    ExposureShare,
    ExposureTable,
    Figure,
    GroupComparison,
    GroupFigure,
    PairedDifference,
    RankingTable,
    ReliabilityBin,
    RetrievalTable,
    ScorerRanking,
    SourceRecall,
    TaskScores,
)

USERS = 1973


def figure(value: float, half: float, n: int = USERS) -> Figure:
    return Figure(value=value, low=value - half, high=value + half, n=n)


def scorer(name: str, ndcg: float, recall: float, *, stage: bool = False) -> ScorerRanking:
    return ScorerRanking(
        scorer=name,
        group="stage" if stage else "baseline",
        ndcg=figure(ndcg, 0.009),
        recall=figure(recall, 0.004),
        mrr=figure(ndcg * 1.4, 0.012),
        coverage=Figure(value=0.21, n=24480),
    )


def rankings() -> tuple[RankingTable, ...]:
    every = RankingTable(
        title="all eligible items",
        note="Purchases of the next 28 days, items with at least 5 buyers before the cut.",
        scorers=(
            scorer("popularity", 0.155, 0.0301),
            scorer("ALS", 0.1971, 0.0584),
            scorer("BM25 item-kNN", 0.2111, 0.0622),
            scorer("own frequency", 0.3882, 0.1011),
            scorer("own frequency, decayed over 90 days", 0.4058, 0.1054),
            scorer("encoder retrieval", 0.231, 0.069, stage=True),
            scorer("GBDT LambdaRank", 0.4181, 0.1112, stage=True),
            scorer("blend", 0.4203, 0.1121, stage=True),
        ),
        shipped="blend",
        differences=(
            PairedDifference(
                scorer="blend",
                baseline="own frequency, decayed over 90 days",
                metric="NDCG@10",
                difference=figure(0.0145, 0.0049),
            ),
            PairedDifference(scorer="blend", baseline="GBDT", metric="NDCG@10", difference=figure(0.0022, 0.0031)),
            PairedDifference(scorer="blend", baseline="oracle", metric="NDCG@10", difference=figure(-0.1, 0.01)),
        ),
    )
    new = RankingTable(
        title="never bought before",
        scorers=(
            scorer("popularity", 0.0351, 0.0139),
            scorer("ALS", 0.0437, 0.0193),
            scorer("blend", 0.0471, 0.0205, stage=True),
        ),
        shipped="blend",
    )
    return every, new


def retrieval() -> tuple[RetrievalTable, ...]:
    """Two sources and their merge; of new items the repeat list has none."""
    shares = {"semantic": (0.051, 0.142), "repeat": (0.31, 0.394), "merged": (0.33, 0.452)}
    every = RetrievalTable(
        title="all purchases",
        note="1,973 users.",
        ks=(100, 500),
        sources=tuple(
            SourceRecall(source=name, recalls=tuple(figure(share, 0.004) for share in pair))
            for name, pair in shares.items()
        ),
        merged="merged",
    )
    found = (figure(0.06, 0.004), figure(0.167, 0.007))
    new = RetrievalTable(
        title="items never bought before",
        ks=(100, 500),
        sources=(
            SourceRecall(source="repeat", recalls=(Figure(value=0.0, n=USERS), Figure(value=0.0, n=USERS))),
            SourceRecall(source="merged", recalls=found),
        ),
        merged="merged",
    )
    return every, new


def one_task(name: str, scorer_name: str, rate: float, shift: float) -> TaskScores:
    centres = [rate * factor for factor in (0.1, 0.3, 0.6, 1.0, 2.0, 4.0)]
    return TaskScores(
        task=name,
        scorer=scorer_name,
        auc=figure(0.8 + shift, 0.01),
        log_loss=figure(0.05 - shift / 10, 0.001),
        calibration=figure(1.0 + shift, 0.02),
        ece=Figure(value=0.004, n=100_000),
        n=100_000,
        positives=round(100_000 * rate),
        reliability=tuple(
            ReliabilityBin(predicted=min(1.0, c), observed=min(1.0, c * (1 + shift)), n=1000) for c in centres
        ),
    )


def task_scores() -> tuple[TaskScores, ...]:
    """Four tasks by three scorers; coupon_response's encoder head has neither AUC nor calibration."""
    scores = [
        one_task(name, scorer_name, rate, shift)
        for name, rate in (("purchase", 0.004), ("repurchase", 0.08), ("coupon_response", 0.01), ("churn", 0.2))
        for scorer_name, shift in (("encoder head", -0.1), ("GBDT", 0.04), ("blend", 0.06))
    ]
    # Two tasks of three scorers stand before it.
    scores[6] = scores[6].model_copy(update={"auc": None, "calibration": None})
    return tuple(scores)


def ablation() -> tuple[AblationRow, ...]:
    """What the purchase's blend loses without each family of signals, and what each reaches alone."""
    return tuple(
        AblationRow(
            task="purchase",
            family=family,
            alone=figure(0.0181 + cost, 0.0002),
            without=figure(0.0172 + cost / 10, 0.0002),
            full=figure(0.0172, 0.0002),
            worth=figure(cost / 10, 0.00004),
        )
        for family, cost in (("encoder heads", 0.0011), ("collaborative", 0.0003), ("GBDT", 0.002))
    )


def audit_report() -> AuditReport:
    """Churn and NDCG by age, exposure by brand."""
    return AuditReport(
        smallest=30,
        selected=0.1,
        comparisons=(
            by_age("churn", "auc", (0.7, 0.78, None, 0.75), figure(0.08, 0.03, 346)),
            by_age("churn", "selection", (0.08, 0.11, 0.2, 0.1), None),
            by_age(None, "ndcg", (0.4, 0.42, 0.41, 0.43), Figure(value=0.02, low=0.0, high=0.05, n=346)),
            GroupComparison(
                task=None, on="item", column="brand", metric="exposure",
                groups=(
                    GroupFigure(group="National", size=19584, figure=figure(0.05, 0.01)),
                    GroupFigure(group="Private", size=4896, figure=figure(-0.05, 0.01)),
                ),
                highest="National", lowest="Private", gap=figure(0.1, 0.02),
            ),
        ),
        exposure=(exposure_by_brand(),),
    )  # fmt: skip


def by_age(
    task: str | None, metric: AuditMetric, values: tuple[float | None, ...], gap: Figure | None
) -> GroupComparison:
    """Two groups to compare, a small one, and the users of unknown age."""
    names, sizes = ("25-34", "35-44", "65+", "(no value)"), (144, 202, 11, 1600)
    marks: tuple[Literal["small", "no value"] | None, ...] = (None, None, "small", "no value")
    figures = [None if value is None else figure(value, 0.02, size) for value, size in zip(values, sizes, strict=True)]
    return GroupComparison(
        task=task, on="user", column="age", metric=metric,
        groups=tuple(
            GroupFigure(group=name, size=size, mark=mark, figure=found)
            for name, size, mark, found in zip(names, sizes, marks, figures, strict=True)
        ),
        highest="35-44" if gap else None, lowest="25-34" if gap else None, gap=gap,
    )  # fmt: skip


def exposure_by_brand() -> ExposureTable:
    """National brands shown more often than users take them, private ones less."""
    shares = {"National": (0.71, 0.66, 0.8), "Private": (0.29, 0.34, 0.2)}
    return ExposureTable(
        column="brand",
        groups=tuple(
            ExposureShare(
                group=name, items=round(24480 * catalogue), exposure=figure(shown, 0.01),
                relevant=figure(took, 0.01), catalogue=Figure(value=catalogue, n=24480),
            )
            for name, (shown, took, catalogue) in shares.items()
        ),
    )  # fmt: skip
