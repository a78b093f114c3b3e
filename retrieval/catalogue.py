"""How a release's items were made of their columns, so that a service can make those of a new item by itself."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from features.texts import TextConfig
from retrieval.layout import CATALOGUE


class CatalogueConfig(BaseModel):
    """The content of `catalogue.json`.

    Attributes:
        texts: templates of an item's text and title.
        category_column: the column that category codes stand for; None where every item's is -1.
        eligible_items: a filter (`features.filters`) that eligible items satisfy; None where all do.
        new_days: an item that began no more days before the release's time, or since, is eligible without buyers;
            None where no item needs any.
        item_sequence: the newest of the logged changes (`features.item_log`) that the items hold; 0 for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    texts: TextConfig
    category_column: str | None = None
    eligible_items: str | None = None
    new_days: int | None = None
    item_sequence: int = Field(default=0, ge=0)

    @classmethod
    def load(cls, release: Path) -> CatalogueConfig | None:
        """Return that of a release directory; None where it has no items, or was written before there were any."""
        path = release / CATALOGUE
        return cls.model_validate_json(path.read_bytes()) if path.exists() else None


def items_seen(release: Path) -> int:
    """Return the newest of the logged changes that the items of a release directory hold; 0 for none."""
    config = CatalogueConfig.load(release)
    return 0 if config is None else config.item_sequence
