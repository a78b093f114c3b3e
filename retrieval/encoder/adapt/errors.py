"""What is raised where an option of training cannot be followed."""

from __future__ import annotations

from infra.errors import InvalidInputError


class AdaptError(InvalidInputError):
    """An option of training that the backbone, the data or a file contradicts."""
