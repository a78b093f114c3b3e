"""One's own tables: a Parquet file, a CSV file or a database query each, with a declared mapping of columns."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, Self

import polars as pl
from polars.exceptions import NoDataError, PolarsError, SchemaError
from pydantic import model_validator

from features.findings import Finding
from features.rules import MISSING_COLUMN, Gate, ValidationConfig
from features.schema import EVENT, ITEM_ID, TEXT, TEXT_ID, USER_ID
from features.table_config import ColumnConfig, CsvTable, DatabaseTable, Declaration, ParquetTable, TableConfig
from features.tables import EVENTS_TABLE, ITEMS_TABLE, TEXTS_TABLE, USERS_TABLE, Tables
from infra.errors import InvalidInputError, NotFoundError, UnavailableError, unknown_name

_VARIABLE: Final = re.compile(r"\$\{(\w+)\}")
_TEXT_KEYS: Final = (USER_ID, ITEM_ID, EVENT, TEXT_ID, TEXT)
Columns = Mapping[str, str | ColumnConfig]


class SourceNotFoundError(NotFoundError):
    """No file matches a source's path, or an environment variable of its URI is not set."""

    title = "Source not found"


class SourceUnreadableError(InvalidInputError):
    """A file is there, but not in the format declared."""

    title = "Source unreadable"


class DatabaseUnavailableError(UnavailableError):
    """A database did not answer the query."""

    title = "Database unavailable"


class TablesConfig(Declaration):
    """One's own tables: a shop's items and events, texts, or both; items beside texts may be what answers them.

    Attributes:
        items: the catalogue; None where there is none.
        users: None takes the users from the events, with no attributes.
        events: one table or several, which are put one after the other; None where there are none.
        texts: for tasks on single texts; None where there are none.
    """

    type: Literal["tables"]
    items: TableConfig | None = None
    users: TableConfig | None = None
    events: TableConfig | tuple[TableConfig, ...] | None = None
    texts: TableConfig | None = None

    @model_validator(mode="after")
    def _tables_make_a_source(self) -> Self:
        given = [name for name in (ITEMS_TABLE, USERS_TABLE, EVENTS_TABLE, TEXTS_TABLE) if getattr(self, name)]
        found = ", ".join(given) or "no table"
        if self.events is None and self.texts is None:
            raise ValueError(f"expected events or texts at least, found {found}")
        if self.events is not None and self.items is None:
            raise ValueError(f"expected items beside events, which are of them, found {found}")
        if self.users is not None and self.events is None:
            raise ValueError(f"expected events beside users, who are read by what they did, found {found}")
        return self

    @property
    def declared(self) -> frozenset[str]:
        """Names of the tables that the source has."""
        found = {name for name in (ITEMS_TABLE, EVENTS_TABLE, TEXTS_TABLE) if getattr(self, name) is not None}
        return frozenset(found | {USERS_TABLE} if self.events is not None else found)


def read_declared(
    config: TablesConfig, base: Path, rules: ValidationConfig, variables: Mapping[str, str]
) -> tuple[Tables, tuple[Finding, ...]]:
    """Read the declared tables but for texts, not yet validated, and what their mappings found.

    Args:
        config: the tables.
        base: folder that relative paths start from.
        rules: policies for times that a mapping reads.
        variables: values of `${NAME}` in database URIs.

    Raises:
        SourceNotFoundError: if no file matches a path, or a variable is not set.
        SourceUnreadableError: if a file is not in its format, or two event tables disagree on a column's type.
        DatabaseUnavailableError: if a query fails.
    """
    reader = _Reader(base, rules, variables)
    tables = Tables() if config.items is None else Tables(items=reader.table(ITEMS_TABLE, config.items))
    if config.events is not None:
        several = config.events if isinstance(config.events, tuple) else (config.events,)
        events = _one_after_the_other([reader.table(EVENTS_TABLE, table) for table in several])
        users = reader.table(USERS_TABLE, config.users) if config.users else reader.users_of(events)
        tables = replace(tables, users=users, events=events)
    return tables, tuple(reader.findings)


def read_texts(
    table: TableConfig, base: Path, rules: ValidationConfig, variables: Mapping[str, str]
) -> tuple[pl.DataFrame, tuple[Finding, ...]]:
    """Read a declared table of texts, not yet validated, and what its mapping found; errors as of `read_declared`."""
    reader = _Reader(base, rules, variables)
    return reader.table(TEXTS_TABLE, table), tuple(reader.findings)


def _one_after_the_other(parts: list[pl.DataFrame]) -> pl.DataFrame:
    try:
        return pl.concat(parts, how="diagonal_relaxed")
    except SchemaError as error:
        kinds = "; ".join(", ".join(f"{name} {kind}" for name, kind in part.schema.items()) for part in parts)
        msg = f"events: expected tables whose columns agree in type (give each time its timezone), found {kinds}"
        raise SourceUnreadableError(msg) from error


class _Reader:
    """Reads tables one by one and gathers what their mappings found."""

    def __init__(self, base: Path, rules: ValidationConfig, variables: Mapping[str, str]) -> None:
        self.base = base
        self.rules = rules
        self.variables = variables
        self.findings: list[Finding] = []

    def table(self, name: str, table: TableConfig) -> pl.DataFrame:
        """Return one canonical table as its mapping makes it."""
        match table:
            case ParquetTable():
                frame, place = self._file(table.path, pl.scan_parquet)
            case CsvTable():
                frame, place = self._csv(table)
            case DatabaseTable():
                frame, place = self._query(table)
        return frame if table.columns is None else self._map(name, frame, table.columns, place)

    def users_of(self, events: pl.DataFrame) -> pl.DataFrame:
        """Return the users that the events name, when no table of them is declared."""
        if USER_ID not in events.columns:
            return pl.DataFrame(schema={USER_ID: pl.String})
        users = events.select(pl.col(USER_ID).cast(pl.String, strict=False)).unique(maintain_order=True)
        users = users.filter(pl.col(USER_ID).str.strip_chars() != "")
        self.note(USERS_TABLE, USER_ID, "users_from_events", users.height, "a table of users", "none declared")
        return users

    def note(self, table: str, column: str, rule: str, count: int, expected: str, found: str) -> None:
        """Add a finding: an error where the table can't be looked at, else an assumption."""
        action: Literal["assume", "error"] = "error" if rule == MISSING_COLUMN else "assume"
        self.findings.append(
            Finding(table=table, column=column, rule=rule, action=action, count=count, expected=expected, found=found)
        )

    def _map(self, name: str, frame: pl.DataFrame, columns: Columns, place: str) -> pl.DataFrame:
        """Select and rename the mapped columns, reading the times that the mapping describes."""
        mapping = {c: ColumnConfig(column=o) if isinstance(o, str) else o for c, o in columns.items()}
        chosen = []
        for canonical, origin in mapping.items():
            if origin.column is None:
                chosen.append(pl.lit(origin.constant).alias(canonical))
            elif origin.column in frame.columns:
                chosen.append(pl.col(origin.column).alias(canonical))
            else:
                found = unknown_name("column", origin.column, frame.columns)
                self.note(name, canonical, MISSING_COLUMN, 1, f"the column {origin.column!r} in {place}", found)
        # A constant alone would make one row of a table that has none.
        mapped = frame.with_columns(chosen).select(c for c in mapping if c in {e.meta.output_name() for e in chosen})
        return self._read_times(name, mapped, mapping)

    def _read_times(self, name: str, frame: pl.DataFrame, mapping: Mapping[str, ColumnConfig]) -> pl.DataFrame:
        gate = Gate(name, frame, self.rules)
        for canonical, origin in mapping.items():
            if origin.is_time and canonical in frame.columns:
                gate.check_times(canonical, unit=origin.unit, text_format=origin.format, timezone=origin.timezone)
        self.findings.extend(gate.findings)
        return gate.frame.select(frame.columns)

    def _csv(self, table: CsvTable) -> tuple[pl.DataFrame, str]:
        mapping = table.columns or {key: key for key in _TEXT_KEYS}
        origins = [mapping[key] for key in _TEXT_KEYS if key in mapping]
        ids = [o if isinstance(o, str) else o.column for o in origins]
        # Read as numbers, the ids "007" and "7" would become one.
        text = {column: pl.String() for column in (*ids, *table.text_columns) if column is not None}

        def scan(path: str) -> pl.LazyFrame:
            header = pl.scan_csv(path, separator=table.separator, infer_schema=False).collect_schema().names()
            known = {column: kind for column, kind in text.items() if column in header}
            return pl.scan_csv(path, separator=table.separator, schema_overrides=known, infer_schema_length=None)

        return self._file(table.path, scan)

    def _file(self, path: str, scan: Callable[[str], pl.LazyFrame]) -> tuple[pl.DataFrame, str]:
        place = path if "://" in path else str(self.base / path)
        if "://" not in place and not glob.glob(place):
            msg = f"expected a file at {place}, found none"
            raise SourceNotFoundError(msg)
        try:
            return scan(place).collect(), place
        except NoDataError:
            return pl.DataFrame(), place  # an empty file: validation names the table
        except PolarsError as error:
            msg = f"expected a readable file at {place}, found: {error}"
            raise SourceUnreadableError(msg) from error

    def _query(self, table: DatabaseTable) -> tuple[pl.DataFrame, str]:
        uri = _VARIABLE.sub(self._variable, table.uri)
        try:
            return pl.read_database_uri(table.query, uri, engine="connectorx"), table.uri
        except RuntimeError as error:  # connectorx raises nothing narrower
            reason = str(error).replace(uri, table.uri)  # the filled URI may hold a password
            msg = f"expected an answer from {table.uri} to {table.query!r}, found: {reason}"
            raise DatabaseUnavailableError(msg) from error

    def _variable(self, match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in self.variables:
            msg = f"expected the environment variable {name} of a database URI, found it unset"
            raise SourceNotFoundError(msg)
        return self.variables[name]
