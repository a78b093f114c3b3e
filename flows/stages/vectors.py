"""Vectors of item texts: an encoder reads a text once, in whichever step met it first.

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
from retrieval.encoder.runtime import TextEncoder
from retrieval.layout import ITEM_VECTORS

_log = structlog.get_logger(__name__)
# uint8 [n_items, 32], beside the vectors; a release doesn't carry it.
TEXT_HASHES: Final = "text_hashes.npy"
_DIGEST: Final = hashlib.sha256().digest_size


def embed_items(out: Path, texts: Sequence[str], load: Callable[[], TextEncoder], earlier: Sequence[Path] = ()) -> None:
    """Write float32 `[n_items, dim]` vectors of every item's text, and the texts' hashes, below `out`.

    Args:
        out: empty folder.
        texts: one or more, by item position.
        load: returns the encoder; called if there is anything to encode.
        earlier: what earlier calls wrote with the same encoder, the latest first. One that is gone meanwhile is none.
    """
    digests = [hashlib.sha256(text.encode()).digest() for text in texts]
    vectors, missing = None, np.ones(len(texts), np.bool_)
    for folder in earlier:
        if not missing.any():
            break
        vectors = _take_over(folder, digests, vectors, missing)
    new = np.flatnonzero(missing).tolist()
    if new:
        found = load().encode([texts[row] for row in new], "item")
        if vectors is None:
            vectors = np.empty((len(texts), found.shape[1]), np.float32)
        vectors[new] = found
    assert vectors is not None, "there are items, or no step would embed them"
    _log.info("items_embedded", items=len(texts), taken_over=len(texts) - len(new))
    save_array(out / ITEM_VECTORS, vectors)
    save_array(out / TEXT_HASHES, np.frombuffer(b"".join(digests), np.uint8).reshape(-1, _DIGEST))


def _take_over(
    folder: Path, digests: Sequence[bytes], vectors: Float32 | None, missing: npt.NDArray[np.bool_]
) -> Float32 | None:
    """Fill in the vectors of texts that are missing and stand in a folder, and note that they no longer are."""
    try:
        hashes = np.load(folder / TEXT_HASHES, allow_pickle=False).tobytes()
        theirs = np.load(folder / ITEM_VECTORS, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        # A prune came first; what is open already outlives it.
        return vectors
    places = {hashes[start : start + _DIGEST]: row for row, start in enumerate(range(0, len(hashes), _DIGEST))}
    known = np.array([missing[row] and digest in places for row, digest in enumerate(digests)], np.bool_)
    if vectors is None:
        vectors = np.empty((len(digests), theirs.shape[1]), np.float32)
    vectors[known] = theirs[[places[digests[row]] for row in np.flatnonzero(known).tolist()]]
    missing[known] = False
    return vectors


def save_array(path: Path, array: npt.NDArray[np.generic]) -> None:
    """Write an array where its folder may be missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)
