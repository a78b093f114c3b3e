"""One small workspace, taken through every flow once per session by the real Feast, Prefect, FAISS and LightGBM."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from journey import Built, Server, polyrank, serving, write_texts

from infra.releases import ReleaseStore


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Features, model, evaluation, publishing: each as the command that an engineer types."""
    folder = tmp_path_factory.mktemp("journey")
    shutil.copyfile(Path(__file__).parent / "polyrank.yaml", folder / "polyrank.yaml")
    write_texts(folder / "texts.parquet")
    environment = os.environ | {"PREFECT_HOME": str(tmp_path_factory.mktemp("prefect"))}
    for arguments in (["refresh", "features"], ["refresh", "model"], ["evaluate"], ["publish"]):
        polyrank(folder, *arguments, environment=environment)
    current = ReleaseStore(folder / ".polyrank" / "releases").current()
    assert current is not None
    return Built(folder, current)


@pytest.fixture(scope="session")
def server(built: Built) -> Iterator[Server]:
    """`polyrank serve` in a process of its own."""
    with serving(built.folder) as running:
        yield running
