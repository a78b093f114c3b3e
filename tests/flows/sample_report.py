"""A report with every section filled, in the size of the demo's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from flows.report import (
    Curve,
    DataSummary,
    ExampleUser,
    IndexRecall,
    NextCommand,
    Recommendation,
    Report,
    StageRecord,
    TrainingRun,
    ValidationRow,
    Window,
)
from retrieval.encoder.relatedness.report import ProposedGroups, RelatednessReport, TaskGroup
from tests.flows.sample_beside import beside
from tests.flows.sample_figures import ablation, audit_report, figure, rankings, retrieval, task_scores
from tests.flows.sample_texts import reply_scores, text_scores

CUT = datetime(2017, 12, 4, tzinfo=UTC)
HORIZON = timedelta(days=28)
TITLES = (
    "FLUID MILK WHITE ONLY, 1 GA",
    "BANANAS",
    "<b>BREAD</b> & rolls",
    "SHREDDED CHEESE 8 OZ",
    "TORTILLA/NACHO CHIPS",
)


def full_report() -> Report:
    return Report(
        title="The Complete Journey: one release, evaluated",
        workspace="complete-journey",
        release_id="20171204T000000Z-1f3a9c",
        as_of=CUT,
        created_at=datetime(2026, 11, 22, 4, 30, tzinfo=UTC),
        note="The data's own package calls it simulated: read these figures as the demo's, not as science.",
        data=DataSummary(users=2469, items=92331, eligible_items=24480, events={"purchase": 1469307, "response": 2102}),
        beside=beside(),
        rankings=rankings(),
        retrieval=retrieval(),
        tasks=task_scores(),
        texts=text_scores(),
        replies=reply_scores(),
        ablation=ablation(),
        audit=audit_report(),
        examples=examples(),
        time_plan=time_plan(),
        relatedness=relatedness(),
        training=training(),
        index=(
            IndexRecall(kind="flat", k=100, recall=figure(1.0, 0.0, 500), query_ms=figure(0.8, 0.1)),
            IndexRecall(kind="IVF-SQ8", k=100, recall=figure(0.989, 0.002, 500)),
        ),
        validation=(
            ValidationRow(table="events", column="item_id", rule="unknown item", action="drop", count=12043),
            ValidationRow(table="users", column="income", rule="null", action="keep", count=1668),
        ),
        stages=stages(),
        next_commands=next_commands(),
    )


def examples() -> tuple[ExampleUser, ...]:
    """Three users who get the same five items, every other one a hit; a title holds markup."""
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
        for n, title in enumerate(TITLES)
    )
    return tuple(
        ExampleUser(
            user_id=user,
            summary="Age 35-44, income 50-74K, 2 adults with kids",
            recent=("FLUID MILK", "BANANAS", "YOGURT"),
            recommendations=picks,
        )
        for user in ("1228", "77", "2093")
    )


def time_plan() -> tuple[Window, ...]:
    """Seven windows of one horizon each, the evaluation's last."""
    roles = (
        *["encoder training"] * 3, "encoder validation", "ranker training", "blend and calibration", "evaluation",
    )  # fmt: skip
    return tuple(
        Window(role=role, cut=CUT - back * HORIZON, end=CUT - (back - 1) * HORIZON)
        for role, back in zip(roles, range(6, -1, -1), strict=True)
    )


def relatedness() -> RelatednessReport:
    """Three tasks in two groups; some pairs have no prior, and one no affinity."""
    return RelatednessReport(
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
    )


def training() -> TrainingRun:
    """A training loss that falls, and a validation loss that turns after step 180."""
    return TrainingRun(
        curves=(
            Curve(
                name="training",
                steps=tuple(range(0, 300, 5)),
                losses=tuple(2.1 / (1 + n / 12) + 0.9 for n in range(60)),
            ),
            Curve(name="validation", steps=(60, 120, 180, 240), losses=(1.62, 1.41, 1.33, 1.35)),
        ),
        best_step=180,
    )


def stages() -> tuple[StageRecord, ...]:
    """Seven stages, each slower than the one before; the features are reused."""
    names = ("load and validate", "features", "encoder training", "embedding", "index", "collaborative", "ranker rows")
    return tuple(
        StageRecord(name=name, seconds=4.0 * n * n + 0.4, peak_rss_bytes=int(3e8 * (n + 1)), reused=n == 1)
        for n, name in enumerate(names)
    )


def next_commands() -> tuple[NextCommand, ...]:
    return (
        NextCommand(command="polyrank serve -w workspaces/demo", purpose="serve this release on 127.0.0.1:8080"),
        NextCommand(
            command='curl -s 127.0.0.1:8080/v1/recommend -d \'{"user_id": "1228", "k": 20}\'',
            purpose="ask it for recommendations",
        ),
        NextCommand(command="polyrank releases -w workspaces/demo", purpose="list releases"),
    )
