"""What the data set adapters share: the column of short titles, and the errors for absent and other files."""

from __future__ import annotations

from typing import Final

from infra.errors import InvalidInputError, NotFoundError

# A short name of an item, to be shown and to stand in a user's text.
TITLE: Final = "title"


class DatasetMissingError(NotFoundError):
    """The data set's files are not where they should be."""

    title = "Data set not found"


class DatasetShapeError(InvalidInputError):
    """The data set's file is there, but isn't what its adapter reads."""

    title = "Data set of another shape"
