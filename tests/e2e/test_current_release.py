"""A release that would answer worse than the current one is refused by name and amount, and told apart from a tie."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from journey import Built, polyrank

from flows.report import read
from infra.releases import ReleaseStore


def test_a_release_that_hides_what_users_buy_is_refused(built: Built, tmp_path: Path) -> None:
    """The same trees and blend under a rule that never shows what many buy: the order alone is worse."""
    folder = shutil.copytree(built.folder, tmp_path / "worse")
    file = folder / "polyrank.yaml"
    hidden = "ranking:\n  rules: {block: {items: buyers >= 4}}\n"
    file.write_text(file.read_text(encoding="utf-8").replace("ranking:\n", hidden), encoding="utf-8")
    store = ReleaseStore(folder / ".polyrank" / "releases")
    store.publish(built.release_id)
    polyrank(folder, "refresh", "model")
    worse = store.list()[0].release_id
    assert worse != built.release_id
    printed = polyrank(folder, "evaluate", worse)
    assert f"Beside the current release {built.release_id}" in printed

    beside = read(folder / ".polyrank" / "reports" / worse / "report.json").beside
    assert beside is not None
    rows = {row.name: row for row in beside.rows}
    assert {rows[name].verdict for name in ("ndcg", "recall")} == {"worse"}
    assert rows["ndcg"].current.value > rows["ndcg"].candidate.value
    for level in ("auc.purchase", "log_loss.churn", "accuracy.topic"):
        assert rows[level].difference.value == pytest.approx(0, abs=1e-9)
        assert rows[level].verdict == "level"
    # The current release's figure is that of its own evaluation, but for a purchase that another test may log.
    own = read(built.folder / ".polyrank" / "reports" / built.release_id / "report.json").rankings[0]
    shipped = next(row for row in own.scorers if row.scorer == own.shipped)
    assert rows["ndcg"].current.value == pytest.approx(shipped.ndcg.value, abs=0.02)

    refused = " ".join(polyrank(folder, "publish", worse, code=1).split())
    assert f"ndcg: expected no worse than the current release {built.release_id} by more than 0, found" in refused
    assert "auc.purchase" not in refused
    assert store.current() == built.release_id
    polyrank(folder, "publish", worse, "--without-comparison")
    assert store.current() == worse
