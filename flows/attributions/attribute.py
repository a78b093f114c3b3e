"""Why a release's head says what it says of some texts: shares of their words, and where its attention goes.

Use:
    report = attribute_texts(folder, AttributeRequest(task="purchase", user_id="1228", item_id="819063"))
    render_attributions(report, console)       # flows.attributions.console; the page is at report.page
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from pydantic import BaseModel, ConfigDict, Field

from features.tables import Tables, read_tables
from flows.attributions.page import write_page
from flows.attributions.report import AttributionReport, ExplainedText
from flows.attributions.texts import item_text, user_text
from flows.current_tables import latest_tables
from flows.document import parse_document, read_document
from flows.publish import newest
from flows.workspace import Workspace, WorkspaceConfig
from infra.errors import InvalidInputError
from infra.releases import ReleaseStore
from retrieval.encoder.config import Kind
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.explain.attention import attention_map
from retrieval.encoder.explain.attributions import STEPS, Question, attribute, kinds_of, task_of
from retrieval.encoder.explain.load import LoadedEncoder, load_encoder
from retrieval.layout import ENCODER_DIR, WORKSPACE

log = structlog.get_logger(__name__)

_WHOSE: Final[Mapping[Kind, str]] = {"user": "user_id", "item": "item_id"}


class AttributeRequest(BaseModel):
    """What to explain.

    Attributes:
        task: whose head.
        texts: each a question of its own; they stand for the one kind of text that no id is given for.
        user_id: of the users table; its text as of the release's as-of time.
        item_id: of the items table.
        label: class of a multiclass task; None takes each text's likeliest.
        steps: of the integral; more lower the delta.
        layer: of the attention map, from 1; None takes the highest.
        release: None takes the current one, or the newest where none is published.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    texts: tuple[str, ...] = ()
    user_id: str | None = None
    item_id: str | None = None
    label: str | None = None
    steps: int = Field(STEPS, ge=1)
    layer: int | None = None
    release: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A text, and how the report calls it."""

    name: str
    text: str


def attribute_texts(folder: str, request: AttributeRequest, out: Path | None = None) -> AttributionReport:
    """Explain a head's logits of some texts by their words, and write a page of it.

    Of a task on pairs both texts are explained, each with the other held fixed.

    Args:
        folder: of the workspace; ids are those of its last refresh.
        request: task, texts and ids.
        out: the page; None writes it beside the release's reports.

    Returns:
        What was found, and where the page is.

    Raises:
        InvalidInputError: no such task, class or layer; a blank text; an id or text too many or too few for the task;
            an id without refreshed tables.
        UnknownRowError: no such user or item.
        NoReleaseError: there is no release.
        EncoderFilesError: the release's encoder can't be loaded.
    """
    workspace = Workspace.load(folder)
    store = ReleaseStore(workspace.releases)
    release_id = request.release or store.current() or newest(workspace)
    encoder = load_encoder(store.path(release_id) / ENCODER_DIR)
    task = task_of(encoder, request.task)
    _check_ids(task, request)
    questions = _questions(task, request, _named(workspace, store, release_id, request))
    explained = tuple(row for sources in questions for row in _explain(encoder, task, request, sources))
    page = out or workspace.reports / release_id / f"attributions-{_file_name(task.name)}.html"
    report = AttributionReport(
        workspace=workspace.config.name, release_id=release_id, task=task.name, kind=task.kind, on=task.on,
        steps=request.steps, layer=request.layer, texts=explained, page=page,
    )  # fmt: skip
    write_page(report)
    log.info("attributions_written", task=task.name, texts=len(explained), page=str(page))
    return report


def _explain(
    encoder: LoadedEncoder, task: EncoderTask, request: AttributeRequest, sources: Mapping[Kind, _Source]
) -> list[ExplainedText]:
    """Explain one logit by each of its texts."""
    question = Question(
        task=task.name, texts={kind: source.text for kind, source in sources.items()}, label=request.label
    )
    return [
        ExplainedText(
            name=source.name,
            given=tuple(other.name for of, other in sources.items() if of != kind),
            attribution=attribute(encoder, question, kind, steps=request.steps),
            attention=attention_map(encoder, source.text, kind),
        )
        for kind, source in sources.items()
    ]


def _questions(
    task: EncoderTask, request: AttributeRequest, named: Mapping[Kind, _Source]
) -> list[Mapping[Kind, _Source]]:
    """Return the texts of each logit asked for, by kind in the task's order.

    Raises:
        InvalidInputError: more than one kind of text is open, or texts are given for none.
    """
    kinds = kinds_of(task)
    missing = [kind for kind in kinds if kind not in named]
    if len(missing) > 1:
        ways = " or ".join(_WHOSE[kind] for kind in missing if kind in _WHOSE)
        raise InvalidInputError(
            f"task {task.name}: expected {ways}, as a row of it has a text of {' and of '.join(kinds)}, found none"
        )
    if not missing:
        if request.texts:
            ids = " and ".join(_WHOSE[kind] for kind in kinds)
            raise InvalidInputError(
                f"task {task.name}: expected no texts beside {ids}, which tell all that its row has, found "
                f"{len(request.texts)}"
            )
        return [{kind: named[kind] for kind in kinds}]
    (open_kind,) = missing
    if not request.texts:
        way = f", or {_WHOSE[open_kind]}" if open_kind in _WHOSE else ""
        raise InvalidInputError(f"task {task.name}: expected a text of kind {open_kind}{way}, found none")
    given = [
        _Source(name=_numbered(open_kind, place, request.texts), text=text)
        for place, text in enumerate(request.texts, start=1)
    ]
    return [{kind: named.get(kind, source) for kind in kinds} for source in given]


def _numbered(kind: Kind, place: int, texts: Sequence[str]) -> str:
    """Return how the report calls a text of the request."""
    number = "" if len(texts) == 1 else f" {place} of {len(texts)}"
    return f"text{number}" if kind == "text" else f"text{number} as {kind}"


def _check_ids(task: EncoderTask, request: AttributeRequest) -> None:
    """Refuse an id of what no row of the task is of."""
    for kind, field in _WHOSE.items():
        value = getattr(request, field)
        if value is not None and kind not in kinds_of(task):
            rows = " and ".join(kinds_of(task))
            raise InvalidInputError(
                f"task {task.name}: expected no {field}, as its rows are of {rows}, found {value!r}"
            )


def _named(
    workspace: Workspace, store: ReleaseStore, release_id: str, request: AttributeRequest
) -> dict[Kind, _Source]:
    """Return the texts of the ids asked for, as the release's own workspace file makes them."""
    if request.user_id is None and request.item_id is None:
        return {}
    tables = _tables(workspace)
    config = parse_document(read_document(store.path(release_id) / WORKSPACE), WorkspaceConfig)
    found: dict[Kind, _Source] = {}
    if request.user_id is not None:
        cut = store.manifest(release_id).as_of
        assert cut is not None, "every release of a flow says what it is as of"
        text = user_text(tables, request.user_id, cut, config.texts, config.features)
        found["user"] = _Source(name=f"user {request.user_id}", text=text)
    if request.item_id is not None:
        text = item_text(tables, request.item_id, config.texts)
        found["item"] = _Source(name=f"item {request.item_id}", text=text)
    return found


def _tables(workspace: Workspace) -> Tables:
    folder = latest_tables(workspace)
    if folder is None:
        raise InvalidInputError("expected refreshed tables, found none; `polyrank refresh features` reads them")
    return read_tables(folder)


def _file_name(task: str) -> str:
    """Return a task's name without what a file's can't hold."""
    return "".join(sign if sign.isalnum() or sign in "-_" else "_" for sign in task)
