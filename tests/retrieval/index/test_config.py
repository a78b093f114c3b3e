"""What `auto` makes of size, memory and recall; bytes by hand at d=384."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from retrieval.index.config import IndexConfig


@pytest.mark.parametrize(
    ("count", "kind"),
    [
        (0, "flat"), (8_000, "flat"), (8_001, "flat_fp16"), (24_480, "flat_fp16"), (50_000, "flat_fp16"),
        (50_001, "ivf_sq8"),
    ],
)  # fmt: skip
def test_auto_picks_by_size(count: int, kind: str) -> None:
    assert IndexConfig().resolve(count, 384).type == kind


def test_a_scan_is_as_long_as_its_bytes() -> None:
    # 50,000 rows of 384 halves are 38.4 MB, and so are 150,000 rows of 128.
    assert IndexConfig().resolve(150_000, 128).type == "flat_fp16"
    assert IndexConfig().resolve(150_001, 128).type == "ivf_sq8"


def test_auto_picks_by_memory() -> None:
    # 10,000,000 * (384 + 8) bytes are 3.65 GiB; by product quantiser, 10,000,000 * (96 + 8), .97 GiB.
    assert IndexConfig(memory_gib=3.6).resolve(10_000_000, 384).type == "ivf_pq"
    choice = IndexConfig(memory_gib=3.7).resolve(10_000_000, 384)
    assert (choice.type, choice.bytes) == ("ivf_sq8", 3_920_000_000)
    assert "3.65 GiB fit the budget of 3.70" in choice.reason


def test_auto_picks_by_recall() -> None:
    assert IndexConfig(recall_target=1).resolve(1_000_000, 384).type == "flat_fp16"
    assert IndexConfig(recall_target=0.99).resolve(1_000_000, 384).type == "ivf_sq8"


def test_a_large_index_is_mapped() -> None:
    # Eight copies of 392 MB are 2.92 GiB.
    assert IndexConfig(memory_gib=2.9).resolve(1_000_000, 384).storage == "mapped"
    assert IndexConfig(memory_gib=3).resolve(1_000_000, 384).storage == "memory"
    assert IndexConfig(memory_gib=3, storage="mapped").resolve(1_000_000, 384).storage == "mapped"
    assert IndexConfig().resolve(24_480, 384).storage == "memory"


def test_what_is_asked_for_is_taken_unless_too_few_to_learn_from() -> None:
    assert IndexConfig(type="hnsw").resolve(256, 384).type == "hnsw"
    assert IndexConfig(type="hnsw").resolve(255, 384).type == "flat"


def test_code_bytes_divide_the_dimensions() -> None:
    assert IndexConfig().pq_bytes(384) == 96
    assert IndexConfig().pq_bytes(50) == 10  # 12 and 11 don't divide 50
    assert IndexConfig().pq_bytes(3) == 1
    assert IndexConfig(code_bytes=48).pq_bytes(384) == 48


def test_lists_follow_the_count() -> None:
    assert IndexConfig().list_count(1_000_000) == 4_000
    assert IndexConfig().list_count(390) == 10  # 39 vectors a list
    assert IndexConfig(lists=7).list_count(1_000_000) == 7


def test_an_unknown_key_fails() -> None:
    with pytest.raises(ValidationError, match="metric"):
        IndexConfig(metric="l2")  # type: ignore[call-arg]
