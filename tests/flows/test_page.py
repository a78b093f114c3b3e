"""The HTML page: self-contained, every figure shown, data never read as markup."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from features.splits import UNDATED
from flows import charts, page, words
from flows.report import Confusion, Curve, DataSummary, Figure, Report, StageRecord, TrainingRun, ValidationRow, read
from tests.flows.page_reader import PageReader, assert_fit_to_be_mailed


@pytest.fixture(scope="module")
def html(sample_report: Report) -> str:
    return page.render_page(sample_report)


def test_page_shows_how_the_tasks_relate(html: str) -> None:
    section = html[html.index('id="relatedness"') : html.index('id="data"')]
    assert section.count("<svg") == 2
    assert "purchase, coupon_response" in section
    assert "0.0015" in section
    assert "−0.0025" in section


def test_page_is_whole_and_fetches_nothing(html: str) -> None:
    assert_fit_to_be_mailed(html)
    assert "@import" not in html
    assert not re.findall(r"url\((?!#)", html)


def test_every_link_of_the_page_has_its_section(html: str) -> None:
    page = PageReader(html)
    links = {str(link["href"]).removeprefix("#") for link in page.of("a")}
    assert links
    assert links <= {attributes["id"] for _, attributes in page.tags if "id" in attributes}


def test_titles_are_escaped(html: str) -> None:
    assert "&lt;b&gt;BREAD&lt;/b&gt; &amp; rolls" in html
    assert "<b>BREAD</b>" not in html


def test_page_shows_value_and_interval_of_the_shipped_order(html: str) -> None:
    # blend on all items: .4203 +- .009
    assert "0.4203" in html
    assert "0.4113 to 0.4293" in html
    assert "+0.0145" in html  # its paired difference to the decayed frequency


def test_page_shows_the_current_release_beside_this_one(html: str) -> None:
    section = html[html.index('id="beside"') : html.index('id="ranking"')]
    assert "of 20171106T000000Z-77aa01?" in section
    assert "NDCG@10, new to the user" in section
    # Better, worse and undecided: NDCG, log loss (which rose) and recall.
    for metric, verdict in (("NDCG@10<", "better"), ("purchase, log loss<", "worse"), ("Recall@10<", "undecided")):
        row = section[section.index(f">{metric}") :]
        assert row.index(f">{verdict}<") < row.index("</tr>")
    assert "120 items may be recommended by this release alone" in section


def test_page_says_why_nothing_was_compared(sample_report: Report) -> None:
    assert sample_report.beside is not None
    void = sample_report.beside.model_copy(update={"void": "it has seen <later> data", "rows": ()})
    html = page.render_page(sample_report.model_copy(update={"beside": void}))
    assert "Not compared: it has seen &lt;later&gt; data." in html


def test_every_section_and_plot_is_there(html: str) -> None:
    sections = (
        "beside ranking candidates tasks texts replies blend groups examples time retrieval relatedness data stages "
        "next"
    )
    for section in sections.split():
        assert f'<section id="{section}">' in html
    # Two item spaces, four tasks, confusions and reliability of texts, three metrics by age, exposure, training,
    # relatedness twice, stages.
    assert html.count('role="img"') == 2 + 4 + 2 + 3 + 1 + 1 + 2 + 1


def test_recall_of_every_source_is_shown_the_best_in_bold(html: str) -> None:
    section = html[html.index('id="candidates"') : html.index('id="tasks"')]
    for table, best in ((1, "0.4520"), (2, "0.1670")):
        rows = section.split("<table>")[table]
        assert '<th class="num">Recall@500</th>' in rows
        assert f'<td class="num best">{best}<small>' in rows
    assert section.count('<tr class="shipped"><th scope="row">merged</th>') == 2


def test_groups_are_shown_small_ones_marked_and_nothing_said_of_causes(html: str) -> None:
    section = html[html.index('id="groups"') : html.index('id="examples"')]
    assert "churn, by age" in section
    assert "shipped order, by age" in section
    assert section.count('<span class="tag">small</span>') == 2
    assert "0.0500 to 0.1100" in section  # .08 +- .03, the gap of churn's AUC
    assert "0.0800 to 0.1200" in section  # .1 +- .02, that of exposure
    assert "not why" in section
    # A hollow dot for each small group or users without a value, where the metric is defined.
    assert section.count("fill-opacity: 0; stroke: var(--series-0)") == 1 + 2 + 2


def test_tasks_on_texts_are_shown_by_kind(html: str) -> None:
    section = html[html.index('id="texts"') : html.index('id="replies"')]
    assert "multiclass, 800 texts of split test" in section
    assert "macro F1" in section
    assert "0.8900 to 0.9300" in section  # accuracy .91 +- .02
    assert "recall@1" in section
    # Few classes are drawn, with .9 of the 100 texts on billing's diagonal; the worst confusions are always listed.
    assert section.count("<svg") == 2
    assert section.count("Most frequent confusions") == 2
    assert "&lt;b&gt;card&lt;/b&gt;" in section
    assert "<i>other</i>" not in section


def test_replies_are_shown_with_what_other_thresholds_would_give(html: str) -> None:
    section = html[html.index('id="replies"') : html.index('id="blend"')]
    assert "800 texts of split test" in section
    # Templates: 440 of 800 texts, of which 420 were judged, .9 +- .04 of them right.
    assert "0.550<small>0.520 to 0.580</small>" in section
    assert '<td class="num">420</td><td class="num">0.900<small>0.860 to 0.940</small></td>' in section
    # Nothing is said of hand-overs where no label tells, but for those missed.
    assert "0.250<small>0.220 to 0.280</small></td>" + 3 * '<td class="num">–</td>' in section
    assert "asks for a template or an answer: 57" in section
    # Both thresholds, the release's own marked once each.
    assert re.findall(r'<tr class="shipped"><th scope="row">([\d.]+) <span', section) == ["0.8", "0.45"]
    assert "Templates by the threshold of intent" in section
    assert "Passages by the threshold of similarity" in section
    assert "looks a little better here than it will be on new ones" in section


def test_more_classes_than_have_room_for_names_are_numbered(sample_report: Report) -> None:
    names = tuple(f"class with a very long name {letter}" for letter in "abcdefghi")
    counts = tuple(tuple(int(row == column) for column in range(9)) for row in range(9))
    scores = sample_report.texts[0].model_copy(update={"confusion": Confusion(classes=names, counts=counts)})
    html = page.render_page(sample_report.model_copy(update={"texts": (scores,)}))
    section = html[html.index('id="texts"') : html.index('id="blend"')]
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", section)
    # 24 characters of a name, the last of them an ellipsis, and its number; each number once more below.
    assert f"{names[0][:23]}…  1" in texts
    assert [number for number in "123456789" if number in texts] == list("123456789")
    assert "columns in the order of the rows" in section


def test_a_report_without_times_and_users_speaks_of_neither(sample_report: Report) -> None:
    summary = DataSummary(texts=1200)
    html = page.render_page(
        Report(
            title="Texts", workspace="w", release_id="r", as_of=UNDATED, created_at=sample_report.created_at,
            data=summary, texts=sample_report.texts,
        )
    )  # fmt: skip
    head = html[html.index("<header>") : html.index("</header>")]
    assert "built from data without times. 1,200 texts to train on." in re.sub(r"\s+", " ", head)
    assert "1970" not in html
    assert re.findall(r'<section id="(\w+)"', html) == ["texts"]


def test_colours_follow_the_page(html: str) -> None:
    drawings = html[html.index("<svg") :]
    for stand_in in charts.VARIABLES:
        assert stand_in not in drawings
    declared = set(re.findall(r"(--[a-z0-9-]+):", html))
    assert set(re.findall(r"var\((--[a-z0-9-]+)\)", html)) <= declared


def test_empty_sections_are_left_out(sample_report: Report) -> None:
    bare = Report(
        title="Bare",
        workspace="w",
        release_id="r",
        as_of=sample_report.as_of,
        created_at=sample_report.created_at,
    )
    html = page.render_page(bare)
    assert "<section" not in html
    assert "<svg" not in html


def test_rules_that_no_row_broke_are_folded_away(sample_report: Report) -> None:
    kept = ValidationRow(table="users", column="user_id", rule="null_key", action="error", count=0)
    html = page.render_page(sample_report.model_copy(update={"validation": (*sample_report.validation, kept)}))
    shown, folded = html[html.index('id="data"') : html.index('id="stages"')].split("<details>")
    assert "12,043" in shown
    assert "null_<wbr>key" not in shown
    assert "1 rule that no row broke" in folded
    assert "null_<wbr>key" in folded
    html = page.render_page(sample_report.model_copy(update={"validation": (kept,)}))
    assert "No row broke a rule" in html
    assert "<details>" not in page.render_page(sample_report)


def _drawn(drawing: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", drawing)


def test_names_of_many_curves_stand_below_them_and_differ_in_dashes() -> None:
    # Six colours: the seventh curve has the first one's, dashed.
    curves = tuple(Curve(name=f"task {n}", steps=(0, 1), losses=(1.0, 0.5)) for n in range(7))
    few = charts.training_curves(TrainingRun(curves=curves[:4]))
    many = charts.training_curves(TrainingRun(curves=curves))
    heights = [float(re.findall(r'viewBox="0 0 \S+ (\S+)"', drawing)[0]) for drawing in (few, many)]
    # Seven names and perhaps that of the kept step, in three columns: three lines of .22 inches.
    assert heights[1] - heights[0] == pytest.approx(3 * 0.22 * 72)
    down = {name: float(y) for y, name in re.findall(r'<text[^>]* y="([\d.]+)"[^>]*>([^<]*)</text>', many)}
    assert min(down[curve.name] for curve in curves) > down["step"]
    first = [style for style in re.findall(r'style="([^"]*)"', many) if "stroke: var(--series-0)" in style]
    assert {"stroke-dasharray" in style for style in first if "fill: none" in style} == {False, True}


def test_long_names_beside_bars_take_lines() -> None:
    stages = [
        StageRecord(name="step: the_vectors_of_all_items 2017-12-04", seconds=1),
        StageRecord(name="b", seconds=2),
    ]
    texts = _drawn(charts.stage_bars(stages))
    # 30 characters at most: "step: the_vectors_of_all_items" has just as many.
    assert {"step: the_vectors_of_all_items", "2017-12-04", "b"} <= set(texts)
    assert charts.wrapped("repurchase_within_the_next_28_days") == "repurchase_within_the_next_28_\ndays"
    assert charts.rows_height(["a", "b"]) == pytest.approx(2 * 0.34)
    assert charts.rows_height(["a", "b\nc"]) == pytest.approx(2 * 0.48)


def test_write_and_read_keep_every_figure(sample_report: Report, tmp_path: Path) -> None:
    paths = page.write(sample_report, tmp_path / "new" / "folder")
    assert read(paths.json) == sample_report
    assert paths.html.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_same_report_gives_the_same_page(sample_report: Report, html: str) -> None:
    assert page.render_page(sample_report) == html


def test_title_of_a_scorer_is_escaped_in_the_drawing(sample_report: Report) -> None:
    table = sample_report.rankings[0]
    row = table.scorers[0].model_copy(update={"scorer": "<script>alert(1)</script> & co"})
    odd = table.model_copy(update={"scorers": (row, *table.scorers[1:]), "title": 'a "quoted" <title>'})
    html = page.render_page(sample_report.model_copy(update={"rankings": (odd,)}))
    assert "<script" not in html
    assert "<title>" not in html.split("</head>")[1]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.4 s"), (9.96, "10 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert words.format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(None, "–"), (12_300, "12 kB"), (512_000_000, "512 MB"), (2_340_000_000, "2.3 GB")]
)
def test_sizes(count: int | None, text: str) -> None:
    assert words.format_bytes(count) == text


def test_undefined_figures_show_a_dash() -> None:
    assert words.format_figure(None) == "–"
    assert words.format_interval(None) == ""
    assert words.format_interval(Figure(value=0.2, n=3)) == ""
    assert words.format_signed(Figure(value=-0.01, n=3), 2) == "−0.01"
    assert page.best_value([None, None]) is None
    assert page.best_value([Figure(value=2, n=1), None, Figure(value=1, n=1)], lowest=True) == 1
