"""The gate: passes what the report shows, refuses what it contradicts and what it lacks."""

from __future__ import annotations

import pytest

from flows.gate import GateConfig, GateError
from flows.report import PairedDifference, Report

DECAYED = "own frequency, decayed over 90 days"


def test_an_empty_gate_asks_nothing(sample_report: Report) -> None:
    assert not GateConfig().asks
    assert GateConfig(min_ndcg=0.1).asks
    GateConfig().check(sample_report)


def test_what_the_report_shows_passes(sample_report: Report) -> None:
    # NDCG .4203; blend above the decayed frequency, undecided against GBDT; purchase's blend has AUC .86; recall .989
    gate = GateConfig(
        not_worse_than=(DECAYED, "GBDT"),
        better_than=(DECAYED,),
        min_ndcg=0.42,
        min_auc={"purchase": 0.86},
        min_index_recall=0.989,
    )
    assert gate.refusals(sample_report) == []


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        (GateConfig(better_than=("GBDT",)), "expected blend better than GBDT, found NDCG@10 +0.0022"),
        (GateConfig(not_worse_than=("oracle",)), "expected blend not worse than oracle, found NDCG@10 -0.1000"),
        (GateConfig(better_than=("nobody",)), "expected a paired difference of the shipped order to 'nobody'"),
        (GateConfig(min_ndcg=0.43), "expected NDCG@10 of at least 0.43, found 0.4203"),
        (GateConfig(min_auc={"purchase": 0.9}), "task purchase: expected an AUC of at least 0.9, found 0.8600"),
        (GateConfig(min_auc={"rating": 0.5}), "task rating: expected an AUC of at least 0.5, found none"),
        (GateConfig(min_index_recall=0.99), "index IVF-SQ8: expected a recall of at least 0.99, found 0.9890"),
    ],
)
def test_refusals_say_expected_and_found(sample_report: Report, gate: GateConfig, reason: str) -> None:
    with pytest.raises(GateError) as caught:
        gate.check(sample_report)
    assert reason in str(caught.value)
    assert sample_report.release_id in str(caught.value)


def test_an_unmeasured_release_does_not_pass(sample_report: Report) -> None:
    bare = sample_report.model_copy(update={"rankings": (), "tasks": (), "index": ()})
    gate = GateConfig(better_than=("x",), min_ndcg=0.0, min_auc={"purchase": 0.0}, min_index_recall=0.0)
    assert len(gate.refusals(bare)) == 4


def test_not_worse_holds_on_every_item_space(sample_report: Report) -> None:
    every, new = sample_report.rankings
    worse = PairedDifference(
        scorer="blend", baseline=DECAYED, metric="NDCG@10", difference=every.differences[2].difference
    )
    report = sample_report.model_copy(update={"rankings": (every, new.model_copy(update={"differences": (worse,)}))})
    assert GateConfig(better_than=(DECAYED,)).refusals(report) == []
    assert "never bought before" in GateConfig(not_worse_than=(DECAYED,)).refusals(report)[0]
