"""Prior from texts: tasks whose positive rows speak of the same things."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer

from retrieval.encoder.relatedness.matrix import Float64, Relatedness

# Words, and each Chinese character by itself: there are no spaces to part Chinese words at.
WORD = r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+"


@dataclass(frozen=True, eq=False)
class TextTopics:
    """Cosine of the tasks' mean TF-IDF vectors; inverse document frequencies are over the texts of all tasks.

    Attributes:
        texts: by task, the texts of its positive rows; a task without a word in them is unknown.
    """

    texts: Mapping[str, Sequence[str]]

    def relate(self, names: Sequence[str]) -> Relatedness:
        """Return the relatedness of these tasks."""
        worded = {name: [text for text in self.texts.get(name, ()) if re.search(WORD, text)] for name in names}
        known = [name for name in names if worded[name]]
        if not known:
            return Relatedness.among(names, (), np.empty((0, 0)))
        rows = TfidfVectorizer(token_pattern=WORD).fit_transform([text for name in known for text in worded[name]])
        ends = np.cumsum([len(worded[name]) for name in known])
        means = [rows[end - len(worded[name]) : end].mean(axis=0) for name, end in zip(known, ends, strict=True)]
        return Relatedness.among(names, known, _cosine(np.vstack(means)))


@dataclass(frozen=True, eq=False)
class VectorTopics:
    """Cosine of the tasks' mean vectors, such as the frozen encoder's; opposite directions count as unrelated.

    Attributes:
        vectors: by task, float `[n, dim]`, a unit vector for each positive row; a task without rows is unknown.
    """

    vectors: Mapping[str, npt.NDArray[np.floating]]

    def relate(self, names: Sequence[str]) -> Relatedness:
        """Return the relatedness of these tasks."""
        means = {name: self.vectors[name].mean(axis=0) for name in names if len(self.vectors.get(name, ()))}
        if not means:
            return Relatedness.among(names, (), np.empty((0, 0)))
        return Relatedness.among(names, tuple(means), _cosine(np.vstack(list(means.values()))))


def _cosine(rows: npt.ArrayLike) -> Float64:
    """Return the cosines of `[K, dim]`, `[K, K]` in [0, 1]; NaN for a row without length."""
    values = np.asarray(rows, np.float64)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    unit = np.divide(values, lengths, out=np.full_like(values, np.nan), where=lengths > 0)
    cosine: Float64 = unit @ unit.T
    # The two halves of a matrix product may differ in their last bit.
    return np.asarray(np.clip((cosine + cosine.T) / 2, 0.0, 1.0))
