"""Values of a column as codes of groups, by which an audit, a limit or a federation tells rows apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import polars as pl

from features.schema import Int32
from infra.errors import InvalidInputError, unknown_name

# A gap between more groups than a page can show is no limit that anybody declares; a column of ids or amounts, however,
# is easily named by mistake.
MOST_GROUPS: Final = 100


@dataclass(frozen=True, kw_only=True)
class Groups:
    """The groups that a column makes of a table's rows.

    Attributes:
        column: its name.
        names: the distinct values as text, sorted; a group's code is its place.
    """

    column: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, table: pl.DataFrame, column: str, where: str) -> Self:
        """Return the groups of a table.

        Args:
            table: users, items or texts.
            column: of theirs.
            where: the table's name, as errors show it.

        Raises:
            InvalidInputError: no such column, fewer than two groups in it, or more than 100.
        """
        if column not in table.columns:
            raise InvalidInputError(f"groups, table {where}: {unknown_name('column', column, table.columns)}")
        names = table[column].cast(pl.String).drop_nulls().unique().sort()
        if not 2 <= len(names) <= MOST_GROUPS:
            raise InvalidInputError(
                f"groups, table {where}, column {column}: expected 2 to {MOST_GROUPS} different values, "
                f"found {len(names)}"
            )
        return cls(column=column, names=tuple(names.to_list()))

    def codes(self, table: pl.DataFrame) -> Int32:
        """Return int32 `[n]` the code of each row's group; -1 where the value is null or was not there before."""
        values = table[self.column].cast(pl.String)
        codes = pl.int_range(len(self.names), eager=True, dtype=pl.Int32)
        found = values.replace_strict(pl.Series(self.names), codes, default=-1, return_dtype=pl.Int32)
        return found.to_numpy()
