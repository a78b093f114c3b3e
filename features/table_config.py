"""How one table of one's own is declared: a Parquet file, a CSV file or a database query, and a mapping of columns."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from features.timestamps import TimeZone, Unit


class Declaration(BaseModel):
    """What every part of a declared source shares: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ColumnConfig(Declaration):
    """Where a canonical column comes from: a source column, or one constant for every row.

    Attributes:
        column: the source's name.
        constant: the value of every row instead.
        unit: for a numeric time: what it counts since the epoch.
        format: for a time written as text: its chrono format; None reads ISO 8601.
        timezone: for a time without zone: its IANA zone.
    """

    column: str | None = None
    constant: str | float | None = None
    unit: Unit | None = None
    format: str | None = None
    timezone: TimeZone | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> ColumnConfig:
        if (self.column is None) == (self.constant is None):
            msg = f"expected either `column` or `constant`, found column={self.column!r}, constant={self.constant!r}"
            raise ValueError(msg)
        return self

    @property
    def is_time(self) -> bool:
        """Whether the mapping says how to read a time."""
        return (self.unit or self.format or self.timezone) is not None


class ParquetTable(Declaration):
    """A Parquet file, glob, or object-store URL."""

    type: Literal["parquet"]
    path: str
    columns: dict[str, str | ColumnConfig] | None = None


class CsvTable(Declaration):
    """A CSV file or glob in UTF-8 with a header.

    Attributes:
        path: where it is.
        columns: the mapping.
        separator: the character between fields.
        text_columns: source columns to keep as text though they look like numbers ("00123"); ids, events and texts
            always are.
    """

    type: Literal["csv"]
    path: str
    columns: dict[str, str | ColumnConfig] | None = None
    separator: str = Field(default=",", min_length=1, max_length=1)
    text_columns: tuple[str, ...] = ()


class DatabaseTable(Declaration):
    """A query's rows.

    Attributes:
        uri: connection URI, such as `postgresql://${DB_USER}:${DB_PASSWORD}@host/shop`; `${NAME}` is read from the
            environment, and `${WORKSPACE}` is the workspace's folder (`sqlite://${WORKSPACE}/shop.db`).
        query: the SQL to run.
        columns: the mapping.
    """

    type: Literal["database"]
    uri: str
    query: str
    columns: dict[str, str | ColumnConfig] | None = None


TableConfig = Annotated[ParquetTable | CsvTable | DatabaseTable, Field(discriminator="type")]
