"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from features.datasets.journey_files import CompleteJourneyConfig
from features.sources import load
from features.tables import Tables
from infra.heap import settle

if "PYTEST_XDIST_WORKER" in os.environ:
    # Test processes side by side already keep every core busy; torch and FAISS read it when they are imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_finish() -> None:
    """Keep the modules and thousands of tests out of every later collection of garbage."""
    settle()


@pytest.fixture(scope="session")
def small_journey() -> Tables:
    """The Complete Journey's validated tables of 120 households: about 104,000 real events of 19,700 items."""
    config = CompleteJourneyConfig(max_users=120)
    tables, _ = load(config, Path(), datetime(2026, 1, 1, tzinfo=UTC))
    return tables


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    """Matrices of tiny models lose more to threads waiting for each other than they gain."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
