"""From where data lives to canonical, validated tables: `load` reads what the workspace declares.

A source is either a data set that has an adapter (`type: complete_journey`, `movielens`, `support` or `finance`) or
`type: tables`, which names for items, users and events a Parquet file, a CSV file or a database query each, with a
mapping of columns. A shop may name a table of `texts` besides, for tasks on single texts. Tables of one's own may be
texts alone, or texts and the items that answer them:

    type: tables
    items: {type: csv, path: products.csv, columns: {item_id: sku, title: name, category: group}}
    events:
      - type: parquet
        path: orders/*.parquet
        columns:
          user_id: customer
          item_id: sku
          event: {constant: purchase}
          timestamp: {column: bought_at, format: "%d/%m/%Y %H:%M", timezone: Europe/Paris}
          value: price
    texts: {type: parquet, path: tickets.parquet}

Without `columns` a table's columns keep their names; with it, exactly those listed are read.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field

from features.datasets.complete_journey import read_complete_journey
from features.datasets.finance import FinanceConfig, read_finance
from features.datasets.help_desk import INTENT, REPLY, reply_templates
from features.datasets.journey_files import CompleteJourneyConfig
from features.datasets.movielens import MovieLensConfig, read_movielens
from features.datasets.support import SupportConfig, read_support
from features.datasets.text_sets import TextSetsConfig
from features.findings import Finding, ValidationReport
from features.rules import ValidationConfig
from features.tables import Tables
from features.tabular import TablesConfig, read_declared, read_texts
from features.validate import validate

AnySource = TablesConfig | CompleteJourneyConfig | MovieLensConfig | SupportConfig | FinanceConfig
SourceConfig = Annotated[AnySource, Field(discriminator="type")]


def load(
    config: AnySource,
    base: Path,
    now: datetime,
    *,
    rules: ValidationConfig | None = None,
    environment: Mapping[str, str] | None = None,
    known_items: Collection[str] = (),
) -> tuple[Tables, ValidationReport]:
    """Read a source and validate it.

    Args:
        config: the source.
        base: folder that relative paths start from.
        now: aware time after which an event or a text is in the future.
        rules: validation policies; None takes the defaults.
        environment: variables for database URIs; None takes the process's.
        known_items: ids that the items are about to get from elsewhere; their events are let through.

    Raises:
        SourceNotFoundError, DatasetMissingError: if a file is absent.
        SourceUnreadableError: if a file is not in its format.
        DatabaseUnavailableError: if a query fails.
        InvalidTablesError: if the tables break a rule whose policy is `error`.
    """
    rules = rules or ValidationConfig()
    variables = {**(os.environ if environment is None else environment), "WORKSPACE": str(base.resolve())}
    notes: tuple[Finding, ...]
    match config:
        case CompleteJourneyConfig():
            located = config if config.path is None else config.model_copy(update={"path": base / config.path})
            tables, notes = read_complete_journey(located)
        case MovieLensConfig():
            tables, notes = read_movielens(config.model_copy(update={"path": base / config.path}))
        case SupportConfig():
            tables, notes = read_support(config, base)
        case FinanceConfig():
            tables, notes = read_finance(config, base)
        case TablesConfig():
            tables, notes = read_declared(config, base, rules, variables)
    # Those are texts themselves.
    if not isinstance(config, TextSetsConfig) and config.texts is not None:
        texts, found = read_texts(config.texts, base, rules, variables)
        tables, notes = replace(tables, texts=texts), (*notes, *found)
    return validate(tables, rules, now=now, declared=config.declared, notes=notes, known_items=known_items)


def own_replies(config: AnySource) -> dict[str, str]:
    """Return the templates of replies that a source ships with its texts, by intent; most ship none."""
    if not (isinstance(config, SupportConfig) and config.is_sample):
        return {}
    return dict(reply_templates().select(INTENT, REPLY).iter_rows())
