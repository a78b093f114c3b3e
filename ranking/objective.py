"""Objectives: one score per candidate, a formula over its probabilities, attributes and features."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from features.filters.tree import Name, operand
from features.schema import Float32, Int32
from infra.errors import InvalidInputError, unknown_name
from ranking.formula.parse import FormulaError, parse

Float64 = npt.NDArray[np.float64]
# Name -> formula.
Objectives = Mapping[str, str]

# The objective of a request that names none.
DEFAULT: Final = "default"


class ObjectiveError(InvalidInputError):
    """A text that is neither an objective nor a formula over what is known of the candidates."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """What formulas read of n candidates; of equal names the first below is meant.

    Attributes:
        tasks: task -> probability, float64 `[n]`; NaN, read as 0, where the task doesn't apply.
        columns: attributes and statistics of all items.
        items: int32 `[n]` positions in `columns`.
        names: of the trees' features.
        features: float32 `[n, len(names)]`; NaN where missing.
    """

    tasks: Mapping[str, Float64]
    columns: Mapping[str, pl.Series]
    items: Int32
    names: Sequence[str]
    features: Float32


def by_task(task: str) -> str:
    """Return the formula that is one task's probability."""
    return operand(Name(task, 0))


def check_objectives(
    objectives: Objectives, tasks: Iterable[str], columns: Mapping[str, pl.Series], names: Iterable[str]
) -> None:
    """Check every objective's names.

    Args:
        objectives: name -> formula.
        tasks: that have a probability per item.
        columns: attributes and statistics of items.
        names: of the trees' features.

    Raises:
        ObjectiveError: one reads what isn't there, or no number.
    """
    nothing, known = np.empty(0), tuple(names)
    candidates = Candidates(
        tasks=dict.fromkeys(tasks, nothing),
        columns=columns,
        items=np.empty(0, np.int32),
        names=known,
        features=np.empty((0, len(known)), np.float32),
    )
    for name, text in objectives.items():
        try:
            _compute(text, candidates)
        except FormulaError as error:
            raise ObjectiveError(f"objective {name!r}: {error}") from None


def score(objectives: Objectives, asked: str | None, candidates: Candidates) -> Float64:
    """Return the scores of candidates, float64 `[n]`; NaN where the formula has no value.

    Args:
        objectives: the declared ones.
        asked: the name of one, or a formula; None for the default.
        candidates: see there.

    Raises:
        ObjectiveError: a text that is neither, or reads what isn't there.
    """
    chosen = DEFAULT if asked is None else asked
    try:
        return _compute(objectives.get(chosen, chosen), candidates)
    except FormulaError as error:
        raise ObjectiveError(f"objective: expected one of {', '.join(objectives)}, or a formula; {error}") from None


def order(scores: Float64, items: Int32) -> npt.NDArray[np.intp]:
    """Return rows best first, those without a score (NaN) last, intp `[n]`.

    Equal scores go by item position, whatever the input's order.
    """
    return np.lexsort((items, -scores))


def _compute(text: str, candidates: Candidates) -> Float64:
    formula = parse(text)
    columns = {}
    for load in formula.names:
        found = _column(load.name, candidates)
        if isinstance(found, str):
            raise FormulaError(found, text, load.start)
        columns[load.name] = found
    return formula.compute(columns, len(candidates.items))


def _column(name: str, candidates: Candidates) -> Float64 | str:
    """Return float64 `[n]`, or what is wrong with the name."""
    if name in candidates.tasks:
        return np.nan_to_num(candidates.tasks[name], nan=0.0)
    column = candidates.columns.get(name)
    if column is not None:
        if not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
            return f"expected numbers, or true or false, found {name!r}: {column.dtype}"
        return column.gather(candidates.items).cast(pl.Float64).fill_null(np.nan).to_numpy()
    if name in candidates.names:
        return candidates.features[:, list(candidates.names).index(name)].astype(np.float64)
    # The trees read some hundred features: only what may be meant is listed of them.
    near = difflib.get_close_matches(name, candidates.names, n=1)
    return unknown_name("task, attribute or feature", name, [*candidates.tasks, *candidates.columns, *near])
