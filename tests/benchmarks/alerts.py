"""How soon the monitor sees bad news, and how often it cries wolf: many simulated streams through the real detector.

Use: HF_HUB_OFFLINE=1 .venv/bin/python tests/benchmarks/alerts.py [--streams 40] [--hours 2000] [--bursts 200]
     [--rate 1.0] [-w WORKSPACE]

A stream has six series of scored texts, of 2 to 16 texts an hour and a negative share of 8 to 30%. Quiet streams, and
streams that break the detector's assumptions, tell the false alerts per 1,000 hours over all series together, with an
exact 95% Poisson interval, beside the rate that was asked for. In streams with a burst the odds of one series of
8 texts an hour are multiplied; an alert counts from the burst's first hour to its last, of that series or of all texts.
An hour is judged at its end, so the least delay is one hour.

With -w (a workspace of the finance template with a published release) the sample's synthetic headlines are replayed
through the real flow, a run a day, and the planted burst is looked for. The workspace is copied, not changed.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest, chi2

from features.datasets.synthetic_news import BURST_COMPANY, BURST_DAYS, DAYS, FIRST_DAY
from flows.cli.base import PREFECT_ENVIRONMENT
from flows.monitor.config import DetectionConfig, Rhythm
from flows.monitor.detection import Detector

Float64 = npt.NDArray[np.float64]

CONSOLE: Final = Console(width=130)
# Texts an hour and negative share of each series; a burst comes to the third.
VOLUMES: Final = np.array([2.0, 4.0, 8.0, 8.0, 12.0, 16.0])
SHARES: Final = np.array([0.30, 0.20, 0.15, 0.10, 0.08, 0.25])
TARGET: Final = 2
WARM: Final = 24 * 21
WEEK: Final = 24 * 7


@dataclass(frozen=True, kw_only=True)
class World:
    """How a stream's texts come: log odds and volumes by hour, and how much hours differ beyond that.

    Attributes:
        name: in the table.
        odds: hours -> what is added to the log odds.
        volume: hours -> factor of the volume.
        precision: of the beta that each hour draws its share from; None draws none.
        rhythm: that the detector is told of.
    """

    name: str
    odds: Callable[[Float64], Float64] = np.zeros_like
    volume: Callable[[Float64], Float64] = np.ones_like
    precision: float | None = None
    rhythm: Rhythm = "none"

    def draw(self, rng: np.random.Generator, hours: int, extra: Float64 | None = None) -> tuple[Float64, Float64]:
        """Return texts and negative texts, float64 `[series + 1, hours]`; `extra` adds to the target's log odds."""
        time = np.arange(hours, dtype=np.float64)
        logit = np.log(SHARES / (1 - SHARES))[:, None] + self.odds(time)
        if extra is not None:
            logit[TARGET] += extra
        share = 1 / (1 + np.exp(-logit))
        if self.precision is not None:
            share = rng.beta(share * self.precision, (1 - share) * self.precision)
        texts = rng.poisson(VOLUMES[:, None] * self.volume(time))
        negative = rng.binomial(texts, share)
        both = [np.vstack([rows.sum(axis=0), rows]).astype(np.float64) for rows in (texts, negative)]
        return both[0], both[1]


def nights(time: Float64) -> Float64:
    """Odds from half to double over the day."""
    return np.log(2) * np.sin(2 * np.pi * time / 24)


def days_volume(time: Float64) -> Float64:
    """Three quarters less by night."""
    return 0.625 + 0.375 * np.sin(2 * np.pi * time / 24)


def weekend(time: Float64) -> npt.NDArray[np.bool_]:
    """The last two days of seven."""
    return time % WEEK >= 5 * 24


WORLDS: Final = (
    World(name="as modelled"),
    World(name="as modelled, rhythm: week", rhythm="week"),
    World(name="hours differ (beta, precision 20)", precision=20.0),
    World(name="hours differ a lot (precision 5)", precision=5.0),
    World(name="day and night, not declared", odds=nights, volume=days_volume),
    World(name="day and night, rhythm: day", odds=nights, volume=days_volume, rhythm="day"),
    World(
        name="weekends: odds doubled, volume a third", odds=lambda t: np.log(2) * weekend(t),
        volume=lambda t: 1 - 2 / 3 * weekend(t),
    ),
    World(
        name="the same, rhythm: week", odds=lambda t: np.log(2) * weekend(t), volume=lambda t: 1 - 2 / 3 * weekend(t),
        rhythm="week",
    ),
    World(name="odds creep up by 0.5% a day", odds=lambda t: np.log(1.005) * t / 24),
)  # fmt: skip


def false_alerts(streams: int, hours: int, rate: float) -> None:
    """Print the false alerts of each world."""
    table = Table("stream", "hours", "false alerts", "per 1,000 hours", "95% interval", "asked for", "jumps", "drifts")
    for world in WORLDS:
        causes: list[str | None] = []
        for seed in range(streams):
            own = Detector.of(_config(rate, world.rhythm), *world.draw(np.random.default_rng(seed), WARM + hours))
            verdicts = (verdict for hour in range(WARM + hours) for verdict in own.judge(hour))
            causes += [verdict.cause for verdict in verdicts if verdict.is_alert and verdict.bucket >= WARM]
        thousands, n = streams * hours / 1000, len(causes)
        low = chi2.ppf(0.025, 2 * n) / 2 / thousands if n else 0.0
        high = chi2.ppf(0.975, 2 * n + 2) / 2 / thousands
        table.add_row(
            world.name, f"{streams * hours:,}", str(n), f"{n / thousands:.2f}", f"{low:.2f} to {high:.2f}",
            f"{rate:g}", str(causes.count("jump")), str(causes.count("drift")),
        )  # fmt: skip
    CONSOLE.print(table)


def detections(bursts: int, rate: float) -> None:
    """Print how many bursts are seen, and after how many hours."""
    table = Table("burst", "hours", "seen", "95% interval", "median delay, h", "90% within, h", "alerts before it")
    sizes = [(factor, length) for length in (6, 24) for factor in (2, 3, 5, 10, 20)]
    for factor, length in sizes:
        _row(table, f"odds x {factor}", length, bursts, rate, np.full(length, np.log(factor)))
    # Two days from nothing to six times the odds.
    _row(table, "slow, to odds x 6", 48, bursts, rate, np.linspace(0, np.log(6), 48))
    _row(table, "odds x 5, rhythm: week", 24, bursts, rate, np.full(24, np.log(5)), "week")
    CONSOLE.print(table)


def _row(
    table: Table, name: str, length: int, bursts: int, rate: float, odds: Float64, rhythm: Rhythm = "none"
) -> None:
    delays: list[int] = []
    early = 0
    for seed in range(bursts):
        extra = np.concatenate([np.zeros(WARM), odds])
        own = Detector.of(
            _config(rate, rhythm), *WORLDS[0].draw(np.random.default_rng(10_000 + seed), len(extra), extra)
        )
        # CUSUMs are those of the last two days: none is carried along for three weeks.
        verdicts = [verdict for hour in range(WARM - 48, len(extra)) for verdict in own.judge(hour)]
        alerts = [verdict for verdict in verdicts if verdict.is_alert and verdict.series in (0, TARGET + 1)]
        early += any(verdict.bucket < WARM for verdict in alerts)
        within = [verdict.bucket - WARM + 1 for verdict in alerts if verdict.bucket >= WARM]
        delays += within[:1]
    interval = binomtest(len(delays), bursts).proportion_ci(method="wilson")
    # A burst that isn't seen has no delay: quantiles are over all bursts, so a dash says that fewer were seen.
    ordered = sorted([float(delay) for delay in delays]) + [np.inf] * (bursts - len(delays))
    median, most = (ordered[int(np.ceil(q * bursts)) - 1] for q in (0.5, 0.9))
    shown = ["–" if np.isinf(value) else f"{value:.0f}" for value in (median, most)]
    table.add_row(
        name, str(length), f"{len(delays) / bursts:.0%}", f"{interval.low:.0%} to {interval.high:.0%}", *shown,
        str(early),
    )  # fmt: skip


def _config(rate: float, rhythm: Rhythm) -> DetectionConfig:
    return DetectionConfig(false_alarms=rate, rhythm=rhythm)


def replay(workspace: Path) -> None:
    """Run the real flow once a day over the sample's headlines, and print when the planted burst was seen."""
    os.environ.update(PREFECT_ENVIRONMENT)
    # Prefect reads its environment when it is imported, and the simulations do without it.
    from flows.monitor.alert import MonitorReport
    from flows.monitor.flow import monitor_texts

    with TemporaryDirectory() as place:
        copy = Path(place) / "workspace"
        shutil.copytree(workspace, copy, ignore=shutil.ignore_patterns("monitor"))
        burst = FIRST_DAY + timedelta(days=BURST_DAYS.start)
        table = Table("run as of", "new texts", "judged", "alerts")
        false, seen = 0, None
        for day in (*range(20, BURST_DAYS.start, 10), *range(BURST_DAYS.start, DAYS + 1)):
            as_of = FIRST_DAY + timedelta(days=day)
            report = MonitorReport.model_validate(monitor_texts(str(copy), as_of))
            words = "; ".join(alert.summary for alert in report.alerts)
            false += sum(alert.point.start < burst for alert in report.alerts)
            if seen is None and any(BURST_COMPANY in alert.summary for alert in report.alerts):
                seen = as_of - burst
            table.add_row(f"{as_of:%Y-%m-%d}", str(report.new_texts), str(report.judged), words)
    CONSOLE.print(table)
    when = "not seen" if seen is None else f"seen {seen / timedelta(hours=1):.0f} h after its first midnight"
    CONSOLE.print(f"burst of {BURST_COMPANY}: {when}; {false} false alerts in {BURST_DAYS.start * 24} quiet hours")


def main() -> None:
    """Read the options and print every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=40)
    parser.add_argument("--hours", type=int, default=2000)
    parser.add_argument("--bursts", type=int, default=200)
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("-w", "--workspace", type=Path)
    options = parser.parse_args()
    false_alerts(options.streams, options.hours, options.rate)
    detections(options.bursts, options.rate)
    if options.workspace is not None:
        replay(options.workspace)


if __name__ == "__main__":
    main()
