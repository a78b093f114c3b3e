"""The evaluation report as typed figures: the content of `report.json`."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from pydantic import AwareDatetime

from features.splits import UNDATED
from flows.report.beside import BesideCurrent
from flows.report.figures import Part
from flows.report.groups import AuditReport
from flows.report.making import DataSummary, StageRecord, TrainingRun, ValidationRow, Window
from flows.report.rankings import ExampleUser, IndexRecall, RankingTable, RetrievalTable
from flows.report.replies import ReplyScores
from flows.report.tasks import AblationRow, TaskScores
from flows.report.texts import TextScores
from retrieval.encoder.relatedness.report import RelatednessReport

REPORT_JSON: Final = "report.json"
REPORT_HTML: Final = "report.html"


class NextCommand(Part):
    """A command to try next, and what it does."""

    command: str
    purpose: str


class Report(Part):
    """Everything one evaluation found.

    Attributes:
        title: the page's heading.
        workspace: the workspace's name.
        release_id: the release evaluated.
        as_of: the release saw nothing at or after this time.
        created_at: when the evaluation ran.
        note: a caution to show at the top (about the data, say).
        beside: the comparison with the current release; None where there was none, or it is the one evaluated.
    """

    schema_version: Literal[1] = 1
    title: str
    workspace: str
    release_id: str
    as_of: AwareDatetime
    created_at: AwareDatetime
    note: str = ""
    data: DataSummary | None = None
    beside: BesideCurrent | None = None
    rankings: tuple[RankingTable, ...] = ()
    retrieval: tuple[RetrievalTable, ...] = ()
    tasks: tuple[TaskScores, ...] = ()
    texts: tuple[TextScores, ...] = ()
    replies: ReplyScores | None = None
    ablation: tuple[AblationRow, ...] = ()
    audit: AuditReport | None = None
    examples: tuple[ExampleUser, ...] = ()
    time_plan: tuple[Window, ...] = ()
    training: TrainingRun | None = None
    relatedness: RelatednessReport | None = None
    index: tuple[IndexRecall, ...] = ()
    validation: tuple[ValidationRow, ...] = ()
    stages: tuple[StageRecord, ...] = ()
    next_commands: tuple[NextCommand, ...] = ()

    @property
    def is_dated(self) -> bool:
        """Whether the data has times, so that the as-of time says something."""
        return self.as_of != UNDATED

    @property
    def task_names(self) -> list[str]:
        """Task names in the order first seen."""
        return list(dict.fromkeys(row.task for row in self.tasks))

    @property
    def span(self) -> tuple[datetime, datetime] | None:
        """First cut and last label end of the time plan."""
        if not self.time_plan:
            return None
        return min(window.cut for window in self.time_plan), max(window.end for window in self.time_plan)

    @property
    def total_seconds(self) -> timedelta:
        """Sum of the time of the stages that ran, each second counted once."""
        return timedelta(seconds=sum(row.seconds for row in self.stages if not (row.inside or row.reused)))


def read(path: Path) -> Report:
    """Read a `report.json`."""
    return Report.model_validate_json(path.read_bytes())
