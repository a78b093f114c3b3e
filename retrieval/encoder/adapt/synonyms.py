"""Synonym replacement in texts of any script (as in EDA, Wei and Zou, 2019)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from retrieval.encoder.adapt.config import SynonymConfig
from retrieval.encoder.adapt.errors import AdaptError

# Scripts written without spaces, or (Hangul) with particles joined to words: a word has no edge there.
_UNSPACED: Final = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_SPACED_LETTER: Final = re.compile(rf"[^\W{_UNSPACED}]")


class Thesaurus:
    """Exchanges words for their synonyms.

    Args:
        words: synonyms by word; upper and lower case are alike, and the longest word that fits is taken.
        rate: probability that an occurrence is exchanged.
        variants: forms tried for each text.
    """

    def __init__(self, words: Mapping[str, Sequence[str]], *, rate: float, variants: int) -> None:
        self._words = {word.casefold(): tuple(synonyms) for word, synonyms in words.items()}
        self._rate, self._variants = rate, variants
        lengths: defaultdict[str, set[int]] = defaultdict(set)
        for word in words:
            lengths[word[:1].casefold()].add(len(word))
        self._lengths = {first: sorted(own, reverse=True) for first, own in lengths.items()}

    @classmethod
    def of(cls, config: SynonymConfig) -> Thesaurus:
        """Join declared words and those of the file, whose synonyms come first.

        Raises:
            AdaptError: no such file, or a line without a synonym.
        """
        words = read_synonyms(config.file) if config.file is not None else {}
        for word, synonyms in config.words.items():
            words[word] = (*words.get(word, ()), *synonyms)
        return cls(words, rate=config.rate, variants=config.variants)

    def forms(self, text: str, rng: np.random.Generator) -> list[str]:
        """Return distinct forms of a text with some words exchanged, at most `variants`; the text itself is none."""
        found = self.occurrences(text)
        forms = dict.fromkeys(self._exchange(text, found, rng) for _ in range(self._variants if found else 0))
        forms.pop(text, None)
        return list(forms)

    def occurrences(self, text: str) -> list[tuple[int, int]]:
        """Return where words stand, first character and the one after the last, from the left, none in another."""
        found, start = [], 0
        while start < len(text):
            end = next(
                (
                    start + length
                    for length in self._lengths.get(text[start].casefold(), ())
                    if text[start : start + length].casefold() in self._words
                    and _edge(text, start)
                    and _edge(text, start + length)
                ),
                None,
            )
            if end is not None:
                found.append((start, end))
            start = end or start + 1
        return found

    def _exchange(self, text: str, found: Sequence[tuple[int, int]], rng: np.random.Generator) -> str:
        parts, done = [], 0
        for start, end in found:
            synonyms = self._words[text[start:end].casefold()]
            choice = synonyms[int(rng.integers(len(synonyms)))]
            parts += [text[done:start], choice if rng.random() < self._rate else text[start:end]]
            done = end
        return "".join([*parts, text[done:]])


def read_synonyms(path: Path) -> dict[str, tuple[str, ...]]:
    """Read a UTF-8 file with a word and its synonyms on each line, separated by tabs; empty lines are skipped.

    Raises:
        AdaptError: no such file, or a line without a synonym.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AdaptError(f"augment.synonyms.file: expected a UTF-8 text file, found {path}: {error}") from error
    words: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, 1):
        cells = [cell.strip() for cell in line.split("\t")]
        if cells == [""]:
            continue
        if len(cells) < 2 or not all(cells):
            raise AdaptError(f"{path}, line {number}: expected a word, a tab and its synonyms, found {line!r}")
        words[cells[0]] = (*words.get(cells[0], ()), *cells[1:])
    return words


def _edge(text: str, at: int) -> bool:
    """Tell whether a word may begin or end before this character: not between two letters of a script with spaces."""
    inside = 0 < at < len(text)
    return not (inside and _SPACED_LETTER.match(text[at - 1]) and _SPACED_LETTER.match(text[at]))
