"""Up to when a release has seen data, whatever it took its models from."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.lineage import Lineage, seen_until
from infra.releases import ReleaseStore

JUNE, JULY = datetime(2024, 6, 1, tzinfo=UTC), datetime(2024, 7, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> ReleaseStore:
    return ReleaseStore(tmp_path)


def write(store: ReleaseStore, name: str, as_of: datetime, parent: str | None, *sources: str) -> datetime | None:
    lineage = Lineage.of(parent, as_of, [store.path(source) for source in sources])
    with store.create(name, parent=parent, as_of=as_of, metadata=lineage.metadata):
        pass
    return seen_until(store.manifest(name))


def test_a_release_that_trained_everything_has_seen_its_own_data(store: ReleaseStore) -> None:
    assert write(store, "a", JUNE, None) == JUNE


def test_models_that_were_taken_over_remember_later_data(store: ReleaseStore) -> None:
    """The index of July's models, built anew as of June, and a release after it."""
    write(store, "july", JULY, None)
    assert write(store, "june", JUNE, "july", "july") == JULY
    assert write(store, "next", JUNE, None, "june") == JULY


def test_an_encoder_from_elsewhere_says_nothing(tmp_path: Path) -> None:
    assert Lineage.of(None, JUNE, [tmp_path / "exported"]).seen_until == JUNE


def test_what_a_release_does_not_tell_is_not_guessed(store: ReleaseStore) -> None:
    with store.create("old", as_of=JUNE):
        pass
    assert seen_until(store.manifest("old")) == JUNE
    with store.create("child", parent="old", as_of=JUNE):
        pass
    assert seen_until(store.manifest("child")) is None
    assert write(store, "grandchild", JULY, "child", "child") is None
