"""A line per stage with its time, in the terminal.

On a terminal a running stage shows a spinner with its elapsed seconds; in a pipe or in CI there are plain lines only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from flows.words import format_seconds


@dataclass
class StageNote:
    """What a stage wants said beside its name once it has ended ("reused", "24,480 items")."""

    text: str = ""


class Stages:
    """Prints one line for each stage as it ends; nested stages print theirs indented.

    Args:
        console: where to print.
        spinner: draw one on a terminal; off where a stage draws a display of its own, since only one can be live.
    """

    def __init__(self, console: Console, *, spinner: bool = True) -> None:
        self._console = console
        self._spinner = spinner and console.is_terminal
        self._depth = 0

    def done(self, name: str, words: str) -> None:
        """Print the line of a stage that had nothing to do."""
        self._console.print(f"{'  ' * self._depth}[green]✓[/] {escape(name)} [dim]{escape(words)}[/]", highlight=False)

    @contextmanager
    def stage(self, name: str) -> Iterator[StageNote]:
        """Show `name` while the body runs, then its time and note; an exception passes after a line that says so."""
        note, started, indent = StageNote(), time.perf_counter(), "  " * self._depth
        if not self._spinner:
            self._console.print(f"{indent}[dim]... {escape(name)}[/]", highlight=False)
        self._depth += 1
        mark = "[red]✗[/]"
        try:
            with self._live(f"{indent}{name}"):
                yield note
            mark = "[green]✓[/]"
        finally:
            self._depth -= 1
            words = f" [dim]{escape(note.text)}[/]" if note.text else ""
            took = format_seconds(time.perf_counter() - started)
            self._console.print(f"{indent}{mark} {escape(name)}{words} [cyan]{took}[/]", highlight=False)

    def _live(self, label: str) -> AbstractContextManager[object]:
        # Rich allows one live display; only the outermost stage, in the main thread, draws it.
        outermost = self._depth == 1 and threading.current_thread() is threading.main_thread()
        if not (self._spinner and outermost):
            return nullcontext()
        return Live(_Running(label), console=self._console, refresh_per_second=8, transient=True)


class _Running:
    """A spinner, the stage's name and its elapsed seconds, drawn anew at each refresh."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._spinner = Spinner("dots")
        self._started = time.perf_counter()

    def __rich__(self) -> Table:
        line = Table.grid(padding=(0, 1))
        line.add_row(
            self._spinner, self._label, Text(format_seconds(time.perf_counter() - self._started), style="cyan")
        )
        return line
