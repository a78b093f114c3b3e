"""The rules at the door, their policies, and one table's way through them.

Every rule that a `Gate` applies takes its rows out of the table and says so in a finding; whether that finding fails
the load is the rule's policy. `features.validate` decides which rules which table meets.
"""

from __future__ import annotations

from typing import Final, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from features.findings import ROW, Action, Finding, first_rows
from features.schema import EVENT, ITEM_ID, QUANTITY, SPLIT, TEXT, TEXT_ID, TIMESTAMP, USER_ID, VALUE
from features.tables import EVENTS_TABLE, ITEMS_TABLE, PURCHASE, SPLITS, TEXTS_TABLE, USERS_TABLE
from features.timestamps import TimeZone, Unit, read_times

Policy = Literal["error", "drop"]

MISSING_COLUMN: Final = "missing_column"
EMPTY_TABLE: Final = "empty_table"
WRONG_TYPE: Final = "wrong_type"
CAST_KEY: Final = "cast_key"
NULL_KEY: Final = "null_key"
BLANK_TEXT: Final = "blank_text"
DUPLICATE_KEY: Final = "duplicate_key"
MERGED: Final = "merged"
NAIVE_TIMESTAMP: Final = "naive_timestamp"
FUTURE_TIMESTAMP: Final = "future_timestamp"
UNKNOWN_ITEM: Final = "unknown_item"
UNKNOWN_USER: Final = "unknown_user"
UNKNOWN_SPLIT: Final = "unknown_split"
UNUSED_COLUMN: Final = "unused_column"
DROP_SHARE: Final = "drop_share"

EVENT_KEY: Final = (USER_ID, ITEM_ID, EVENT, TIMESTAMP)
REQUIRED: Final = {
    ITEMS_TABLE: (ITEM_ID,),
    USERS_TABLE: (USER_ID,),
    EVENTS_TABLE: EVENT_KEY,
    TEXTS_TABLE: (TEXT_ID, TEXT),
}
AMOUNTS: Final = (VALUE, QUANTITY)
_READ: Final = "__read__"
_BAD: Final = "__bad__"
_A_TIME: Final = "a time (ISO 8601 text, or a unit or format in the column's mapping)"


class ValidationConfig(BaseModel):
    """What to do with rows that break a rule.

    A missing column, an empty table and an unknown split of a text always fail.

    Attributes:
        wrong_type: a value that cannot be read as its column's type.
        null_key: an id, event or timestamp that is null or blank.
        blank_text: a row of the texts table whose text is null or blank.
        duplicate_key: an id twice in its table, or one event (not of `merge_events`) twice; drop keeps the first.
        naive_timestamp: a time without zone, where `assume_timezone` is not set.
        future_timestamp: an event or a text later than now.
        unknown_item: an event of an item that the items table lacks.
        unknown_user: an event of a user that the users table lacks.
        assume_timezone: IANA zone of times that carry none, such as "Europe/Paris".
        merge_events: events of which equal (user, item, event, time) rows are one event in parts: value and quantity
            are summed (two lines of one receipt).
        max_drop_share: fail when a greater share of a table's rows would be dropped, all rules together.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    wrong_type: Policy = "error"
    null_key: Policy = "error"
    blank_text: Policy = "drop"
    duplicate_key: Policy = "error"
    naive_timestamp: Policy = "error"
    future_timestamp: Policy = "error"
    unknown_item: Policy = "drop"
    unknown_user: Policy = "drop"
    assume_timezone: TimeZone | None = None
    merge_events: tuple[str, ...] = (PURCHASE,)
    max_drop_share: float = Field(default=0.05, ge=0, le=1)


class Gate:
    """One table on its way through the rules: rows that break one leave `frame`, and a finding says so."""

    def __init__(self, name: str, frame: pl.DataFrame, config: ValidationConfig, dropped_before: int = 0) -> None:
        """Start with the table as read, of which the reader may have dropped rows already."""
        self.name = name
        self.frame = frame.with_row_index(ROW)
        self.dropped_before = dropped_before
        self.read = frame.height + dropped_before
        self.config = config
        self.findings: list[Finding] = []

    @property
    def _shown(self) -> list[str]:
        return [column for column in REQUIRED[self.name] if column in self.frame.columns]

    def record(
        self, rule: str, column: str, action: Action, rows: pl.DataFrame | int, expected: str, found: str
    ) -> None:
        """Add a finding about some rows (or a bare count of them)."""
        count = rows if isinstance(rows, int) else rows.height
        shown = () if isinstance(rows, int) else first_rows(rows, [*self._shown, column])
        text = f"{count:,} {'row' if count == 1 else 'rows'} with {found}" if count else ""
        self.findings.append(
            Finding(
                table=self.name,
                column=column,
                rule=rule,
                action=action,
                count=count,
                expected=expected,
                found=text,
                first_rows=shown,
            )
        )

    def reject(self, bad: pl.Expr, rule: str, column: str, *, expected: str, found: str) -> None:
        """Take out the rows that break a rule, and record them under the rule's policy."""
        policy: Policy = getattr(self.config, rule)
        # with_columns, not select: a constant is to become one value a row.
        mask = self.frame.with_columns(bad.fill_null(value=False).alias(_BAD))[_BAD]
        self.record(rule, column, policy, self.frame.filter(mask), expected, found)
        if mask.any():
            self.frame = self.frame.filter(~mask)

    def has_columns_and_rows(self) -> bool:
        """Check that the table can be looked at at all."""
        found = [column for column in self.frame.columns if column != ROW]
        missing = [column for column in REQUIRED[self.name] if column not in found]
        for column in missing:
            columns = f"columns {', '.join(found)}" if found else "no columns"
            self._fail(MISSING_COLUMN, column, 1, f"a column {column!r}", columns)
        if not self.read:
            self._fail(EMPTY_TABLE, "*", 1, "at least one row", "no rows")
        return not missing and self.read > 0

    def _fail(self, rule: str, column: str, count: int, expected: str, found: str) -> None:
        finding = Finding(
            table=self.name, column=column, rule=rule, action="error", count=count, expected=expected, found=found
        )
        self.findings.append(finding)

    def check_text(self, column: str, *, blank: str = NULL_KEY) -> None:
        """Make a column text: whole numbers are cast, anything else is of the wrong type; blanks break a rule."""
        kind = self.frame.schema[column]
        if kind.is_integer() or isinstance(kind, pl.Categorical | pl.Enum):
            self.record(CAST_KEY, column, "cast", self.frame.height, "text", f"type {kind}")
        elif kind not in (pl.String, pl.Null):
            self._reject_all(column, pl.String, "text or whole numbers")
        self.frame = self.frame.with_columns(pl.col(column).cast(pl.String))
        missing = pl.col(column).is_null() | (pl.col(column).str.strip_chars() == "")
        self.reject(missing, blank, column, expected="a value", found="null or blank")

    def _reject_all(self, column: str, wanted: type[pl.DataType], expected: str) -> None:
        """Take out every row of a column that holds something else altogether, leaving an empty one of its type."""
        found = f"type {self.frame.schema[column]}"
        self.reject(pl.lit(value=True), WRONG_TYPE, column, expected=expected, found=found)
        self.frame = self.frame.with_columns(pl.Series(column, [], dtype=wanted))

    def check_split(self) -> None:
        """Make the split text, null where a row has none; any other value fails, whatever the policies."""
        self.frame = self.frame.with_columns(pl.col(SPLIT).cast(pl.String))
        wrong = self.frame.filter(~pl.col(SPLIT).is_in(SPLITS).fill_null(value=True))
        others = ", ".join(map(repr, wrong[SPLIT].unique(maintain_order=True).head(5)))
        self.record(UNKNOWN_SPLIT, SPLIT, "error", wrong, f"one of {', '.join(SPLITS)}, or null", f"others: {others}")

    def check_times(
        self, column: str, *, unit: Unit | None = None, text_format: str | None = None, timezone: str | None = None
    ) -> None:
        """Make a column UTC times; rows without zone take the one assumed or break their rule.

        Unit, format and time zone are a mapping's (`features.timestamps.read_times`); its zone goes before the
        configuration's `assume_timezone`.
        """
        zone = timezone or self.config.assume_timezone
        kind = self.frame.schema[column]
        times = read_times(self.frame[column], unit=unit, text_format=text_format, assume_timezone=zone)
        columns = self.frame.columns
        self.frame = self.frame.with_columns(times.naive, times.unreadable, times.utc.alias(_READ))
        self.reject(pl.col("unreadable"), WRONG_TYPE, column, expected=_A_TIME, found=f"{kind} values that are no time")
        if zone is None:
            found = "no zone (set assume_timezone, or a timezone in the column's mapping)"
            self.reject(pl.col("naive"), NAIVE_TIMESTAMP, column, expected="times with a zone", found=found)
        else:
            rows = self.frame.filter("naive")
            self.record(NAIVE_TIMESTAMP, column, "assume", rows, "times with a zone", f"no zone, taken as {zone}")
        self.frame = self.frame.with_columns(pl.col(_READ).alias(column)).select(columns)

    def check_amount(self, column: str) -> None:
        """Make an amount float64, null where the table has none; text that is no number, or infinity, is wrong."""
        if column not in self.frame.columns:
            self.frame = self.frame.with_columns(pl.lit(None, pl.Float64).alias(column))
            return
        kind = self.frame.schema[column]
        found = f"{kind} values that are none"
        if kind.is_numeric() or kind in (pl.String, pl.Null):
            number = pl.col(column).cast(pl.Float64, strict=False)
            bad = (pl.col(column).is_not_null() & number.is_null()) | number.is_finite().not_()
            self.reject(bad, WRONG_TYPE, column, expected="finite numbers", found=found)
            self.frame = self.frame.with_columns(number)
        else:
            self._reject_all(column, pl.Float64, "finite numbers")

    def leave_columns(self, known: tuple[str, ...]) -> None:
        """Leave out the columns that no later step reads, and say so."""
        unused = [column for column in self.frame.columns if column not in (ROW, *known)]
        if unused:
            columns = ", ".join(unused)
            self.record(
                UNUSED_COLUMN, columns, "exclude", self.read, f"columns {', '.join(known)}", f"columns {columns}"
            )
            self.frame = self.frame.drop(unused)

    def merge_duplicates(self) -> None:
        """Sum the parts of one event into its first row; other repeated events break `duplicate_key`."""
        key = list(EVENT_KEY)
        # Rows of one key share its hash, so the exact comparison looks at few of them.
        alike = self.frame.filter(self.frame.select(key).hash_rows().is_duplicated())
        repeated = alike.filter(pl.struct(key).is_duplicated())
        in_parts = pl.col(EVENT).is_in(list(self.config.merge_events))
        is_later = ~pl.struct(key).is_first_distinct()
        later = repeated.filter(is_later)
        parts = later.filter(in_parts)
        column = ", ".join(key)
        self.record(MERGED, column, "merge", parts, "one row an event", "the key of an earlier row, summed into it")
        if parts.height:
            # sum() of nulls alone is 0, which would invent an amount.
            sums = [pl.when(pl.col(c).count() > 0).then(pl.col(c).sum()).alias(f"{c}_sum") for c in AMOUNTS]
            whole = repeated.filter(in_parts).group_by(key, maintain_order=True).agg(pl.col(ROW).first(), *sums)
            kept = self.frame.filter(~pl.col(ROW).is_in(parts[ROW].implode()))
            kept = kept.join(whole.drop(key), on=ROW, how="left", maintain_order="left")
            self.frame = kept.with_columns(pl.coalesce(f"{c}_sum", c).alias(c) for c in AMOUNTS).select(alike.columns)
        twice = pl.col(ROW).is_in(later.filter(~in_parts)[ROW].implode())
        self.reject(twice, DUPLICATE_KEY, column, expected="each event once", found="the key of an earlier row")

    def check_drop_share(self) -> None:
        """Fail when the rules together left out too much, or everything."""
        dropped = self.dropped_before + sum(f.count for f in self.findings if f.action == "drop")
        allowed = self.config.max_drop_share
        expected = f"at most {allowed:.1%} of {self.read:,} rows dropped (max_drop_share)"
        if dropped > allowed * self.read:
            self._fail(DROP_SHARE, "*", dropped, expected, f"{dropped:,} dropped ({dropped / self.read:.1%})")
        if self.frame.is_empty() and not any(f.action == "error" and f.count for f in self.findings):
            self._fail(EMPTY_TABLE, "*", 1, "at least one row", f"none left of {self.read:,}")
