"""The encoder that training starts from: where it lies, and the workspace and time whose data made it.

`encoder.start` names an exported encoder's folder, or a release's, which holds one. Data of old, which `encoder.keep`
may ask for, is known of a release alone: it says as of when it was trained, and its workspace still has the tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from flows.folder import STATE_FOLDER, WORKSPACE_FILE
from infra.errors import InvalidInputError
from infra.files import sha256_file
from infra.manifest import MANIFEST
from infra.releases import ReleaseStore
from retrieval.catalogue import items_seen
from retrieval.encoder.layout import DESCRIPTION, HEADS, WEIGHTS
from retrieval.layout import ENCODER_DIR


class StartError(InvalidInputError):
    """`encoder.start` names no encoder, or none of a release where the data of old is needed."""

    title = "No start"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Whose data an encoder was trained on.

    Attributes:
        workspace: the folder of the workspace.
        release_id: the release that trained the encoder.
        as_of: that saw nothing at or after this.
        item_sequence: the newest of the logged changes of items that it saw; 0 for none.
    """

    workspace: Path
    release_id: str
    as_of: datetime
    item_sequence: int


def find_start(start: Path, base: Path) -> Path:
    """Return the folder of the exported encoder that `encoder.start` means.

    Args:
        start: an encoder's folder, or a release's; relative to `base`.
        base: the workspace's folder.

    Raises:
        StartError: neither lies there.
    """
    named = (base / start.expanduser()).resolve()
    for folder in (named, named / ENCODER_DIR):
        if (folder / DESCRIPTION).is_file():
            return folder
    raise StartError(f"encoder.start: expected {DESCRIPTION} in {named} or in its {ENCODER_DIR}/, found neither")


def start_digests(encoder: Path) -> list[str]:
    """Return the sha256 of each file that training takes over from an exported encoder."""
    return [sha256_file(encoder / name) for name in (DESCRIPTION, HEADS, WEIGHTS)]


def find_origin(encoder: Path | None) -> Origin:
    """Return whose data an encoder was trained on: that of the release around it.

    A refresh of the index alone makes a release with its parent's encoder; the oldest of them is the one that trained.

    Args:
        encoder: folder of the exported encoder that training starts from, resolved; None where it starts from none.

    Raises:
        StartError: there is none, or it lies in no release of a workspace.
        ReleaseNotFoundError: the release that trained it is gone.
    """
    expected = "encoder.keep: expected a start in a release (WORKSPACE/.polyrank/releases/ID), which knows its data"
    if encoder is None:
        raise StartError(f"{expected}, found no encoder.start")
    release = encoder.parent
    workspace = release.parent.parent.parent
    is_release = release.parent.parent.name == STATE_FOLDER and (release / MANIFEST).is_file()
    if not (is_release and (workspace / WORKSPACE_FILE).is_file()):
        raise StartError(f"{expected}, found {encoder}")
    store = ReleaseStore(release.parent)
    manifest = store.manifest(release.name)
    while manifest.parent is not None:
        manifest = store.manifest(manifest.parent)
    if manifest.as_of is None:
        raise StartError(f"encoder.keep: expected an as-of time in the manifest of {manifest.release_id}, found none")
    return Origin(
        workspace=workspace,
        release_id=manifest.release_id,
        as_of=manifest.as_of,
        item_sequence=items_seen(store.path(manifest.release_id)),
    )
