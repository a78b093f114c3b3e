"""The error of the index."""

from __future__ import annotations

from infra.errors import InvalidInputError


class VectorIndexError(InvalidInputError):
    """Vectors, positions, queries or files don't fit the index."""
