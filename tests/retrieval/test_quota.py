"""The sources by name and bit, and how many candidates each may name."""

from __future__ import annotations

from retrieval.quota import ALWAYS, SOURCES, Source, SourceQuota, held_sources, source_names


def test_bits_and_names() -> None:
    assert [Source.named(name) for name in SOURCES] == [1, 2, 4, 8, 16]
    assert source_names(0b1010) == ("collaborative", "trending")
    assert source_names(0b10001) == ("semantic", "sequence")


def test_what_a_release_holds() -> None:
    held = [
        held_sources(users=users, sequence=sequence)
        for users, sequence in ((False, False), (True, False), (True, True))
    ]
    assert held == [("semantic",), ALWAYS, SOURCES]


def test_quotas_scale_with_k_and_fill_it() -> None:
    quota = SourceQuota()
    assert quota.counts(500, ALWAYS) == {"semantic": 150, "collaborative": 200, "repeat": 250, "trending": 50}
    # 150 / 500 * 20 = 6, 200 -> 8, 250 -> 10, 50 -> 2
    assert quota.counts(20, ALWAYS) == {"semantic": 6, "collaborative": 8, "repeat": 10, "trending": 2}
    # What a release has besides takes its places from none of them: the merge keeps the best.
    assert quota.counts(500, SOURCES) == {**quota.counts(500, ALWAYS), "sequence": 150}
    assert quota.counts(100, ["semantic"]) == {"semantic": 100}
    # 350 in all, below 500: 150 * 100 / 350 = 42.9, 200 * 100 / 350 = 57.1, both up
    assert quota.counts(100, ["semantic", "collaborative"]) == {"semantic": 43, "collaborative": 58}
    assert SourceQuota(semantic=0).counts(10, ["semantic"]) == {"semantic": 0}
