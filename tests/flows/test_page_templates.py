"""What all pages share: one style sheet, colours that can be read, and names that fit."""

from __future__ import annotations

import re
from collections import Counter
from itertools import product
from pathlib import Path

import pytest

import flows
from flows.page_templates import breakable, sentence

TEMPLATES = Path(flows.__file__).parent / "templates"
STYLES = (TEMPLATES / "page.css").read_text(encoding="utf-8")


def _rules(text: str) -> list[str]:
    """Selectors of a style sheet with what they set, without those inside media queries."""
    without = re.sub(r"@media[^{]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}|/\*.*?\*/", "", text, flags=re.DOTALL)
    return [" ".join(rule.split()) for rule in re.findall(r"[^{}]+\{[^{}]*\}", without)]


def test_no_rule_stands_in_two_templates() -> None:
    blocks = [
        re.sub(r"\{%.*?%\}", "", block)
        for path in sorted(TEMPLATES.glob("*.html"))
        for block in re.findall(r"block style %\}(.*?)\{% endblock", path.read_text(encoding="utf-8"), re.DOTALL)
    ]
    rules = Counter(rule for text in (STYLES, *blocks) for rule in _rules(text))
    assert len(rules) > 50
    assert [rule for rule, count in rules.items() if count > 1] == []


def test_every_page_is_in_the_one_frame() -> None:
    pages = {path.name: path.read_text(encoding="utf-8") for path in TEMPLATES.glob("*.html")}
    assert [name for name, text in pages.items() if "<html" in text or "<style" in text] == ["page.html"]


def _colours() -> tuple[dict[str, str], dict[str, str]]:
    """The style sheet's colours by variable, on light pages and on dark ones."""
    light, dark = STYLES.split("prefers-color-scheme: dark")
    return tuple(dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})\b", text)) for text in (light, dark))  # type: ignore[return-value]


def _contrast(one: str, other: str) -> float:
    """The contrast of two colours, 1 to 21 (WCAG 2.2)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_by_hand() -> None:
    assert _contrast("#000000", "#ffffff") == pytest.approx(21)  # 1.05 / .05
    # .0722 * ((1 + .055) / 1.055) ** 2.4 = .0722; (1 + .05) / (.0722 + .05) = 8.592.
    assert _contrast("#0000ff", "#ffffff") == pytest.approx(8.592, abs=1e-3)


@pytest.mark.parametrize("colours", _colours(), ids=["light", "dark"])
def test_texts_and_drawings_stand_out(colours: dict[str, str]) -> None:
    texts = [*product(("ink", "muted", "accent"), ("page", "card", "accent-soft"))]
    texts += [("good", "card"), ("bad", "card"), ("warn", "warn-soft")]
    drawings = [(name, "card") for name in colours if name.startswith("series")] + [("quiet", "card")]
    # WCAG 2.2, AA: 4.5 of texts, 3 of what a drawing says.
    weak = [pair for pair in texts if _contrast(*(colours[name] for name in pair)) < 4.5]
    weak += [pair for pair in drawings if _contrast(*(colours[name] for name in pair)) < 3]
    assert len(drawings) == 7
    assert weak == []


def test_long_names_break_between_their_words_and_stay_data() -> None:
    assert breakable("churn_in_28.days") == "churn_<wbr>in_<wbr>28.<wbr>days"
    assert breakable("<b>_x & y_") == "&lt;b&gt;_<wbr>x &amp; y_"


def test_a_sentence_keeps_its_abbreviations() -> None:
    assert [sentence(words) for words in ("error, 1 − AUC", "", "A")] == ["Error, 1 − AUC", "", "A"]
