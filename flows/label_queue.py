"""The list of texts to label next, by the current release's opinion of those without a label."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from features.column_labels import LabelColumn
from features.schema import TEXT, TEXT_ID
from features.tables import read_tables
from features.tasks import TaskSpec
from flows.current_tables import latest_tables
from flows.publish import newest
from flows.workspace import Workspace
from infra.errors import InvalidInputError, unknown_name
from infra.releases import ReleaseStore
from retrieval.encoder.head_runtime import Heads
from retrieval.encoder.labels.config import LabelQueueConfig
from retrieval.encoder.labels.label_queue import LabelPool, label_queue, write_label_queue
from retrieval.encoder.labels.probabilities import class_probabilities
from retrieval.encoder.runtime import TextEncoder
from retrieval.layout import ENCODER_DIR

_BINARY = ("0", "1")


def queue_labels(folder: str, task: str, out: Path, config: LabelQueueConfig) -> int:
    """Write the texts whose label of a task would teach the most.

    Args:
        folder: of the workspace; its texts are those of the last refresh.
        task: a binary or multiclass task on texts.
        out: `.csv` or `.parquet` file to write.
        config: how many, and by which measure.

    Returns:
        How many it lists.

    Raises:
        InvalidInputError: no such task, or no tables yet.
        NoReleaseError: there is no release.
    """
    workspace = Workspace.load(folder)
    spec = _task(workspace.config.tasks, task)
    tables = latest_tables(workspace)
    if tables is None:
        raise InvalidInputError("expected refreshed tables, found none; `polyrank refresh features` reads them")
    # A label given to a text of the test would be measured on and never learnt from.
    stored = read_tables(tables).without_test()
    column = LabelColumn.of(spec, stored)
    store = ReleaseStore(workspace.releases)
    encoder = store.path(store.current() or newest(workspace)) / ENCODER_DIR
    heads = Heads.load(encoder)
    texts = stored.texts[TEXT].to_list()
    vectors = TextEncoder.load(encoder).encode(texts, "text")
    probabilities = class_probabilities(heads, task, vectors)
    pool = LabelPool(
        ids=stored.texts[TEXT_ID].to_list(),
        texts=texts,
        vectors=vectors,
        probabilities=probabilities,
        labelled=np.asarray(column.values.is_not_null().to_numpy(), bool),
        classes=heads.tasks[task].classes or _BINARY,
    )
    queue = label_queue(pool, config)
    write_label_queue(queue, out)
    return queue.height


def _task(tasks: tuple[TaskSpec, ...], name: str) -> TaskSpec:
    """Return the task of this name whose classes a person can tell."""
    known = {task.name: task for task in tasks if task.on == "text" and task.kind in ("binary", "multiclass")}
    if name not in known:
        raise InvalidInputError(f"label-queue: {unknown_name('classifying task on texts', name, known)}")
    return known[name]
