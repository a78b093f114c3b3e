"""Reads a page as a browser would take it apart, for the tests of pages."""

from __future__ import annotations

from html.parser import HTMLParser
from itertools import pairwise
from typing import Final

Attributes = dict[str, str | None]

# Elements without an end tag, and SVG's that matplotlib closes at once.
VOID: Final = frozenset({"meta", "br", "wbr", "use", "path", "rect", "link", "img"})


class PageReader(HTMLParser):
    """Collects a page's tags and text, and what it would fetch.

    Attributes:
        open: tags that no end tag has closed, from the outermost.
        tags: all, with their attributes.
        shown: the text, styles and title included.
        fetched: addresses outside the page; what is written into it as `data:` is inside.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, Attributes]] = []
        self.shown = ""
        self.fetched: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.tags.append((tag, dict(attrs)))
        addresses = [value for name, value in attrs if name in {"src", "href", "xlink:href"} and value]
        self.fetched += [value for value in addresses if not value.startswith(("#", "data:"))]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.shown += data

    def of(self, tag: str) -> list[Attributes]:
        """The attributes of each of these tags, in order."""
        return [attributes for name, attributes in self.tags if name == tag]


def assert_fit_to_be_mailed(html: str) -> None:
    """A page fetches nothing, nests, names its language and itself, describes its images, and skips no heading."""
    page = PageReader(html)
    assert page.open == []
    assert page.fetched == []
    assert page.of("script") == []
    assert page.of("html") == [{"lang": "en"}]
    assert html[html.index("<title>") + len("<title>") : html.index("</title>")].strip()
    assert "icon" in [link["rel"] for link in page.of("link")]
    assert [image for image in page.of("svg") if image.get("role") != "img" or not image.get("aria-label")] == []
    assert [image for image in page.of("img") if not image.get("alt")] == []
    levels = [int(tag[1]) for tag, _ in page.tags if tag in {"h1", "h2", "h3", "h4", "h5", "h6"}]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(lower - upper <= 1 for upper, lower in pairwise(levels))
