"""The trained encoder without torch: ONNX Runtime for texts, numpy for heads.

Use:
    encoder = TextEncoder.load(release / "encoder")
    items = encoder.encode(item_texts, "item")            # float32 [n, dim], unit length
    heads = Heads.load(release / "encoder")
    side = heads.item_side("purchase", items)             # once a release
    logits = heads.side_logits("purchase", user_vector, side[candidates])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from infra.errors import InvalidInputError
from retrieval.encoder.config import Kind
from retrieval.encoder.layout import HEADS, ONNX, OUTPUT, TOKENIZER, Description, EncoderFilesError, TaskEntry

Float32 = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]

# Padded tokens a run. Measured on one AVX2 core: 164-174 item texts/s up to 1,024, 149 from 2,048 on.
CHUNK_TOKENS = 1024


class TextEncoder:
    """Texts to unit vectors; calls from several threads may run at the same time."""

    def __init__(
        self,
        session: ort.InferenceSession,
        tokenizers: Mapping[str, Tokenizer],
        projections: Mapping[str, Float32],
        description: Description,
    ) -> None:
        self._session = session
        self._tokenizers = dict(tokenizers)
        self._projections = dict(projections)
        self.description = description

    @classmethod
    def load(cls, folder: Path, *, threads: int | None = None) -> Self:
        """Load an exported encoder.

        Args:
            folder: written by `retrieval.encoder.export.export`.
            threads: of ONNX Runtime; None takes all cores.

        Raises:
            EncoderFilesError: a file is missing or of another format.
        """
        description = Description.read(folder)
        for name in (ONNX, TOKENIZER, HEADS):
            if not (folder / name).is_file():
                raise EncoderFilesError(f"{folder}: expected {name}, found no such file")
        options = ort.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        session = ort.InferenceSession(str(folder / ONNX), options, providers=["CPUExecutionProvider"])
        tokenizers = {}
        for kind, limit in description.max_tokens.items():
            tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
            tokenizer.no_padding()
            tokenizer.enable_truncation(limit)
            tokenizers[kind] = tokenizer
        arrays = load_file(folder / HEADS)
        projections = {kind: arrays[f"projection/{side}"] for kind, side in description.sides.items()}
        return cls(session, tokenizers, projections, description)

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
        if not texts:
            return np.empty((0, self.dim), np.float32)
        places: dict[str, int] = {}
        index = np.fromiter((places.setdefault(text, len(places)) for text in texts), np.int64, len(texts))
        prefix = self.description.prefixes.get(kind, "")
        encoded = self._tokenizers[kind].encode_batch_fast([prefix + text for text in places])
        pad = self.description.pad_id
        ids = [entry.ids or [pad] for entry in encoded]
        pooled = np.empty((len(ids), self.dim), np.float32)
        lengths = np.fromiter((len(row) for row in ids), np.int64, len(ids))
        order, start = np.argsort(-lengths, kind="stable"), 0
        while start < len(order):
            rows = order[start : start + max(1, CHUNK_TOKENS // int(lengths[order[start]]))]
            pooled[rows] = self._run([ids[row] for row in rows], lengths[rows])
            start += len(rows)
            if progress is not None:
                progress(start, len(order))
        return self._project(pooled, kind)[index]

    def _run(self, ids: list[list[int]], lengths: npt.NDArray[np.int64]) -> Float32:
        """Return pooled states `[n, dim]` of token ids."""
        mask = np.arange(lengths.max())[None, :] < lengths[:, None]
        padded = np.full(mask.shape, self.description.pad_id, np.int64)
        padded[mask] = np.concatenate([np.asarray(row, np.int64) for row in ids])
        feed = {"input_ids": padded, "attention_mask": mask.astype(np.int64)}
        pooled: Float32 = self._session.run([OUTPUT], feed)[0]
        return pooled

    def _project(self, pooled: Float32, kind: Kind) -> Float32:
        """Return `normalise(x + P x)` of the normalised pooled states x, float32 `[n, dim]`."""
        unit = _normalise(pooled)
        return _normalise(unit + unit @ self._projections[kind].T)


@dataclass(frozen=True)
class Heads:
    """Every task's head over unit vectors, in numpy.

    Attributes:
        tasks: by name.
        arrays: by task, the head's arrays (see `retrieval.encoder.heads`).
    """

    tasks: Mapping[str, TaskEntry]
    arrays: Mapping[str, Mapping[str, Float32]]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load the heads of an exported encoder.

        Raises:
            EncoderFilesError: a file is missing or of another format.
        """
        description = Description.read(folder)
        if not (folder / HEADS).is_file():
            raise EncoderFilesError(f"{folder}: expected {HEADS}, found no such file")
        flat = load_file(folder / HEADS)
        arrays: dict[str, dict[str, Float32]] = {task.name: {} for task in description.tasks}
        for key, value in flat.items():
            group, _, name = key.rpartition("/")
            if group.startswith("head/"):
                arrays[group.removeprefix("head/")][name] = value
        return cls({task.name: task for task in description.tasks}, arrays)

    def item_side(self, task: str, item_vectors: Float32) -> Float32:
        """Precompute a pair task's item half.

        Args:
            task: a pair task.
            item_vectors: float32 `[n, dim]` unit vectors.

        Returns:
            float32 `[n, rank + 1]`: V v, then b . v + c. For retrieval `[n, dim + 1]`: v, then 0.
        """
        head = self._head(task, "pair")
        if self.tasks[task].kind == "contrastive":
            return np.hstack([item_vectors, np.zeros((len(item_vectors), 1), np.float32)])
        constant = item_vectors @ head["item"] + head["bias"]
        return np.hstack([item_vectors @ head["right"].T, constant[:, None]]).astype(np.float32, copy=False)

    def side_logits(self, task: str, user_vector: Float32, item_side: Float32) -> Float32:
        """Return logits float32 `[n]` of one user `[dim]` and rows of `item_side`."""
        head = self._head(task, "pair")
        if self.tasks[task].kind == "contrastive":
            scaled: Float32 = item_side[:, :-1] @ (user_vector * head["scale"])
            return scaled
        logits: Float32 = item_side[:, :-1] @ (head["left"] @ user_vector) + item_side[:, -1]
        return logits + head["user"] @ user_vector

    def pair_logits(self, task: str, user_vector: Float32, item_vectors: Float32) -> Float32:
        """Return logits float32 `[n]` of one user `[dim]` and items `[n, dim]`, unit vectors both."""
        return self.side_logits(task, user_vector, self.item_side(task, item_vectors))

    def user_logits(self, task: str, user_vectors: Float32) -> Float32:
        """Return logits float32 `[n]` of a user task for unit vectors `[n, dim]`."""
        head = self._head(task, "user")
        states = user_vectors
        if "inner" in head:
            states = np.maximum(states @ head["inner"].T + head["inner_bias"], 0)
        logits: Float32 = states @ head["outer"] + head["bias"]
        return logits

    def _head(self, task: str, on: str) -> Mapping[str, Float32]:
        if task not in self.tasks or self.tasks[task].on != on:
            known = sorted(name for name, entry in self.tasks.items() if entry.on == on)
            raise InvalidInputError(
                f"task: expected a {on} task of this encoder ({', '.join(known) or 'it has none'}), found {task!r}"
            )
        return self.arrays[task]


def _normalise(vectors: Float32) -> Float32:
    """Return rows of length 1; a zero row stays zero."""
    unit: Float32 = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
    return unit
