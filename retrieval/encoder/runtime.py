"""The trained text encoder without torch.

Use:
    encoder = TextEncoder.load(release / "encoder")
    items = encoder.encode(item_texts, "item")            # float32 [n, dim], unit length
    read = encoder.read(texts, ["slots"])                 # vectors of free texts, and their words' tags, in one pass
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from features.units import Unit
from retrieval.encoder.config import Kind
from retrieval.encoder.head_runtime import Heads
from retrieval.encoder.layout import HEADS, TOKENIZER, Description, EncoderFilesError
from retrieval.encoder.ship.layout import RuntimeChoice
from retrieval.encoder.ship.session import Session, open_session
from retrieval.encoder.units import TextTags, TextUnits

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]

# Padded tokens a run. Measured on one AVX2 core: 164-174 item texts/s up to 1,024, 149 from 2,048 on.
CHUNK_TOKENS = 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadTexts:
    """What one pass of the encoder gives of n free texts.

    Attributes:
        vectors: float32 `[n, dim]`, rows of length 1.
        tags: by task the tags of each text's units, `[n]`; equal texts share theirs.
    """

    vectors: Float32
    tags: Mapping[str, Sequence[TextTags]] = field(default_factory=dict)


class TextEncoder:
    """Texts to unit vectors, and the tags of their units; calls from several threads may run at the same time."""

    def __init__(
        self,
        session: Session,
        tokenizers: Mapping[str, Tokenizer],
        projections: Mapping[str, Float32],
        heads: Heads,
        description: Description,
    ) -> None:
        self._session = session
        self._tokenizers = dict(tokenizers)
        self._projections = dict(projections)
        self._heads = heads
        self.description = description

    @classmethod
    def load(cls, folder: Path, *, threads: int | None = None, choice: RuntimeChoice | None = None) -> Self:
        """Load an exported encoder.

        Args:
            folder: written by `retrieval.encoder.export.export`, and perhaps by `retrieval.encoder.ship.write`.
            threads: of the runtime; None takes all cores.
            choice: the runtime; None takes the folder's own choice, ONNX Runtime in float32 where it made none.

        Raises:
            EncoderFilesError: a file is missing or of another format, or the runtime isn't installed.
        """
        description = Description.read(folder)
        session = open_session(folder, choice or RuntimeChoice.read(folder), threads=threads)
        for name in (TOKENIZER, HEADS):
            if not (folder / name).is_file():
                raise EncoderFilesError(f"{folder}: expected {name}, found no such file")
        tokenizers = {}
        for kind, limit in description.max_tokens.items():
            tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
            tokenizer.no_padding()
            tokenizer.enable_truncation(limit)
            tokenizers[kind] = tokenizer
        arrays = load_file(folder / HEADS)
        projections = {kind: arrays[f"projection/{side}"] for kind, side in description.sides.items()}
        return cls(session, tokenizers, projections, Heads.of(description, arrays), description)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.description.dim

    def encode(self, texts: Sequence[str], kind: Kind, *, progress: Progress | None = None) -> Float32:
        """Embed texts: each distinct text once, in batches of similar length.

        Args:
            texts: any, also empty ones.
            kind: `user`, `item` or `text` (a free query for items).
            progress: called with (distinct texts done, distinct texts) after each batch.

        Returns:
            float32 `[len(texts), dim]`, rows of length 1.
        """
        distinct, index = _distinct(texts)
        encoded = self._tokenizers[kind].encode_batch_fast(self._prefixed(distinct, kind))
        pooled, done = np.empty((len(distinct), self.dim), np.float32), 0
        for rows, ids, mask in self._batches([entry.ids for entry in encoded]):
            pooled[rows] = self._session.run(ids, mask)
            done += len(rows)
            if progress is not None:
                progress(done, len(distinct))
        return self._project(pooled, kind)[index]

    def read(self, texts: Sequence[str], tasks: Sequence[str]) -> ReadTexts:
        """Embed free texts and tag their units, each distinct text once, all from one pass.

        Args:
            texts: any, also empty ones.
            tasks: of tags; without any it is `encode`, whose tokenising is faster.

        Raises:
            InvalidInputError: no such task, or none of tags.
        """
        if not tasks:
            return ReadTexts(vectors=self.encode(texts, "text"))
        distinct, index = _distinct(texts)
        # Without `_fast`: that one keeps no offsets.
        encoded = self._tokenizers["text"].encode_batch(self._prefixed(distinct, "text"))
        entries = {task: self._heads.tag_entry(task) for task in tasks}
        prefix = len(self.description.prefixes.get("text", ""))
        units: dict[Unit, list[TextUnits]] = {
            unit: [
                TextUnits.of(text, unit, entry.offsets, prefix=prefix)
                for text, entry in zip(distinct, encoded, strict=True)
            ]
            for unit in {entry.unit for entry in entries.values()}
        }
        pooled = np.empty((len(distinct), self.dim), np.float32)
        tagged: dict[str, dict[int, TextTags]] = {task: {} for task in tasks}
        for rows, ids, mask in self._batches([entry.ids for entry in encoded]):
            pooled[rows], states = self._session.run_tokens(ids, mask)
            for task, entry in entries.items():
                found = self._tag(task, [units[entry.unit][row] for row in rows], states)
                tagged[task] |= zip(rows.tolist(), found, strict=True)
        return ReadTexts(
            vectors=self._project(pooled, "text")[index],
            tags={task: [own[row] for row in index.tolist()] for task, own in tagged.items()},
        )

    def _prefixed(self, texts: Sequence[str], kind: Kind) -> list[str]:
        prefix = self.description.prefixes.get(kind, "")
        return [prefix + text for text in texts]

    def _batches(self, encoded: Sequence[list[int]]) -> Iterator[tuple[Int64, Int64, Int64]]:
        """Yield rows of similar length, and their right-padded ids and mask, int64 `[rows, longest]`."""
        pad = self.description.pad_id
        # An empty text of a tokenizer without special tokens becomes one padding token.
        ids = [own or [pad] for own in encoded]
        lengths = np.fromiter((len(row) for row in ids), np.int64, len(ids))
        order, start = np.argsort(-lengths, kind="stable"), 0
        while start < len(order):
            rows = order[start : start + max(1, CHUNK_TOKENS // int(lengths[order[start]]))]
            mask = np.arange(lengths[rows].max())[None, :] < lengths[rows, None]
            padded = np.full(mask.shape, pad, np.int64)
            padded[mask] = np.concatenate([np.asarray(ids[row], np.int64) for row in rows])
            yield rows, padded, mask.astype(np.int64)
            start += len(rows)

    def _tag(self, task: str, units: Sequence[TextUnits], states: Float32) -> list[TextTags]:
        """Return a task's tags of a batch of texts, given their token states float32 `[texts, length, dim]`."""
        spots = [states[row, own.token[own.carries]] for row, own in enumerate(units)]
        found = self._heads.tag_probabilities(task, np.concatenate(spots))
        ends = np.cumsum([len(spot) for spot in spots])
        tags = []
        for own, part in zip(units, np.split(found, ends[:-1]), strict=True):
            probabilities = np.full((len(own.token), found.shape[1]), np.nan, np.float32)
            probabilities[own.carries] = part
            tags.append(TextTags(units=own, probabilities=probabilities))
        return tags

    def _project(self, pooled: Float32, kind: Kind) -> Float32:
        """Return `normalise(x + P x)` of the normalised pooled states x, float32 `[n, dim]`."""
        unit = _normalise(pooled)
        return _normalise(unit + unit @ self._projections[kind].T)


def _distinct(texts: Sequence[str]) -> tuple[list[str], Int64]:
    """Return each text once, in order, and of every text its place among them, int64 `[n]`."""
    places: dict[str, int] = {}
    index = np.fromiter((places.setdefault(text, len(places)) for text in texts), np.int64, len(texts))
    return list(places), index


def _normalise(vectors: Float32) -> Float32:
    """Return rows of length 1; a zero row stays zero."""
    unit: Float32 = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
    return unit
