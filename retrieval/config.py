"""The section of a workspace that says how candidates are found."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from retrieval.campaigns import Campaign
from retrieval.learnt_merge import MergeConfig
from retrieval.quota import SourceQuota

CampaignName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]


class RetrievalConfig(BaseModel):
    """How a release retrieves; saved inside it as `retrieval.json`.

    Attributes:
        quota: how many candidates each source may name.
        history_weight: the history statistic that weighs a user's items (repeat, kNN, folding in).
        recent_queries: how many of the user's last distinct items the semantic source also looks near to, so that an
            event counts at once; a user without a text vector has these alone.
        trending: item statistics that order the trending source, the first one first.
        merge: how the merge of a user's sources is learnt; None merges them by quotas and fused ranks, as whatever has
            no learnt merge does: queries by text or item, chosen sources, users without a history.
        trending_by: a column of the users; one who has a value there gets what trends among users of the same value.
        trending_smoothing: how many users of the whole population each such segment is blended with.
        campaigns: by name, what is put forward for a while; with any, a release has the source `campaign`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    quota: SourceQuota = Field(default_factory=SourceQuota)
    merge: MergeConfig | None = MergeConfig()
    history_weight: str = "decayed_90"
    recent_queries: int = Field(3, ge=0)
    trending: tuple[str, ...] = ("buyers_28d", "decayed_90")
    trending_by: str | None = None
    trending_smoothing: float = Field(1000.0, ge=0)
    campaigns: dict[CampaignName, Campaign] = Field(default_factory=dict)
