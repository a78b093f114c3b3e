"""Golden answers replay, a changed release is refused, and user rows survive JSON."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from features.schema import UserFeatures
from retrieval import layout
from retrieval.contract import CandidatesRequest
from retrieval.engine import Retriever
from retrieval.warmup import RetrievalCase, UserRow, WarmupError, load_ready, record, replay

Features = Callable[..., UserFeatures]


def cases(retriever: Retriever, features: Features) -> list[RetrievalCase]:
    return record(
        retriever,
        [
            (CandidatesRequest(user_id="user-3", k=50), features(3)),
            (CandidatesRequest(user_id="user-5", k=20, filter='department == "DELI"'), features(5)),
            (CandidatesRequest(user_id="nobody", k=10), UserFeatures.unknown("nobody")),
            (CandidatesRequest(item_id="item-4", k=10), None),
        ],
    )


def test_rows_survive_json(features: Features) -> None:
    for user in (features(2), UserFeatures.unknown("nobody")):
        text = UserRow.of(user).model_dump_json()
        assert "NaN" not in text
        back = UserRow.model_validate_json(text).features()
        assert (back.user_id, back.known) == (user.user_id, user.known)
        np.testing.assert_equal(back.as_of, user.as_of)
        for name in ("stats", "items", "history", "categories", "category_stats"):
            one, other = getattr(back, name), getattr(user, name)
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


def test_replay_agrees_with_its_own_recording(retriever: Retriever, features: Features) -> None:
    recorded = cases(retriever, features)
    assert [case.degraded for case in recorded] == [[], [], ["unknown_user"], []]
    assert replay(retriever, recorded) == []


def test_replay_names_what_differs(retriever: Retriever, features: Features) -> None:
    recorded = cases(retriever, features)
    other = recorded[0].model_copy(update={"candidates": recorded[0].candidates[:-1]})
    stranger = recorded[1].model_copy(update={"degraded": ["unknown_user"]})
    moved = recorded[0].model_copy(update={"candidates": [
        c.model_copy(update={"score": c.score + 0.01}) for c in recorded[0].candidates
    ]})  # fmt: skip
    mismatches = replay(retriever, [other, stranger, moved, recorded[2]])
    assert [line.split(":")[0] for line in mismatches] == [f"warm-up request {n}" for n in range(3)]


def test_a_release_loads_only_when_its_answers_agree(
    release: Path, retriever: Retriever, features: Features, tmp_path: Path
) -> None:
    copy = shutil.copytree(release, tmp_path / "copy")
    recorded = cases(retriever, features)
    warmup = {"retrieval": [case.model_dump(mode="json") for case in recorded], "ranking": [{"of": "another room"}]}
    (copy / layout.WARMUP).write_text(json.dumps(warmup), encoding="utf-8")
    assert len(load_ready(copy).snapshot) == 300
    flipped = np.load(copy / layout.USER_VECTORS)
    np.save(copy / layout.USER_VECTORS, -flipped)
    with pytest.raises(WarmupError, match="answers differ"):
        load_ready(copy)


def test_a_release_without_warmup_loads(release: Path) -> None:
    assert len(load_ready(release).snapshot) == 300
