"""Releases in words: what the last report of each says in short, and what two of them differ in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flows.document import read_document
from flows.folder import WorkspaceFolder
from flows.lineage import seen_until
from flows.report import REPORT_JSON, RankingTable, Report, read
from flows.words import format_bytes, format_day, text_metric_name
from infra.manifest import Manifest
from infra.releases import ReleaseStore
from retrieval.layout import WORKSPACE

_PARTS: Final = ("encoder", "scene", "ranking", "merge", "replies")
_NOTHING: Final = "–"
# Tasks on texts in a list of releases; a report has them all.
_TEXTS: Final = 2


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that two releases differ in.

    Attributes:
        section: `release`, `configuration` or `report`.
        what: the thing.
        first: what the one has.
        second: what the other has.
    """

    section: str
    what: str
    first: str
    second: str


def headlines(folder: WorkspaceFolder, release_id: str) -> tuple[str, ...]:
    """Return the first metrics of a release's last report in short lines; none where it was never evaluated."""
    report = _report(folder, release_id)
    if report is None:
        return ()
    orders = [
        f"{'NDCG' if place == 0 else 'of new items'} {next(_shipped(table)):.4f}"
        for place, table in enumerate(report.rankings)
    ]
    texts = [
        f"{row.task} {text_metric_name(row.figures[0].metric)} {row.figures[0].figure.value:.4f}"
        for row in report.texts
        if row.figures
    ]
    return tuple(line for line in (", ".join(orders), *texts[:_TEXTS]) if line)


def release_differences(folder: WorkspaceFolder, first: str, second: str) -> list[Difference]:
    """Return what two releases differ in: what they were made from, their configurations, and their last reports.

    Args:
        folder: of the workspace.
        first: a release.
        second: another.

    Raises:
        ReleaseNotFoundError: no release of one of the names.
    """
    store = ReleaseStore(folder.releases)
    names = (first, second)
    sections = {
        "release": [_made_from(store.manifest(name)) for name in names],
        "configuration": [dict(_flat(read_document(store.path(name) / WORKSPACE).data)) for name in names],
        "report": [dict(_metrics(_report(folder, name))) for name in names],
    }
    return [
        Difference(section=section, what=what, first=one.get(what, _NOTHING), second=other.get(what, _NOTHING))
        for section, (one, other) in sections.items()
        for what in dict.fromkeys([*one, *other])
        if one.get(what) != other.get(what)
    ]


def _report(folder: WorkspaceFolder, release_id: str) -> Report | None:
    path = folder.reports / release_id / REPORT_JSON
    return read(path) if path.is_file() else None


def _made_from(manifest: Manifest) -> dict[str, str]:
    seen = seen_until(manifest)
    found = {
        "as of": _NOTHING if manifest.as_of is None else format_day(manifest.as_of),
        "models have seen data until": "untold" if seen is None else format_day(seen),
        "written": format_day(manifest.created_at),
        "made from": manifest.parent or _NOTHING,
        "size": format_bytes(manifest.total_bytes),
    }
    return found | {part: str(manifest.metadata[part]) for part in _PARTS if part in manifest.metadata}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every leaf of a configuration by its path; an entry of a list that has a name goes by it."""
    if isinstance(value, Mapping):
        for key, own in value.items():
            yield from _flat(own, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value and all(isinstance(own, Mapping) and "name" in own for own in value):
        for own in value:
            yield from _flat(own, f"{path}.{own['name']}")
    else:
        yield path, str(value)


def _metrics(report: Report | None) -> Iterator[tuple[str, str]]:
    """Yield each metric of what is served by its name."""
    if report is None:
        return
    for table in report.rankings:
        for name, value in zip((f"NDCG@{table.k}", f"Recall@{table.k}", "MRR"), _shipped(table), strict=True):
            yield f"{name}, {table.title}", f"{value:.4f}"
    for task in report.task_names:
        # The last scorer is the one that is served.
        served = [row for row in report.tasks if row.task == task][-1]
        for name, figure in (("AUC", served.auc), ("log loss", served.log_loss)):
            if figure is not None:
                yield f"{task}, {name}", f"{figure.value:.4f}"
    for row in report.texts:
        for own in row.figures:
            yield f"{row.task}, {text_metric_name(own.metric)}", f"{own.figure.value:.4f}"


def _shipped(table: RankingTable) -> Iterator[float]:
    row = next(row for row in table.scorers if row.scorer == table.shipped)
    yield from (row.ndcg.value, row.recall.value, row.mrr.value)
