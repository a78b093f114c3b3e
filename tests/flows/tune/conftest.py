"""A shop of 24 users and 12 items on a tiny random transformer: a whole run takes a fraction of a second."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from tests.tiny_transformers import word_tokenizer, write_bert

FIRST_DAY = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 112
TASTES = ("tea", "bread", "soap")
WORDS = (*TASTES, "likes", "often", "lately", *(str(n) for n in range(12)))


@pytest.fixture(scope="session", autouse=True)
def _one_thread(one_thread: None) -> None:
    """Train in one thread."""


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random 2-layer BERT that knows the shop's words."""
    return write_bert(tmp_path_factory.mktemp("bert"), word_tokenizer(WORDS), hidden=16, intermediate=32)


def write_tables(folder: Path) -> None:
    """Users of one taste each buy its items, the odd ones rarely; a purchase costs more the rarer it is."""
    rng = np.random.default_rng(0)
    users = [{"user_id": f"user{n}", "taste": TASTES[n % 3]} for n in range(24)]
    items = [{"item_id": f"item{n}", "title": f"{TASTES[n % 3]} {n}", "category": TASTES[n % 3]} for n in range(12)]
    events = [
        {
            "user_id": f"user{user}", "item_id": f"item{user % 3 + 3 * int(rng.integers(4))}", "event": "purchase",
            "timestamp": FIRST_DAY + timedelta(days=day, hours=user % 24), "value": 5.0 if user % 2 else 1.0,
            "quantity": 1.0,
        }
        for day in range(DAYS)
        for user in range(24)
        if rng.random() < (0.06 if user % 2 else 0.3)
    ]  # fmt: skip
    for name, rows in (("users", users), ("items", items), ("events", events)):
        pl.DataFrame(rows).write_parquet(folder / f"{name}.parquet")


def workspace_file(backbone: Path) -> dict[str, object]:
    """The content of the shop's `polyrank.yaml`."""
    tables = {name: {"type": "parquet", "path": f"{name}.parquet"} for name in ("items", "users", "events")}
    batch = {"users": 8, "positives": 1, "negatives": 4}
    return {
        "name": "shop",
        "source": {"type": "tables", **tables},
        "time": {"horizon_days": 14, "ranker_folds": 2, "encoder_folds": 1, "minimum_history_days": 14},
        "eligible": {"min_users": 1},
        "texts": {"user": "likes {taste}", "frequent": 1, "recent": 1},
        "tasks": [
            {"name": "purchase", "kind": "binary", "on": "pair", "label": {"type": "event", "event": "purchase"}},
            {"name": "churn", "kind": "binary", "on": "user", "label": {"type": "absence", "event": "purchase"}},
            {
                "name": "spend", "kind": "regression", "on": "user",
                "label": {"type": "value", "event": "purchase", "reduce": "sum"},
            },
        ],
        "encoder": {
            "backbone": {"name": str(backbone), "max_tokens": {"user": 12, "item": 6, "text": 6}},
            "batch": batch, "warmup": {"steps": 4, "validate_every": 2, "batch": batch},
            "train_layers": 1, "steps": 2, "validate_every": 2, "rank": 4, "hidden": 4,
            "validation_batches": 1, "baseline_batches": 2,
        },
        "tune": {
            "space": {
                "balance.method": ["static", "dual"],
                "learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
                "steps": {"low": 1, "high": 3},
                # Without dropout both passes are one, which the configuration refuses: such trials fail.
                "rdrop": [0.0, 1.0],
            },
        },
    }  # fmt: skip


@pytest.fixture
def shop(tmp_path: Path, backbone: Path) -> Path:
    """A workspace folder of its own."""
    write_tables(tmp_path)
    (tmp_path / "polyrank.yaml").write_text(yaml.safe_dump(workspace_file(backbone)))
    return tmp_path
