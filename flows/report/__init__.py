"""The evaluation report: typed figures, one file for each part of it.

Every estimate is a `Figure`: its value, its interval and the number of rows it was taken over. A section left empty is
left out wherever the report is shown: `flows.page` writes the HTML page, `flows.console` prints the terminal's version.
"""

from flows.report.beside import (
    PROBABILITY_METRICS,
    RANKING_METRICS,
    BesideCurrent,
    BesideRow,
    RankingMetric,
)
from flows.report.figures import Figure
from flows.report.groups import (
    AuditMetric,
    AuditReport,
    ExposureShare,
    ExposureTable,
    GroupComparison,
    GroupFigure,
    GroupsOf,
)
from flows.report.making import Curve, DataSummary, StageRecord, TrainingRun, ValidationRow, Window
from flows.report.rankings import (
    ExampleUser,
    IndexRecall,
    PairedDifference,
    RankingTable,
    Recommendation,
    RetrievalTable,
    ScorerRanking,
    SourceRecall,
)
from flows.report.replies import KindScores, ReplyScores, ThresholdScores
from flows.report.report import REPORT_HTML, REPORT_JSON, NextCommand, Report, read
from flows.report.tasks import AblationRow, ReliabilityBin, TaskScores
from flows.report.texts import ConfusedClasses, Confusion, TextFigure, TextMetric, TextScores

__all__ = [
    "PROBABILITY_METRICS",
    "RANKING_METRICS",
    "REPORT_HTML",
    "REPORT_JSON",
    "AblationRow",
    "AuditMetric",
    "AuditReport",
    "BesideCurrent",
    "BesideRow",
    "ConfusedClasses",
    "Confusion",
    "Curve",
    "DataSummary",
    "ExampleUser",
    "ExposureShare",
    "ExposureTable",
    "Figure",
    "GroupComparison",
    "GroupFigure",
    "GroupsOf",
    "IndexRecall",
    "KindScores",
    "NextCommand",
    "PairedDifference",
    "RankingMetric",
    "RankingTable",
    "Recommendation",
    "ReliabilityBin",
    "ReplyScores",
    "Report",
    "RetrievalTable",
    "ScorerRanking",
    "SourceRecall",
    "StageRecord",
    "TaskScores",
    "TextFigure",
    "TextMetric",
    "TextScores",
    "ThresholdScores",
    "TrainingRun",
    "ValidationRow",
    "Window",
    "read",
]
