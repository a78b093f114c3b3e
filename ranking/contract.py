"""What the ranking service takes and gives over HTTP; names are part of the published contract."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from features.event_log import Event
from ranking.formula.parse import MAX_LENGTH
from ranking.rules.config import RuleName, Rules
from retrieval.contract import MAX_TEXT, Degraded, Limits, SourceName

# Why an answer is less than it could be: retrieval's reasons and ranking's own; each is counted, none is an error.
RankDegraded = (
    Degraded
    | Literal[
        "stale_features",  # the online store could not be read: the user's last known row was used
        "retrieval_unavailable",  # no candidates from retrieval: what trends was ranked
        "unknown_items",  # the release does not hold some of the items: they are not ranked, or predicted nothing of
    ]
)

MAX_ITEMS: Final = 10_000
MAX_PREDICTED: Final = 1_000
MAX_EVENTS: Final = 1_000

Id = Annotated[str, Field(min_length=1, max_length=512)]
Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]


class _Contract(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ItemRef(_Contract):
    """One item to rank.

    Attributes:
        item_id: the item.
    """

    item_id: Id


class Context(_Contract):
    """What the caller knows about the request.

    Attributes:
        request_id: the caller's own id; the answer carries it back and events may name it.
        shown: item id -> how often it was shown to the user of late without an answer, for a rule on frequency; by
            default what the event log says.
    """

    request_id: Id | None = None
    shown: dict[str, Annotated[int, Field(ge=0)]] | None = Field(None, max_length=MAX_ITEMS)


class RankRequest(_Contract):
    """`POST /v1/rank`.

    Attributes:
        user_id: whose order.
        items: what to order; repeated ids count once.
        k: how many to return; all by default.
        objective: a declared objective, or a formula; the default one otherwise.
        rules: in place of the release's rules.
        explain: whether to explain each returned item; up to 10 ms an item and model of trees.
        context: see there.
    """

    user_id: Id
    items: list[ItemRef] = Field(min_length=1, max_length=MAX_ITEMS)
    k: int | None = Field(None, ge=1, le=MAX_ITEMS)
    objective: Annotated[str, Field(min_length=1, max_length=MAX_LENGTH)] | None = None
    rules: Rules | None = None
    explain: bool = False
    context: Context = Context()


class RecommendRequest(Limits):
    """`POST /v1/recommend`: candidates and their order in one call.

    Attributes:
        user_id: for whom.
        k: how many to return.
        candidates: how many to rank.
        filter, allow, exclude, exclude_bought: as in `/v1/candidates`.
        sources: which sources may name candidates.
        objective, rules, explain, context: as in `RankRequest`.
    """

    user_id: Id
    k: int = Field(20, ge=1, le=1_000)
    candidates: int = Field(500, ge=1, le=MAX_ITEMS)
    sources: list[SourceName] | None = Field(None, min_length=1)
    objective: Annotated[str, Field(min_length=1, max_length=MAX_LENGTH)] | None = None
    rules: Rules | None = None
    explain: bool = False
    context: Context = Context()


class ItemExplanation(_Contract):
    """Why an item stands where it stands.

    Attributes:
        reason: one line for people.
        contributions: group of features -> part of the main task's logit, with `base`; they sum to it.
        features: the strongest features and their parts of the same logit.
    """

    reason: str
    contributions: dict[str, float]
    features: dict[str, float]


class RankedItem(_Contract):
    """One item of the answer.

    Attributes:
        item_id: the item.
        score: the objective; absent where its formula has no value, as where an attribute is missing.
        tasks: calibrated probabilities of the tasks that apply to this user and item.
        sources: which sources named it; absent in `/v1/rank`.
        explanation: if asked for.
        rules: those that moved it; absent where no rule was set.
    """

    item_id: str
    score: float | None = None
    tasks: dict[str, float]
    sources: list[SourceName] | None = None
    explanation: ItemExplanation | None = None
    rules: list[RuleName] | None = None


class RankResponse(_Contract):
    """The answer of `/v1/rank` and `/v1/recommend`.

    Attributes:
        request_id: for attribution: an event may name it.
        release: id of the release that answered.
        items: best first.
        unknown_items: asked for, but not in the release.
        degraded: the fallbacks that were used; empty when none was.
    """

    request_id: str
    release: str
    items: list[RankedItem]
    unknown_items: list[str] = Field(default_factory=list)
    degraded: list[RankDegraded] = Field(default_factory=list)


class PredictRequest(_Contract):
    """`POST /v1/predict`: every asked task's prediction of users, items or texts.

    Attributes:
        tasks: which; by default all that fit what is asked about.
        user_ids, item_ids, texts: what to predict for; exactly one of them.
    """

    tasks: list[str] | None = Field(None, min_length=1)
    user_ids: list[Id] | None = Field(None, min_length=1, max_length=MAX_PREDICTED)
    item_ids: list[Id] | None = Field(None, min_length=1, max_length=MAX_PREDICTED)
    texts: list[Text] | None = Field(None, min_length=1, max_length=MAX_PREDICTED)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [name for name in ("user_ids", "item_ids", "texts") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"expected exactly one of user_ids, item_ids and texts, found {given or 'none'}")
        return self


class ClassPrediction(_Contract):
    """What a multiclass task says.

    Attributes:
        label: the most probable class.
        probability: its probability.
        probabilities: of the five most probable classes, or of all where there are no more; the most probable first.
    """

    label: str
    probability: float
    probabilities: dict[str, float]


class TagPrediction(_Contract):
    """The likeliest tag of one unit of a text: of a word, or of a character, as the task declares.

    Attributes:
        start: first character of the unit in the text.
        end: the one after its last.
        text: the unit.
        tag: null where the unit has none of its own: the text was cut off before it, or the encoder read it as one
            token with the unit before.
        probability: of the tag; null without one.
    """

    start: int
    end: int
    text: str
    tag: str | None
    probability: float | None


class SlotPrediction(_Contract):
    """Consecutive units whose tags belong together.

    Attributes:
        name: what the tags say behind B- and I-; a tag without such a mark is the name itself.
        start: first character of the slot in the text.
        end: the one after its last.
        text: what stands there.
        probability: the lowest of its units' tags.
    """

    name: str
    start: int
    end: int
    text: str
    probability: float


class TagsPrediction(_Contract):
    """What a tag task says.

    Attributes:
        tags: of every unit, in order.
        slots: what they make, in order; units with the tag O are in none.
    """

    tags: list[TagPrediction]
    slots: list[SlotPrediction]


# A binary task's probability, a regression's number, a multiclass task's classes, or a tag task's tags.
TaskAnswer = float | ClassPrediction | TagsPrediction


class Prediction(_Contract):
    """What the tasks say of one user, item or text.

    Attributes:
        id: what was asked about.
        tasks: task -> its answer; a task that has none (an unknown user or item, another kind of item) is left out.
    """

    id: str
    tasks: dict[str, TaskAnswer]


class PredictResponse(_Contract):
    """The answer of `/v1/predict`, in the order asked."""

    release: str
    predictions: list[Prediction]
    degraded: list[RankDegraded] = Field(default_factory=list)


class EventsRequest(_Contract):
    """`POST /v1/events` with many; one event may also be sent bare."""

    events: list[Event] = Field(min_length=1, max_length=MAX_EVENTS)


class EventsResponse(_Contract):
    """The answer once every event is durable.

    Attributes:
        accepted: written by this request.
        duplicates: written before under the same id.
        unknown_items: events of items that the last refresh didn't know; they count from the next one on.
        users_updated: users whose online features already count them.
        degraded: `features_unavailable` where the online store could not be told; the log still holds the events.
    """

    accepted: int
    duplicates: int
    unknown_items: int
    users_updated: int
    degraded: list[RankDegraded] = Field(default_factory=list)


class Release(_Contract):
    """One release of `GET /v1/releases`."""

    release_id: str
    created_at: AwareDatetime
    parent: str | None
    as_of: AwareDatetime | None
    total_bytes: int
    current: bool
    serving: bool


class ReleasesResponse(_Contract):
    """The answer of `GET /v1/releases`, newest first."""

    releases: list[Release]


class ActivateResponse(_Contract):
    """The answer of `POST /v1/releases/{id}/activate`: the pointer has moved; services follow within their poll."""

    release: str
    previous: str | None
