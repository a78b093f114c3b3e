"""Other forms of training texts, as rows of the token table like any other text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from retrieval.encoder.adapt.back_translation import paraphrases
from retrieval.encoder.adapt.config import AugmentConfig
from retrieval.encoder.adapt.synonyms import Thesaurus
from retrieval.encoder.adapt.token_dropout import drop_tokens
from retrieval.encoder.config import Kind
from retrieval.encoder.tokens import Int64, TokenTable, ragged_positions


@dataclass(frozen=True, kw_only=True, eq=False)
class Alternatives:
    """Token table positions of each text's other forms, ragged.

    Attributes:
        starts: int64 `[n_texts + 1]`; text t's stand in `spots[starts[t]:starts[t + 1]]`.
        spots: int64.
    """

    starts: Int64
    spots: Int64

    @classmethod
    def pair(cls, texts: Int64, forms: Int64, size: int) -> Alternatives:
        """Build them from pairs of positions, int64 `[m]` each; a form that equals its text is left out."""
        keep = texts != forms
        order = np.argsort(texts[keep], kind="stable")
        ordered = texts[keep][order]
        return cls(starts=np.searchsorted(ordered, np.arange(size + 1)).astype(np.int64), spots=forms[keep][order])

    def of(self, texts: Int64) -> Int64:
        """Return every other form of texts, int64."""
        return self.spots[ragged_positions(self.starts[texts], np.diff(self.starts)[texts])]

    def draw(self, texts: Int64, share: float, rng: np.random.Generator) -> Int64:
        """Return for each text, with probability `share`, one of its other forms; else, or without any, itself."""
        counts = np.diff(self.starts)[texts]
        pick = self.starts[texts] + np.minimum((rng.random(len(texts)) * counts).astype(np.int64), counts - 1)
        swap = (rng.random(len(texts)) < share) & (counts > 0)
        forms = texts.copy()
        forms[swap] = self.spots[pick[swap]]
        return forms


@dataclass(frozen=True, kw_only=True, eq=False)
class Written:
    """Other forms as texts, before they are tokenised.

    Attributes:
        texts: by kind.
        rows: by kind int64, which of the kind's texts each is a form of.
    """

    texts: Mapping[Kind, list[str]]
    rows: Mapping[Kind, Int64]


def write_forms(texts: Mapping[Kind, Sequence[str]], config: AugmentConfig, rng: np.random.Generator) -> Written:
    """Return the forms that synonyms and back-translation give each distinct text.

    Args:
        texts: training texts by kind.
        config: which.
        rng: of the synonyms.

    Raises:
        AdaptError: no such file of synonyms or function, or it returns another number of texts.
    """
    found: dict[Kind, list[str]] = {kind: [] for kind in texts}
    rows: dict[Kind, list[int]] = {kind: [] for kind in texts}
    thesaurus = Thesaurus.of(config.synonyms) if config.synonyms is not None else None
    every = sorted({text for own in texts.values() for text in own})
    translated = {}
    if config.back_translation is not None:
        translated = dict(zip(every, paraphrases(config.back_translation, every), strict=True))
    for kind, own in texts.items():
        first = {text: row for row, text in reversed(list(enumerate(own)))}
        for text in sorted(first):
            forms = thesaurus.forms(text, rng) if thesaurus is not None else []
            forms += [translated[text]] if text in translated else []
            found[kind] += forms
            rows[kind] += [first[text]] * len(forms)
    return Written(texts=found, rows={kind: np.array(own, np.int64) for kind, own in rows.items()})


def place_forms(
    table: TokenTable,
    texts: Mapping[Kind, Int64],
    written: tuple[Written, Mapping[Kind, Int64]],
    tokenizer: PreTrainedTokenizerBase,
    config: AugmentConfig,
    rng: np.random.Generator,
) -> tuple[TokenTable, Alternatives]:
    """Join written forms and token dropout's into one, the latter as new rows of the table.

    Args:
        table: holds the texts and the written forms.
        texts: by kind, positions of the training texts.
        written: forms and, by kind, their positions.
        tokenizer: says which tokens are special.
        config: token dropout's.
        rng: of token dropout.

    Raises:
        AdaptError: tokens shall be replaced, and the tokenizer has no token to replace them by.
    """
    forms, positions = written
    owners = [texts[kind][forms.rows[kind]] for kind in texts]
    spots = [positions[kind] for kind in texts]
    if config.tokens is not None:
        every = np.unique(np.concatenate(list(texts.values())))
        table, own, dropped = drop_tokens(table, every, tokenizer, config.tokens, rng)
        owners.append(own)
        spots.append(dropped)
    return table, Alternatives.pair(np.concatenate(owners), np.concatenate(spots), len(table.lengths))
