"""An explanation in a terminal: where the item stands, what it scores, and what every part of its logit comes from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from flows.console_tables import simple_table
from flows.explain import Explained

_WIDTH: Final = 16
_SHOWN: Final = 12
_WORDS: Final = {
    "history": "own purchases, this item",
    "category": "own purchases, its category",
    "item": "how the item sells",
    "cross": "item against customer",
    "user": "the customer's habits",
    "collaborative": "people who buy alike",
    "sequence": "what comes next",
    "encoder": "texts of item and customer",
    "base": "what every item starts from",
}


def render_explanation(why: Explained, console: Console) -> None:
    """Print an explanation."""
    console.rule(f"[bold]{escape(why.title)}[/] [dim]{escape(why.item_id)}[/] for user {escape(why.user_id)}")
    console.print(f"{escape(why.reason)}\n", style="italic", highlight=False)
    console.print(_facts(why), highlight=False)
    console.print(_groups(why), highlight=False)
    console.print(_features(why), highlight=False)
    console.print(
        f"[dim]Which words of the texts speak: polyrank attribute {escape(why.task)} --user {escape(why.user_id)} "
        f"--item {escape(why.item_id)}[/]",
        highlight=False,
        soft_wrap=True,
    )


def _facts(why: Explained) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    place = "left out by a rule" if why.place is None else f"{why.place} of {why.candidates} candidates"
    moved = f", moved by {', '.join(why.moved)}" if why.moved else ""
    rows = {
        "release": why.release_id,
        "place": place + moved,
        "named by": ", ".join(why.sources) or "no source: it was ranked beside the candidates",
        "score": f"{'none' if math.isnan(why.score) else f'{why.score:.5g}'} = {why.formula}",
        **{f"task {name}": f"{value:.5g}" for name, value in why.tasks.items()},
    }
    for name, text in rows.items():
        table.add_row(f"[dim]{escape(name)}[/]", escape(text))
    return table


def _groups(why: Explained) -> Table:
    table = simple_table(f"\nLogit of {why.task}, by what it comes from", "", "", "part", "", right=frozenset({"part"}))
    largest = _largest(why.groups.values())
    for group, part in sorted(why.groups.items(), key=lambda own: -abs(own[1])):
        table.add_row(group, f"[dim]{_WORDS[group]}[/]", f"{part:+.3f}", _bar(part, largest))
    table.add_row("[bold]logit[/]", "[dim]before calibration[/]", f"[bold]{why.logit:+.3f}[/]", "")
    return table


def _features(why: Explained) -> Table:
    shown = why.features[:_SHOWN]
    columns = "feature", "value", "part", ""
    table = simple_table("\nStrongest features", *columns, right=frozenset({"value", "part"}))
    largest = _largest(feature.part for feature in shown)
    for feature in shown:
        value = "missing" if math.isnan(feature.value) else f"{feature.value:.4g}"
        table.add_row(feature.name, value, f"{feature.part:+.3f}", _bar(feature.part, largest))
    rest = why.features[_SHOWN:]
    if rest:
        table.add_row(f"[dim]{len(rest)} others[/]", "", f"[dim]{sum(one.part for one in rest):+.3f}[/]", "")
    return table


def _largest(parts: Iterable[float]) -> float:
    return max(map(abs, parts), default=0.0)


def _bar(part: float, largest: float) -> Text:
    length = round(_WIDTH * abs(part) / largest) if largest else 0
    return Text("█" * length, style="cyan" if part > 0 else "red")
