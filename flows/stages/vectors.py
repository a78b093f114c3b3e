"""Vectors of item and user texts: an encoder reads a text once, in whichever step met it first.

Beside the vectors a step keeps the sha256 of each text, so that the next one takes over those that it knows. Vectors of
a text differ in their last bits with the texts that shared its batch; what was taken over is as good as what wasn't.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import structlog

from features.schema import Float32
from flows.stages.data import Data
from flows.stages.encode import texts_of_users
from retrieval.encoder.config import Kind
from retrieval.encoder.runtime import TextEncoder
from retrieval.layout import ITEM_VECTORS, USER_VECTORS

_log = structlog.get_logger(__name__)
# uint8 [rows, 32], in the folder of the vectors; a release doesn't carry it.
TEXT_HASHES: Final = "text_hashes.npy"
_NO_TEXT: Final = bytes(hashlib.sha256().digest_size)

Load = Callable[[], TextEncoder]


def embed_items(out: Path, data: Data, load: Load, earlier: Sequence[Path] = ()) -> None:
    """Write float32 `[n_items, dim]` vectors of every item's text below `out`; see `embed`."""
    embed(out, ITEM_VECTORS, data.item_texts, "item", load, earlier)


def embed_users(out: Path, data: Data, frames: Path, load: Load, earlier: Sequence[Path] = ()) -> None:
    """Write float32 `[n_users, dim]` vectors of users as of the cut of `frames` below `out`; see `embed`.

    One without a purchase before the cut has zeros.
    """
    users, texts = texts_of_users(data, frames)
    own: list[str | None] = [None] * data.n_users
    for user, text in zip(users.to_list(), texts.to_list(), strict=True):
        own[user] = text
    embed(out, USER_VECTORS, own, "user", load, earlier)


def embed(
    out: Path, place: str, texts: Sequence[str | None], kind: Kind, load: Load, earlier: Sequence[Path] = ()
) -> None:
    """Write vectors of texts, float32 `[len(texts), dim]`, and the texts' hashes.

    Args:
        out: empty folder.
        place: of the vectors in it.
        texts: None has a vector of zeros.
        kind: of the texts.
        load: returns the encoder; called if there is anything to encode.
        earlier: what earlier calls wrote of that kind with the same encoder, the latest first. One that is gone
            meanwhile is none.
    """
    digests = [_NO_TEXT if text is None else hashlib.sha256(text.encode()).digest() for text in texts]
    missing = np.array([text is not None for text in texts], np.bool_)
    vectors: Float32 | None = None
    for folder in earlier:
        if missing.any():
            vectors = _take_over(folder, place, digests, vectors, missing)
    new = np.flatnonzero(missing).tolist()
    if new or vectors is None:
        found = load().encode([text for row in new if (text := texts[row]) is not None], kind)
        if vectors is None:
            vectors = np.zeros((len(texts), found.shape[1]), np.float32)
        vectors[new] = found
    _log.info("texts_embedded", kind=kind, texts=len(texts), encoded=len(new))
    _save(out / place, vectors)
    _save(out / TEXT_HASHES, np.frombuffer(b"".join(digests), np.uint8).reshape(-1, len(_NO_TEXT)))


def _take_over(
    folder: Path, place: str, digests: Sequence[bytes], vectors: Float32 | None, missing: npt.NDArray[np.bool_]
) -> Float32 | None:
    """Fill in the vectors of texts that are missing and stand in a folder, and note that they no longer are."""
    try:
        hashes = np.load(folder / TEXT_HASHES, allow_pickle=False).tobytes()
        theirs = np.load(folder / place, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        # A prune came first; what is open already outlives it.
        return vectors
    size = len(_NO_TEXT)
    rows = {hashes[start : start + size]: row for row, start in enumerate(range(0, len(hashes), size))}
    known = np.array([missing[row] and digest in rows for row, digest in enumerate(digests)], np.bool_)
    if vectors is None:
        vectors = np.zeros((len(digests), theirs.shape[1]), np.float32)
    vectors[known] = theirs[[rows[digests[row]] for row in np.flatnonzero(known).tolist()]]
    missing[known] = False
    return vectors


def _save(path: Path, array: npt.NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)
