"""A report with every section filled, in the size of the demo's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest

from flows.report import (
    AblationRow,
    AuditMetric,
    AuditReport,
    ConfusedClasses,
    Confusion,
    Curve,
    DataSummary,
    ExampleUser,
    ExposureShare,
    ExposureTable,
    Figure,
    GroupComparison,
    GroupFigure,
    IndexRecall,
    NextCommand,
    PairedDifference,
    RankingTable,
    Recommendation,
    ReliabilityBin,
    Report,
    ScorerRanking,
    StageRecord,
    TaskScores,
    TextFigure,
    TextMetric,
    TextScores,
    TrainingRun,
    ValidationRow,
    Window,
)
from retrieval.encoder.relatedness.report import ProposedGroups, RelatednessReport, TaskGroup

CUT = datetime(2017, 12, 4, tzinfo=UTC)
HORIZON = timedelta(days=28)
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


def task(name: str, scorer_name: str, rate: float, shift: float) -> TaskScores:
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


def audit_report() -> AuditReport:
    """Churn and NDCG by age, the oldest a small group; exposure by brand."""

    def by_age(
        task_name: str | None, metric: AuditMetric, values: tuple[float | None, ...], gap: Figure | None
    ) -> GroupComparison:
        names, sizes = ("25-34", "35-44", "65+", "(no value)"), (144, 202, 11, 1600)
        marks: tuple[Literal["small", "no value"] | None, ...] = (None, None, "small", "no value")
        figures = [
            None if value is None else figure(value, 0.02, size) for value, size in zip(values, sizes, strict=True)
        ]
        return GroupComparison(
            task=task_name, on="user", column="age", metric=metric,
            groups=tuple(
                GroupFigure(group=name, size=size, mark=mark, figure=found)
                for name, size, mark, found in zip(names, sizes, marks, figures, strict=True)
            ),
            highest="35-44" if gap else None, lowest="25-34" if gap else None, gap=gap,
        )  # fmt: skip

    shares = ((0.71, 0.66, 0.8), (0.29, 0.34, 0.2))
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
        exposure=(
            ExposureTable(
                column="brand",
                groups=tuple(
                    ExposureShare(
                        group=name, items=round(24480 * catalogue), exposure=figure(shown, 0.01),
                        relevant=figure(took, 0.01), catalogue=Figure(value=catalogue, n=24480),
                    )
                    for name, (shown, took, catalogue) in zip(("National", "Private"), shares, strict=True)
                ),
            ),
        ),
    )  # fmt: skip


def text_scores() -> tuple[TextScores, ...]:
    """A task of each kind: few classes, many, a probability, a number whose R2 is undefined, and answers."""

    def scores(name: str, kind: Any, figures: dict[TextMetric, tuple[float, float | None]], **parts: Any) -> TextScores:
        rows = [TextFigure(metric=m, figure=figure(v, 0.02, 800), constant=c) for m, (v, c) in figures.items()]
        return TextScores(task=name, kind=kind, rows="texts of split test", n=800, figures=tuple(rows), **parts)

    confused = (ConfusedClasses(label="card_lost", predicted="<b>card</b>", n=12, share=0.12),)
    bins = tuple(ReliabilityBin(predicted=p, observed=p * p, n=80) for p in (0.1, 0.3, 0.5, 0.7, 0.9))
    drawn = Confusion(classes=("billing", "delivery", "<i>other</i>"), counts=((90, 5, 5), (2, 97, 1), (0, 0, 0)))
    return (
        scores(
            "intent", "multiclass", {"accuracy": (0.91, 0.2), "macro_f1": (0.9, 0.1), "log_loss": (0.31, 1.5)},
            confusion=drawn, confused=confused,
        ),
        scores("fine_intent", "multiclass", {"accuracy": (0.8, None)}, confused=confused),
        scores("urgent", "binary", {"auc": (0.88, 0.5), "calibration": (1.1, 1.0)}, reliability=bins),
        scores("tone", "regression", {"rmse": (0.3, 0.5), "mae": (0.2, 0.4)}),
        scores("answer", "contrastive", {"recall_at_1": (0.7, 0.01), "mrr": (0.8, 0.05)}),
    )  # fmt: skip


@pytest.fixture(scope="session")
def sample_report() -> Report:
    tasks = [
        task(name, scorer_name, rate, shift)
        for name, rate in (("purchase", 0.004), ("repurchase", 0.08), ("coupon_response", 0.01), ("churn", 0.2))
        for scorer_name, shift in (("encoder head", -0.1), ("GBDT", 0.04), ("blend", 0.06))
    ]
    undefined = tasks[6].model_copy(update={"auc": None, "calibration": None})
    picks = tuple(
        Recommendation(
            item_id=str(1000 + n),
            title=title,
            score=0.91 - 0.07 * n,
            tasks={"purchase": 0.62 - 0.06 * n, "repurchase": 0.71 - 0.06 * n},
            reason="Bought 14 times, last 5 days ago; usually every 9 days",
            sources=("repeat", "collaborative"),
            hit=n % 2 == 0,
        )
        for n, title in enumerate(
            (
                "FLUID MILK WHITE ONLY, 1 GA",
                "BANANAS",
                "<b>BREAD</b> & rolls",
                "SHREDDED CHEESE 8 OZ",
                "TORTILLA/NACHO CHIPS",
            )
        )
    )
    names = ("load and validate", "features", "encoder training", "embedding", "index", "collaborative", "ranker rows")
    return Report(
        title="The Complete Journey: one release, evaluated",
        workspace="complete-journey",
        release_id="20171204T000000Z-1f3a9c",
        as_of=CUT,
        created_at=datetime(2026, 11, 22, 4, 30, tzinfo=UTC),
        note="The data's own package calls it simulated: read these figures as the demo's, not as science.",
        data=DataSummary(
            users=2469, items=92331, eligible_items=24480, events={"purchase": 1469307, "response": 2102}
        ),
        rankings=rankings(),
        tasks=(*tasks[:6], undefined, *tasks[7:]),
        texts=text_scores(),
        ablation=tuple(
            AblationRow(
                task="purchase",
                family=family,
                alone=figure(0.0181 + cost, 0.0002),
                without=figure(0.0172 + cost / 10, 0.0002),
                full=figure(0.0172, 0.0002),
                worth=figure(cost / 10, 0.00004),
            )
            for family, cost in (("encoder heads", 0.0011), ("collaborative", 0.0003), ("GBDT", 0.002))
        ),
        audit=audit_report(),
        examples=tuple(
            ExampleUser(
                user_id=user,
                summary="Age 35-44, income 50-74K, 2 adults with kids",
                recent=("FLUID MILK", "BANANAS", "YOGURT"),
                recommendations=picks,
            )
            for user in ("1228", "77", "2093")
        ),
        time_plan=tuple(
            Window(role=role, cut=CUT - back * HORIZON, end=CUT - (back - 1) * HORIZON)
            for role, back in (
                ("encoder training", 6), ("encoder training", 5), ("encoder training", 4), ("encoder validation", 3),
                ("ranker training", 2), ("blend and calibration", 1), ("evaluation", 0),
            )
        ),
        relatedness=RelatednessReport(
            names=("purchase", "churn", "coupon_response"),
            prior=((1.0, 0.25, None), (0.25, 1.0, None), (None, None, 1.0)),
            affinity=((0.01, -0.002, 0.001), (-0.003, 0.02, None), (0.002, None, 0.03)),
            groups=ProposedGroups(
                basis="affinity",
                groups=(
                    TaskGroup(tasks=("purchase", "coupon_response"), within=0.0015, between=-0.0025),
                    TaskGroup(tasks=("churn",), within=None, between=-0.0025),
                ),
                silhouette=0.1,
            ),
        ),
        training=TrainingRun(
            curves=(
                Curve(
                    name="training",
                    steps=tuple(range(0, 300, 5)),
                    losses=tuple(2.1 / (1 + n / 12) + 0.9 for n in range(60)),
                ),
                Curve(name="validation", steps=(60, 120, 180, 240), losses=(1.62, 1.41, 1.33, 1.35)),
            ),
            best_step=180,
        ),
        index=(
            IndexRecall(kind="flat", k=100, recall=figure(1.0, 0.0, 500), query_ms=figure(0.8, 0.1)),
            IndexRecall(kind="IVF-SQ8", k=100, recall=figure(0.989, 0.002, 500)),
        ),
        validation=(
            ValidationRow(table="events", column="item_id", rule="unknown item", action="drop", count=12043),
            ValidationRow(table="users", column="income", rule="null", action="keep", count=1668),
        ),
        stages=tuple(
            StageRecord(name=name, seconds=4.0 * n * n + 0.4, peak_rss_bytes=int(3e8 * (n + 1)), reused=n == 1)
            for n, name in enumerate(names)
        ),
        next_commands=(
            NextCommand(command="polyrank serve -w workspaces/demo", purpose="serve this release on 127.0.0.1:8080"),
            NextCommand(
                command="curl -s 127.0.0.1:8080/v1/recommend -d '{\"user_id\": \"1228\", \"k\": 20}'",
                purpose="ask it for recommendations",
            ),
            NextCommand(command="polyrank releases -w workspaces/demo", purpose="list releases"),
        ),
    )  # fmt: skip
