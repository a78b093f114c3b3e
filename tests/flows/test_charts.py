from __future__ import annotations

import re

from flows.charts import text_reliability
from flows.report.tasks import ReliabilityBin
from flows.report.texts import TextScores


def ticks(lowest: float) -> set[str]:
    """Return the numbers beside the axes of a picture whose probabilities go from `lowest` to .01."""
    bins = tuple(ReliabilityBin(predicted=value, observed=value, n=9) for value in (lowest, lowest * 2, 0.01))
    drawn = text_reliability(
        TextScores(task="urgent", kind="binary", rows="held out", n=9, figures=(), reliability=bins)
    )
    return {word for word in re.findall(r">\s*([^<>]+?)\s*<", drawn) if re.fullmatch(r"[\d.]+", word)}


def test_ticks_of_many_decades_do_not_run_into_each_other() -> None:
    assert {"0.001", "0.003"} <= ticks(1e-3)
    many = ticks(1e-7)
    assert {"0.000001", "0.001"} <= many
    assert not {"0.003", "0.0003"} & many
