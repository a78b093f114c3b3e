"""What a person sees in the terminal of a run of the monitor."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.markup import escape

from flows.console_tables import simple_table
from flows.monitor.alert import MonitorReport

# The page lists all.
_SHOWN: Final = 20


def render_monitor(report: MonitorReport, console: Console) -> None:
    """Print what was read, and the alerts that it raised."""
    read = [f"{report.new_texts:,} new texts", f"{report.judged:,} buckets judged"]
    read += [f"{report.rescored:,} scored anew"] if report.rescored else []
    read += [f"{report.late:,} late"] if report.late else []
    read += [f"{report.undated:,} without a time left out"] if report.undated else []
    console.print(f"{', '.join(read)}, by release {escape(report.release)}", highlight=False, soft_wrap=True)
    if not report.alerts:
        console.print("[green]no new alert[/]")
        return
    numbers = ("texts", "negative", "expected", "range")
    table = simple_table(
        f"\n{len(report.alerts)} new alerts", "bucket", "series", "", *numbers, right=frozenset(numbers)
    )
    for alert in report.alerts[-_SHOWN:]:
        point = alert.point
        table.add_row(
            f"{point.start:%Y-%m-%d %H:%M}", escape(point.series.label), point.cause, str(point.texts),
            f"{point.share:.0%}", f"{point.expected:.0%}", f"{point.low:.0%} to {point.high:.0%}",
        )  # fmt: skip
    console.print(table)
    worst = report.alerts[-1].worst
    if worst:
        console.print(f"worst text of the last: {escape(worst[0].text)}", highlight=False)
