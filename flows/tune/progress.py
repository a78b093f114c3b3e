"""What a study says while it runs: a line for each run, with the time that is left."""

from __future__ import annotations

import time

from rich.console import Console
from rich.markup import escape

from flows.words import format_seconds


class Progress:
    """Prints lines, and tells the time left by the mean of the runs so far.

    Args:
        console: where to print.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._runs = 0
        self._began = self._last = time.perf_counter()

    def run(self, what: str, found: str, *, left: int) -> None:
        """Say what the run since the last line gave, and how long `left` more will take."""
        now = time.perf_counter()
        took, self._last, self._runs = now - self._last, now, self._runs + 1
        wait = f", about {format_seconds(left * (now - self._began) / self._runs)} left" if left else ""
        self._console.print(f"{escape(what)}: {escape(found)} [cyan]{format_seconds(took)}{wait}[/]", highlight=False)

    def say(self, words: str) -> None:
        """Print a line that belongs to no run."""
        self._console.print(f"[dim]{escape(words)}[/]", highlight=False)
