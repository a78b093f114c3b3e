"""The attributions as one HTML page without outside references, every text of it escaped."""

from __future__ import annotations

import warnings
from typing import Final

import numpy as np

from flows.attributions.report import AttributionReport, ExplainedText
from flows.heatmap import STRONGEST, heat_map
from flows.page_templates import page_templates
from infra.files import write_atomic
from retrieval.encoder.explain.attention import AttentionMap

# More names than this can't be read along the edges of a drawing as wide as a phone.
MAPPED_WORDS: Final = 20
# Characters of a name there; a link's hundred would leave the cells no room.
_NAME: Final = 14


def write_page(report: AttributionReport) -> None:
    """Write the page to `report.page`, as a whole or not at all.

    Raises:
        InvalidInputError: the encoder has no layer of the report's number.
    """
    page = render_attributions_page(report)
    report.page.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(report.page, page.encode())


def render_attributions_page(report: AttributionReport) -> str:
    """Return the page. Texts and names are data, never markup."""
    templates = page_templates(signed=format_value, visible=visible)
    texts = [
        {
            "row": row,
            "bars": _bars(row),
            "map": attention_drawing(row.attention, report.layer),
            "note": row.attention.note,
        }
        for row in report.texts
    ]
    return templates.get_template("attributions.html").render(
        report=report, texts=texts, colour=STRONGEST, mapped=MAPPED_WORDS
    )


def attention_drawing(found: AttentionMap, layer: int | None) -> str:
    """Return a layer's mean attention between words as SVG; of a long text, between those that get the most of it."""
    names, weights = found.of_words(layer)
    kept = np.sort(np.argsort(-weights.sum(0), kind="stable")[:MAPPED_WORDS])
    cells = weights[np.ix_(kept, kept)].tolist()
    with warnings.catch_warnings():
        # Matplotlib measures text in its own font, which lacks Chinese; the page draws it in the reader's.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        shown = [_shortened(visible(names[place])) for place in kept]
        return heat_map(shown, cells, title="Mean attention between words", rows="from", columns="to")


def format_value(value: float) -> str:
    """Return a value with its sign, a typographic minus, and no negative zero."""
    return f"{value:+z.3f}".replace("-", "−")


def visible(word: str) -> str:
    """Return a word that can be seen: a bare space shows as an open box."""
    return word if word.strip() else "␣"


def _shortened(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


def _bars(row: ExplainedText) -> list[tuple[str, float, float]]:
    """Return (word, value, share of the widest bar in percent) of the strongest words."""
    full = max((abs(word.value) for word in row.strongest), default=0.0) or 1.0
    return [(word.text, word.value, 100 * abs(word.value) / full) for word in row.strongest]
