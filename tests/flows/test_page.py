"""The HTML page: self-contained, every figure shown, data never read as markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from features.splits import UNDATED
from flows import charts, page, words
from flows.report import DataSummary, Figure, Report, read

VOID = {"meta", "br", "use", "path", "rect", "link", "img"}


class Structure(HTMLParser):
    """Collects tags, checks that they nest, and gathers what the page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "xlink:href"} and value and not value.startswith("#"):
                self.fetched.append(value)
            if name == "id" and value:
                self.ids.add(value)
            if name == "href" and value and tag == "a":
                self.links.add(value.removeprefix("#"))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.handle_starttag(tag, attrs)
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def html(sample_report: Report) -> str:
    return page.render_page(sample_report)


def test_page_shows_how_the_tasks_relate(html: str) -> None:
    section = html[html.index('id="relatedness"') : html.index('id="data"')]
    assert section.count("<svg") == 2
    assert "purchase, coupon_response" in section
    assert "0.0015" in section
    assert "-0.0025" in section


def test_page_fetches_nothing_and_nests(html: str) -> None:
    structure = Structure()
    structure.feed(html)
    assert structure.open == []
    assert structure.fetched == []
    assert "<script" not in html
    assert "@import" not in html
    assert not re.findall(r"url\((?!#)", html)


def test_every_link_of_the_page_has_its_section(html: str) -> None:
    structure = Structure()
    structure.feed(html)
    assert structure.links
    assert structure.links <= structure.ids


def test_titles_are_escaped(html: str) -> None:
    assert "&lt;b&gt;BREAD&lt;/b&gt; &amp; rolls" in html
    assert "<b>BREAD</b>" not in html


def test_page_shows_value_and_interval_of_the_shipped_order(html: str) -> None:
    # blend on all items: .4203 +- .009
    assert "0.4203" in html
    assert "0.4113 to 0.4293" in html
    assert "+0.0145" in html  # its paired difference to the decayed frequency


def test_every_section_and_plot_is_there(html: str) -> None:
    sections = "ranking tasks texts blend groups examples time retrieval relatedness data stages next"
    for section in sections.split():
        assert f'<section id="{section}">' in html
    # Two item spaces, four tasks, confusions and reliability of texts, three metrics by age, exposure, training,
    # relatedness twice, stages.
    assert html.count('role="img"') == 2 + 4 + 2 + 3 + 1 + 1 + 2 + 1


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
    section = html[html.index('id="texts"') : html.index('id="blend"')]
    assert "multiclass, 800 texts of split test" in section
    assert "macro F1" in section
    assert "0.8900 to 0.9300" in section  # accuracy .91 +- .02
    assert "recall@1" in section
    # Few classes are drawn, with .9 of the 100 texts on billing's diagonal; of many the worst confusions are listed.
    assert section.count("<svg") == 2
    assert section.count("Most frequent confusions") == 1
    assert "&lt;b&gt;card&lt;/b&gt;" in section
    assert "<i>other</i>" not in section


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
