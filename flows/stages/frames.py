"""Feature frames of one cut as a folder of Parquet, one file a view."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from pathlib import Path

import polars as pl

from features.transforms import FeatureFrames

_VIEWS = tuple(field.name for field in fields(FeatureFrames) if field.name != "cut")


def write_frames(out: Path, frames: FeatureFrames) -> None:
    """Write every view of a cut into `out`."""
    for view in _VIEWS:
        frame: pl.DataFrame = getattr(frames, view)
        frame.write_parquet(frame_path(out, view))


def read_frames(folder: Path, cut: datetime) -> FeatureFrames:
    """Read what `write_frames` wrote."""
    return FeatureFrames(cut=cut, **{view: pl.read_parquet(frame_path(folder, view)) for view in _VIEWS})


def frame_path(folder: Path, view: str) -> Path:
    """Return where a view's frame lies."""
    return folder / f"{view}.parquet"
