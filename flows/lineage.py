"""Up to when the models of a release have seen data.

Its as-of time says so of a release that trained everything. One that takes over models (an index refreshed as of an
earlier time, an encoder that training started from) has seen what they have.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from pydantic import JsonValue

from infra.manifest import MANIFEST, Manifest

# In a release's manifest.
_SEEN_UNTIL: Final = "seen_until"


def seen_until(manifest: Manifest) -> datetime | None:
    """Return the time at and after which nothing has taught the release; None where its manifest can't tell."""
    if _SEEN_UNTIL in manifest.metadata:
        noted = manifest.metadata[_SEEN_UNTIL]
        return datetime.fromisoformat(noted) if isinstance(noted, str) else None
    return manifest.as_of if manifest.parent is None else None


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """What a release to be written is made from.

    Attributes:
        parent: the release whose models it keeps.
        seen_until: see `seen_until`.
    """

    parent: str | None
    seen_until: datetime | None

    @classmethod
    def of(cls, parent: str | None, as_of: datetime, sources: Iterable[Path]) -> Self:
        """Read what the sources have seen.

        Args:
            parent: the release whose models it keeps.
            as_of: of the release's own data.
            sources: folders of the releases that it takes models from. A folder that is none (an encoder exported
                elsewhere) says nothing of its data and is passed over, as a pretrained backbone is.
        """
        times = [seen_until(Manifest.read(folder)) for folder in sources if (folder / MANIFEST).is_file()]
        known = [time for time in times if time is not None]
        return cls(parent=parent, seen_until=max([as_of, *known]) if len(known) == len(times) else None)

    @property
    def metadata(self) -> dict[str, JsonValue]:
        """What the release's manifest says of it, beside its parent."""
        return {_SEEN_UNTIL: None if self.seen_until is None else self.seen_until.isoformat()}
