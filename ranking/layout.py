"""Where the ranking parts of a release lie, as paths relative to it; retrieval names its own and the root's."""

from __future__ import annotations

from typing import Final

RANKING_DIR: Final = "ranking"
SCHEMA: Final = f"{RANKING_DIR}/schema.json"
BLEND: Final = f"{RANKING_DIR}/blend.json"
CALIBRATION: Final = f"{RANKING_DIR}/calibration.json"
# At the root of a release: how texts are replied to.
REPLIES: Final = "replies.json"
# The name of the LambdaRank model among the per-task models; no task may take it.
RANK: Final = "rank"


def gbdt_model(task: str) -> str:
    """Return the relative path of one task's LightGBM text model (`rank` for LambdaRank)."""
    return f"{RANKING_DIR}/gbdt_{task}.txt"
