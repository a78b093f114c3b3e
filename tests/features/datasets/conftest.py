from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def published() -> Path:
    """The folder of the whole published sets: POLYRANK_DATA, which few machines have."""
    folder = os.environ.get("POLYRANK_DATA")
    if folder is None:
        pytest.skip("set POLYRANK_DATA to a folder of the published text sets")
    return Path(folder)
