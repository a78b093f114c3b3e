"""The trained text encoder without torch.

Use:
    encoder = TextEncoder.load(release / "encoder")
    items = encoder.encode(item_texts, "item")            # float32 [n, dim], unit length
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from retrieval.encoder.config import Kind
from retrieval.encoder.layout import HEADS, TOKENIZER, Description, EncoderFilesError
from retrieval.encoder.ship.layout import RuntimeChoice
from retrieval.encoder.ship.session import Session, open_session

Float32 = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]

# Padded tokens a run. Measured on one AVX2 core: 164-174 item texts/s up to 1,024, 149 from 2,048 on.
CHUNK_TOKENS = 1024


class TextEncoder:
    """Texts to unit vectors; calls from several threads may run at the same time."""

    def __init__(
        self,
        session: Session,
        tokenizers: Mapping[str, Tokenizer],
        projections: Mapping[str, Float32],
        description: Description,
    ) -> None:
        self._session = session
        self._tokenizers = dict(tokenizers)
        self._projections = dict(projections)
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
        return self._session.run(padded, mask.astype(np.int64))

    def _project(self, pooled: Float32, kind: Kind) -> Float32:
        """Return `normalise(x + P x)` of the normalised pooled states x, float32 `[n, dim]`."""
        unit = _normalise(pooled)
        return _normalise(unit + unit @ self._projections[kind].T)


def _normalise(vectors: Float32) -> Float32:
    """Return rows of length 1; a zero row stays zero."""
    unit: Float32 = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
    return unit
