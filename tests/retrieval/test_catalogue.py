"""The file of a release that says how its items were made."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from features.texts import TextConfig
from retrieval.catalogue import CatalogueConfig
from retrieval.layout import CATALOGUE


def test_comes_back_from_a_release(tmp_path: Path) -> None:
    config = CatalogueConfig(
        texts=TextConfig(item="{title} | {brand} brand"),
        category_column="brand",
        eligible_items='kind == "product"',
        new_days=28,
        item_sequence=7,
    )
    (tmp_path / CATALOGUE).write_text(config.model_dump_json())
    assert CatalogueConfig.load(tmp_path) == config


def test_a_release_without_it_has_none(tmp_path: Path) -> None:
    assert CatalogueConfig.load(tmp_path) is None


def test_what_it_does_not_know_is_refused(tmp_path: Path) -> None:
    (tmp_path / CATALOGUE).write_text('{"texts": {}, "sequence": 7}')
    with pytest.raises(ValidationError, match="sequence"):
        CatalogueConfig.load(tmp_path)
