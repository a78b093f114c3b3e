"""The trained sequence model in numpy: what a service computes of a user's history within a request.

Use:
    model = SequenceModel.load(release / "sequence")
    scores = model.items @ model.user_vector(items, kinds, gaps)
    new = model.vectors_of(text_vectors)            # items that training never saw
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict
from safetensors.numpy import load_file, save_file

from features.schema import Float32, Int32
from infra.errors import InvalidInputError
from infra.files import atomic_directory
from retrieval.rows import mapped
from retrieval.sequence.config import SequenceConfig
from retrieval.sequence.histories import GAPS

ITEMS: Final = "items.npy"
WEIGHTS: Final = "weights.safetensors"
META: Final = "meta.json"

# Added to a variance before its root, as torch's layer norm does in training.
_EPSILON: Final = np.float32(1e-5)


class SequenceFilesError(InvalidInputError):
    """A folder that holds no sequence model, or parts that disagree."""


class SequenceMeta(BaseModel):
    """What `meta.json` says.

    Attributes:
        items: rows of the items' vectors.
        text_dim: of the text vectors trained on, 0 for none.
        kinds: of events.
        deviation: of the text vectors.
        scale: softmax(scale * items @ user vector) is the probability of each item to be next.
        config: how it was trained.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    items: int
    text_dim: int
    kinds: int
    deviation: float
    scale: float
    config: SequenceConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class SequenceModel:
    """A trained model; safe to use from many threads.

    Attributes:
        meta: sizes and the configuration.
        items: float32 `[n_items, width]` rows of length 1.
        weights: by name, the reader's arrays as torch names them, and `text_mean` `[text_dim]` and `projection`
            `[text_dim, width]`.
    """

    meta: SequenceMeta
    items: Float32
    weights: Mapping[str, Float32]

    def user_vector(self, items: Int32, kinds: Int32, gaps: Int32, vectors: Float32 | None = None) -> Float32:
        """Return float32 `[width]` of length 1: the user after the last event; zeros without events.

        Args:
            items: int32 `[h]` positions, oldest first; only the last `length` are read.
            kinds: int32 `[h]`.
            gaps: int32 `[h]` buckets of `histories.gap_buckets`.
            vectors: float32 `[h, width]` of the items, where some came after training.

        Raises:
            SequenceFilesError: a kind or gap that the model doesn't have.
        """
        last = slice(-self.meta.config.length, None)
        items, kinds, gaps = items[last], kinds[last], gaps[last]
        if not len(items):
            return np.zeros(self.meta.config.width, np.float32)
        if kinds.min() < 0 or kinds.max() >= self.meta.kinds or gaps.min() < 0 or gaps.max() >= GAPS:
            raise SequenceFilesError(
                f"sequence: expected kinds in [0, {self.meta.kinds}) and gaps in [0, {GAPS}), "
                f"found kinds {kinds.min()} to {kinds.max()} and gaps {gaps.min()} to {gaps.max()}"
            )
        rows = self.items[items] if vectors is None else vectors[last]
        states = self.weights["gain"] * rows + self.weights["kind.weight"][kinds] + self.weights["gap.weight"][gaps]
        for block in range(self._blocks):
            states = self._block(f"blocks.{block}.", states)
        vector: Float32 = _unit(self._norm("norm", states[-1:]))[0]
        return vector

    def vectors_of(self, texts: Float32) -> Float32:
        """Return float32 `[n, width]` of length 1 for items of which nothing but text vectors `[n, text_dim]` is known.

        Raises:
            SequenceFilesError: vectors of another length.
        """
        if texts.shape[1] != self.meta.text_dim or not self.meta.text_dim:
            raise SequenceFilesError(
                f"sequence: expected text vectors of the {self.meta.text_dim} dimensions it was trained on, "
                f"found {texts.shape[1]}"
            )
        moved: Float32 = (texts - self.weights["text_mean"]) / np.float32(self.meta.deviation)
        return _unit(moved @ self.weights["projection"])

    def placed(self, members: Int32, texts: Float32) -> Self:
        """Return the same model over another catalogue.

        Args:
            members: int32 `[n_items]` where its items stand there.
            texts: float32 `[n, text_dim]` text vectors of the catalogue, all that is known of its other items.
        """
        items = self.vectors_of(texts)
        items[members] = self.items
        return type(self)(meta=self.meta.model_copy(update={"items": len(items)}), items=items, weights=self.weights)

    def grown(self, texts: Float32) -> Self:
        """Return the same model over a catalogue to which items were appended, known by their texts.

        Args:
            texts: float32 `[n, text_dim]` text vectors of all items, the model's own first.

        Raises:
            SequenceFilesError: the catalogue is smaller than the one trained on.
        """
        if len(texts) < self.meta.items:
            raise SequenceFilesError(
                f"sequence: expected a catalogue of at least {self.meta.items} items, found {len(texts)}"
            )
        return self.placed(np.arange(self.meta.items, dtype=np.int32), texts)

    @cached_property
    def _blocks(self) -> int:
        return len({name.split(".")[1] for name in self.weights if name.startswith("blocks.")})

    def _block(self, name: str, states: Float32) -> Float32:
        """Return what a block makes of `[time, width]`."""
        inside = self._norm(f"{name}before", states)
        if self.meta.config.reader == "attention":
            states = states + self._attention(f"{name}mixing.", inside)
        else:
            counts = np.arange(1, len(states) + 1, dtype=np.float32)[:, None]
            means: Float32 = (np.cumsum(inside, 0) / counts).astype(np.float32, copy=False)
            states = self._linear(f"{name}mixing.outward", means)
        up = np.maximum(self._linear(f"{name}up", self._norm(f"{name}between", states)), 0)
        return states + self._linear(f"{name}down", up)

    def _attention(self, name: str, states: Float32) -> Float32:
        """Return causal attention over `[time, width]`."""
        time, width = states.shape
        heads = self.meta.config.heads
        query, key, value = (
            self._linear(f"{name}inward", states).reshape(time, 3, heads, width // heads).transpose(1, 2, 0, 3)
        )
        steps = np.arange(time)
        apart = steps[:, None] - steps[None, :]
        scores = query @ key.transpose(0, 2, 1) / np.float32(np.sqrt(width // heads))
        scores += self.weights[f"{name}distance"][:, np.maximum(apart, 0)]
        scores[:, apart < 0] = -np.inf
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (weights / weights.sum(-1, keepdims=True)) @ value
        return self._linear(f"{name}outward", mixed.transpose(1, 0, 2).reshape(time, width))

    def _linear(self, name: str, states: Float32) -> Float32:
        moved: Float32 = states @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]
        return moved

    def _norm(self, name: str, states: Float32) -> Float32:
        centred = states - states.mean(-1, keepdims=True)
        scaled = centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + _EPSILON)
        normed: Float32 = scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]
        return normed

    def save(self, folder: Path) -> None:
        """Write the model into `folder`, atomically."""
        with atomic_directory(folder, replace=True) as out:
            np.save(out / ITEMS, self.items)
            save_file({name: np.ascontiguousarray(array) for name, array in self.weights.items()}, out / WEIGHTS)
            (out / META).write_text(self.meta.model_dump_json(indent=2), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; the items' vectors are memory-mapped.

        Raises:
            SequenceFilesError: a file is missing, or the items are not as many as `meta.json` says.
        """
        for name in (META, WEIGHTS, ITEMS):
            if not (folder / name).is_file():
                raise SequenceFilesError(f"{folder}: expected {name}, found no such file")
        meta = SequenceMeta.model_validate_json((folder / META).read_bytes())
        items = mapped(folder / ITEMS)
        if items.shape != (meta.items, meta.config.width):
            raise SequenceFilesError(
                f"{folder / ITEMS}: expected [{meta.items}, {meta.config.width}], found {list(items.shape)}"
            )
        return cls(meta=meta, items=items, weights=load_file(folder / WEIGHTS))


def _unit(vectors: Float32) -> Float32:
    """Return rows of length 1; a zero row stays zero."""
    found: Float32 = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32(1e-12))
    return found
