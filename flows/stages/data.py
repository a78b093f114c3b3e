"""The stored tables as the later stages read them: encoded, and blind to everything at or after a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from features.filters.items import FilterText, named_items
from features.schema import ITEM, TIMESTAMP, Int32
from features.splits import UNDATED
from features.tables import EVENTS_TABLE, TEXTS_TABLE, Tables, eligible_items, encode, read_tables
from features.tasks import SeenSpace, TaskSpec
from features.texts import TextConfig, item_mentions, item_texts, item_titles
from features.transforms import FeatureConfig, category_codes
from flows.stages.item_changes import Catalogue
from retrieval.catalogue import CatalogueConfig

Mask = npt.NDArray[np.bool_]


class EligibleConfig(BaseModel):
    """Which items may be recommended as of a time.

    Attributes:
        min_users: fewest distinct users who bought the item before it; without events nobody is counted.
        new_days: an item that began (`available_from`) no more days before it, or begins later, needs no buyers. One
            that has ended by then (`available_to`) is not recommended, whoever bought it.
        items: a filter over the items' columns such as `kind == "product"` (see `features.filters`); None takes all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_users: int = Field(default=5, ge=1)
    new_days: int = Field(default=28, ge=0)
    items: FilterText | None = None

    def allowed(self, items: pl.DataFrame) -> Mask | None:
        """Return bool `[n_items]`, the items of a table that `items` holds of; None for all.

        Raises:
            NamedItemsError: `items` doesn't fit the table's columns.
        """
        return named_items(self.items, items, "eligible: items")


@dataclass(frozen=True, kw_only=True, eq=False)
class Data:
    """The catalogue, and the events and texts before a time; no text of split `test` is in it.

    Attributes:
        tables: the catalogue; its events and texts are those before the time.
        events: the same events, encoded.
        features: names of events and columns.
        texts: templates.
        eligibility: see there.
        known: bool `[n_items]`, the items that were known then; the others hold places alone. None where all were.
    """

    tables: Tables
    events: pl.DataFrame
    features: FeatureConfig
    texts: TextConfig
    eligibility: EligibleConfig
    known: Mask | None = None

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        before: datetime | None,
        features: FeatureConfig,
        texts: TextConfig,
        eligibility: EligibleConfig,
        catalogue: Catalogue | None = None,
    ) -> Self:
        """Read tables from `folder`; what is at or after `before` (aware; None keeps all) is dropped at once.

        A `catalogue` stands in place of the items stored there.
        """
        tables = read_tables(folder).without_test()
        if catalogue is not None:
            tables = replace(tables, items=catalogue.items)
        if before is not None:
            tables = tables.before(before)
        return cls(
            tables=tables,
            events=encode(tables),
            features=features,
            texts=texts,
            eligibility=eligibility,
            known=None if catalogue is None else catalogue.known,
        )

    @property
    def n_users(self) -> int:
        """Rows of the users table."""
        return self.tables.users.height

    @property
    def n_items(self) -> int:
        """Rows of the items table."""
        return self.tables.items.height

    @cached_property
    def categories(self) -> Int32:
        """Int32 `[n_items]`: each item's category code; -1 where nobody's purchases are told apart by it."""
        return category_codes(self.tables.items, self._category_column)[0]

    @property
    def _category_column(self) -> str | None:
        return self.features.category_column if self.n_users else None

    @cached_property
    def item_texts(self) -> list[str]:
        """What the encoder reads of each item; nothing where there are none, whose columns no template can name."""
        return item_texts(self.tables.items, self.texts).to_list() if self.n_items else []

    @cached_property
    def titles(self) -> pl.Series:
        """Each item's short name."""
        return item_titles(self.tables.items, self.texts)

    @cached_property
    def mentions(self) -> pl.Series:
        """How user texts name each item."""
        return item_mentions(self.tables.items, self.texts)

    def catalogue_config(self, item_sequence: int) -> CatalogueConfig:
        """Return how the items are made of their columns, for whoever makes one more.

        Args:
            item_sequence: the newest of the logged changes that they hold.
        """
        return CatalogueConfig(
            texts=self.texts,
            category_column=self._category_column,
            eligible_items=self.eligibility.items,
            new_days=self.eligibility.new_days if self.n_users else None,
            item_sequence=item_sequence,
        )

    def eligible(self, cut: datetime) -> Mask:
        """Return bool `[n_items]`: which items may be recommended as of the cut."""
        eligible = eligible_items(
            self.tables.items,
            self.events,
            cut=cut,
            event=self.features.purchase_event,
            min_users=self.eligibility.min_users if self.n_users else None,
            new_since=cut - timedelta(days=self.eligibility.new_days),
            allowed=self.eligibility.allowed(self.tables.items),
        )
        return eligible if self.known is None else eligible & self.known


def only_eligible(task: TaskSpec, found: pl.DataFrame, eligible: Mask) -> pl.DataFrame:
    """Keep the labels of a seen space to eligible items: what is no longer sold to anybody is never a candidate.

    Args:
        task: whose.
        found: its labels.
        eligible: bool `[n_items]` of a release; labels of items that came after it are left out.
    """
    if ITEM in found.columns:
        found = found.filter(pl.col(ITEM) < len(eligible))
    if not isinstance(task.space, SeenSpace):
        return found
    return found.filter(pl.lit(pl.Series(eligible)).gather(pl.col(ITEM)))


def start_of_events(folder: Path) -> datetime:
    """Return the time of the earliest stored event."""
    first = pl.scan_parquet(folder / f"{EVENTS_TABLE}.parquet").select(pl.col(TIMESTAMP).min()).collect().item()
    assert isinstance(first, datetime)
    return first


def end_of_data(folder: Path) -> datetime:
    """Return where a flow without `--as-of` stands: just after the latest event, or text where there are no events.

    Where texts have no time either, it is `UNDATED`.
    """
    for name in (EVENTS_TABLE, TEXTS_TABLE):
        table = pl.scan_parquet(folder / f"{name}.parquet")
        if TIMESTAMP in table.collect_schema():
            latest = table.select(pl.col(TIMESTAMP).max()).collect().item()
            if isinstance(latest, datetime):
                return latest.astimezone(UTC) + timedelta(microseconds=1)
    return UNDATED
