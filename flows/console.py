"""What a person sees in the terminal of a report: its figures as tables."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.console_beside import render_beside
from flows.console_tables import figure_cell, simple_table
from flows.console_texts import text_tables
from flows.report import ExampleUser, RankingTable, Report, RetrievalTable
from flows.words import (
    format_bytes,
    format_day,
    format_figure,
    format_interval,
    format_seconds,
    format_signed,
    metric_name,
)

_VERDICTS = {"above": "[green]better[/]", "below": "[red]worse[/]", "level": "[dim]undecided[/]"}
_WORTH = {"above": "[green]helps[/]", "below": "[red]harms[/]", "level": "[dim]no gain[/]"}


def render_console(report: Report, console: Console | None = None) -> None:
    """Print the report's sections as tables; the same figures as the HTML page."""
    console = console or Console()
    console.rule(f"[bold]{escape(report.title)}")
    console.print(
        f"release [bold]{escape(report.release_id)}[/] of workspace [bold]{escape(report.workspace)}[/], "
        f"{f'as of {format_day(report.as_of)}' if report.is_dated else 'of data without times'}",
        highlight=False,
    )
    if report.note:
        console.print(f"[yellow]{escape(report.note)}[/]", highlight=False)
    render_beside(report.beside, console)
    for ranking in report.rankings:
        console.print(_ranking(ranking))
        if ranking.differences:
            console.print(_differences(ranking))
    for table in (
        *map(_retrieval, report.retrieval),
        _tasks(report),
        *text_tables(report),
        _ablation(report),
        _groups(report),
        _pseudo_labels(report),
        _index(report),
        _time_plan(report),
        _validation(report),
    ):
        if table.row_count:
            console.print(table)
    for user in report.examples:
        console.print(_example(user))
    if report.stages:
        console.print(_stages(report))
    if report.next_commands:
        console.print("\n[bold]Try next[/]")
        for row in report.next_commands:
            # No wrapping: a command is there to be copied.
            console.print(f"  [cyan]{escape(row.command)}[/]", soft_wrap=True, highlight=False)
            console.print(f"    [dim]{escape(row.purpose)}[/]", soft_wrap=True, highlight=False)


def _ranking(ranking: RankingTable) -> Table:
    numbers = (f"NDCG@{ranking.k}", f"Recall@{ranking.k}", "MRR", "coverage")
    table = simple_table(f"\nRanking, {escape(ranking.title)}", "scorer", *numbers, right=frozenset(numbers))
    for row in ranking.scorers:
        others = (format_figure(row.recall), format_figure(row.mrr), format_figure(row.coverage, 3))
        cells = (escape(row.scorer), figure_cell(row.ndcg), *others)
        table.add_row(*cells, style="bold green" if row.scorer == ranking.shipped else "")
    return table


def _differences(ranking: RankingTable) -> Table:
    """Return a table per shipped scorer and metric: those stand in its heading, so that 80 columns hold the rest."""
    first = ranking.differences[0]
    table = simple_table(
        "", f"{escape(first.scorer)} against", first.metric, "verdict", right=frozenset({first.metric})
    )
    for row in ranking.differences:
        value = f"{format_signed(row.difference)} [dim]{format_interval(row.difference)}[/]"
        table.add_row(escape(row.baseline), value, _VERDICTS[row.difference.verdict])
    return table


def _retrieval(found: RetrievalTable) -> Table:
    numbers = tuple(f"Recall@{k}" for k in found.ks)
    table = simple_table(f"\nRetrieval, {escape(found.title)}", "candidates of", *numbers, right=frozenset(numbers))
    for row in found.sources:
        cells = (escape(row.source), *(figure_cell(each) for each in row.recalls))
        table.add_row(*cells, style="bold green" if row.source == found.merged else "")
    return table


def _tasks(report: Report) -> Table:
    """Return the tasks' figures; the page has more columns (ECE, rows, intervals) than a terminal of 80 can show."""
    numbers = ("AUC", "log loss", "p / y", "positive")
    table = simple_table("\nTasks, held-out rows", "task", "scorer", *numbers, right=frozenset(numbers))
    for name in report.task_names:
        for position, row in enumerate(row for row in report.tasks if row.task == name):
            table.add_row(
                escape(name) if position == 0 else "",
                escape(row.scorer),
                figure_cell(row.auc, 3),
                format_figure(row.log_loss, 5),
                format_figure(row.calibration),
                f"{row.positives:,}",
            )
    table.caption = "p / y: mean prediction over mean label; 1 is calibrated in the large"
    table.caption_justify = "left"
    return table


def _ablation(report: Report) -> Table:
    numbers = ("alone", "without", "blend", "worth")
    tasks = ", ".join(dict.fromkeys(row.task for row in report.ablation))
    title = f"\nWhat each family is worth to {escape(tasks)}, log loss"
    table = simple_table(title, "family", *numbers, "verdict", right=frozenset(numbers))
    for row in report.ablation:
        figures = (format_figure(each, 5) for each in (row.alone, row.without, row.full))
        worth = f"{format_signed(row.worth, 5)} [dim]{format_interval(row.worth, 5)}[/]"
        table.add_row(escape(row.family), *figures, worth, _WORTH[row.worth.verdict] if row.worth else "")
    return table


def _groups(report: Report) -> Table:
    """Return the largest observed difference of each metric; the page shows every group."""
    numbers = ("lowest", "highest", "difference")
    table = simple_table("\nGroups, observed differences", "of", "metric", *numbers, right=frozenset({"difference"}))
    if report.audit is None:
        return table
    for row in report.audit.comparisons:
        values = {group.group: group.figure for group in row.groups}
        ends = (
            f"{escape(name)} {format_figure(values[name], 3)}" if name is not None else "–"
            for name in (row.lowest, row.highest)
        )
        of = f"{row.task or ('items' if row.on == 'item' else 'shipped order')}, {row.column}"
        table.add_row(escape(of), metric_name(row.metric, report.audit.k), *ends, figure_cell(row.gap, 3))
    table.caption = "intervals hold for all pairs of groups at once; a difference tells nothing of its cause"
    table.caption_justify = "left"
    return table


def _pseudo_labels(report: Report) -> Table:
    """Return what was taken for labels of texts that had none, and how often such was right where it could be told."""
    numbers = ("threshold", "taken", "right", "at least")
    table = simple_table("\nPseudo-labels", "task, class", "by", *numbers, right=frozenset(numbers))
    found = report.training.few_labels if report.training else None
    for own in found.pseudo if found else ():
        for row in own.found.classes:
            agreement = row.held_out
            right = f"{agreement.right} / {agreement.rows}" if agreement.rows else "–"
            cells = (f"{row.threshold:.2f}", f"{row.taken:,}", right, f"{agreement.at_least:.2f}")
            table.add_row(escape(f"{own.task}, {row.name}"), own.judge, *cells)
    table.caption = "right: of the held-out texts over the threshold; at least: lower end of that share's 95% interval"
    table.caption_justify = "left"
    return table


def _index(report: Report) -> Table:
    numbers = ("k", "recall", "ms a query")
    table = simple_table("\nIndex against exact search", "index", *numbers, right=frozenset(numbers))
    for row in report.index:
        table.add_row(escape(row.kind), str(row.k), figure_cell(row.recall), format_figure(row.query_ms, 2))
    return table


def _time_plan(report: Report) -> Table:
    table = simple_table("\nWhat was known when", "used for", "features before", "labels until")
    for row in report.time_plan:
        table.add_row(escape(row.role), format_day(row.cut), format_day(row.end))
    return table


def _validation(report: Report) -> Table:
    """Return the rules that found something; the page lists the others too."""
    table = simple_table("\nData at the door", "table", "column", "rule", "action", "rows", right=frozenset({"rows"}))
    for row in (row for row in report.validation if row.count):
        table.add_row(*(escape(cell) for cell in (row.table, row.column, row.rule, row.action)), f"{row.count:,}")
    table.caption = f"{len(report.validation) - table.row_count} other rules found nothing"
    table.caption_justify = "left"
    return table


def _example(user: ExampleUser) -> Table:
    heading = f"\nUser {escape(user.user_id)}" + (f" [not bold]{escape(user.summary)}[/]" if user.summary else "")
    if user.recent:
        heading += f"\n[not bold dim]lately: {escape(', '.join(user.recent))}[/]"
    table = simple_table(heading, "", "item", "score", "probabilities", "why", right=frozenset({"score"}))
    for position, pick in enumerate(user.recommendations, start=1):
        tasks = ", ".join(f"{name} {probability:.0%}" for name, probability in pick.tasks.items())
        why = "; ".join(part for part in (pick.reason, "+".join(pick.sources)) if part)
        bought = " [green]✓ bought[/]" if pick.hit else ""
        table.add_row(str(position), escape(pick.title) + bought, f"{pick.score:.3f}", escape(tasks), escape(why))
    return table


def _stages(report: Report) -> Table:
    table = simple_table("\nStages", "stage", "time", "peak memory", "", right=frozenset({"time", "peak memory"}))
    for row in report.stages:
        size, reused = format_bytes(row.peak_rss_bytes), "[dim]reused[/]" if row.reused else ""
        table.add_row(("  " if row.inside else "") + escape(row.name), format_seconds(row.seconds), size, reused)
    table.add_row("[bold]sum[/]", f"[bold]{format_seconds(report.total_seconds.total_seconds())}[/]", "", "")
    return table
