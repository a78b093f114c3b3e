"""What explaining some texts gave, and the pieces that the page and the terminal colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from retrieval.encoder.explain.attention import AttentionMap
from retrieval.encoder.explain.attributions import Attribution, WordShare
from retrieval.encoder.layout import TaskKind, TaskOn

STRONGEST_WORDS: Final = 12
# Above this share of the explained difference, the page and the terminal ask for more steps.
LARGE_DELTA: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch of a text.

    Attributes:
        text: its characters.
        value: what it adds to the logit; None between words and behind the last character read.
        strength: -1 to 1: the value over the text's largest absolute one.
        is_read: whether the encoder read it; it cuts long texts off.
    """

    text: str
    value: float | None = None
    strength: float = 0.0
    is_read: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class ExplainedText:
    """One text's shares in a logit.

    Attributes:
        name: of the text: "user 1228", say.
        given: names of the row's other texts, held fixed.
        attribution: the shares.
        attention: its attention weights, a diagnostic.
    """

    name: str
    given: tuple[str, ...]
    attribution: Attribution
    attention: AttentionMap

    @property
    def asked(self) -> str:
        """What of the head is explained, behind the text's name: a class, or a unit's tag; empty of other heads."""
        label, unit = self.attribution.label, self.attribution.unit
        if unit is not None:
            return f", unit {unit.number} ({self.attribution.text[unit.start : unit.end]}), tag {label}"
        return "" if label is None else f", class {label}"

    @property
    def difference(self) -> float:
        """The logit less the masked text's: what the words' values sum to but for the delta."""
        return self.attribution.logit - self.attribution.baseline_logit

    @property
    def has_large_delta(self) -> bool:
        """Whether the steps leave more of the difference unexplained than a reader should pass over."""
        return abs(self.attribution.delta) > LARGE_DELTA * abs(self.difference)

    @property
    def strongest(self) -> tuple[WordShare, ...]:
        """The words that add or take most, the strongest first; of equal ones the first in the text."""
        order = sorted(self.attribution.words, key=lambda word: -abs(word.value))
        return tuple(order[:STRONGEST_WORDS])

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The whole text in stretches, in order."""
        return segments_of(self.attribution)


@dataclass(frozen=True, kw_only=True, eq=False)
class AttributionReport:
    """What `flows.attributions.attribute.attribute_texts` found.

    Attributes:
        workspace: its name.
        release_id: whose encoder.
        task: whose head.
        kind: what it predicts.
        on: what a row of it is.
        steps: of the integral.
        layer: of the attention maps, from 1; None for the highest.
        texts: each explained; of a pair both, one after the other.
        page: where the HTML page is.
    """

    workspace: str
    release_id: str
    task: str
    kind: TaskKind
    on: TaskOn
    steps: int
    layer: int | None
    texts: tuple[ExplainedText, ...]
    page: Path

    def words_of(self, logit: float) -> str:
        """Return a logit as a reader takes it: a regression's number, a binary task's with its probability.

        The minus is the typographic one, and no zero is negative.
        """
        number = f"{logit:z.4g}" if self.kind == "regression" else f"{logit:z.3f}"
        share = f" (probability {1 / (1 + math.exp(-logit)):.3f})" if self.kind == "binary" else ""
        return number.replace("-", "−") + share


def segments_of(attribution: Attribution) -> tuple[Segment, ...]:
    """Return a text in stretches: words with their values, what stands between them, and what was cut off."""
    text, end, found = attribution.text, 0, list[Segment]()
    full = max((abs(word.value) for word in attribution.words), default=0.0) or 1.0
    for share in attribution.words:
        start = max(share.word.start, end)
        found += _plain(text[end:start])
        found.append(Segment(text=text[start : share.word.end], value=share.value, strength=share.value / full))
        end = max(end, share.word.end)
    read = max(end, attribution.read)
    return (*found, *_plain(text[end:read]), *_plain(text[read:], is_read=False))


def _plain(text: str, *, is_read: bool = True) -> Sequence[Segment]:
    return [Segment(text=text, is_read=is_read)] if text else []
