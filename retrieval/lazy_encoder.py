"""A release's text encoder as services hold it: loaded by the first text, then shared by all requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, Self

from features.schema import Float32
from infra.errors import UnavailableError
from retrieval import layout
from retrieval.encoder.layout import EncoderFilesError
from retrieval.encoder.runtime import ReadTexts, TextEncoder


class EncoderUnavailableError(UnavailableError):
    """The release carries no text encoder, so a text can't be a query."""


class TextEncoderLike(Protocol):
    """What reads texts: `retrieval.encoder.runtime.TextEncoder`, or a test's own."""

    def encode(self, texts: Sequence[str], kind: Literal["text", "item"]) -> Float32:
        """Return float32 `[n, dim]`, rows of length 1."""
        ...

    def read(self, texts: Sequence[str], tasks: Sequence[str]) -> ReadTexts:
        """Return the same vectors and, from the same pass, tags by tag task."""
        ...


class LazyEncoder:
    """Loads an encoder on first use; safe to use from many threads.

    Args:
        load: returns the encoder; None where the release has none.
    """

    def __init__(self, load: Callable[[], TextEncoderLike] | None) -> None:
        self.load = load
        self._lock = threading.Lock()
        self._encoder: TextEncoderLike | None = None

    @classmethod
    def of(cls, release: Path) -> Self:
        """Return the encoder of the release directory `release`, not yet loaded."""
        held = (release / layout.ENCODER_ONNX).exists()
        return cls(partial(TextEncoder.load, release / layout.ENCODER_DIR) if held else None)

    @property
    def held(self) -> bool:
        """Whether the release has an encoder."""
        return self.load is not None

    def encode(self, texts: Sequence[str], kind: Literal["text", "item"] = "text") -> Float32:
        """Return float32 `[len(texts), dim]`, rows of length 1, of free texts or items'; raises as `read` does."""
        return self._loaded().encode(texts, kind)

    def read(self, texts: Sequence[str], tasks: Sequence[str] = ()) -> ReadTexts:
        """Return texts' vectors and, from the same pass, the tags that these tag tasks give their units.

        Raises:
            EncoderUnavailableError: the release has no encoder, or one of another format.
        """
        return self._loaded().read(texts, tasks)

    def _loaded(self) -> TextEncoderLike:
        """Return the encoder; the first call loads it."""
        if self.load is None:
            raise EncoderUnavailableError("expected a text encoder in the release, found none")
        with self._lock:
            if self._encoder is None:
                try:
                    self._encoder = self.load()
                except EncoderFilesError as error:
                    raise EncoderUnavailableError(str(error)) from error
        return self._encoder
