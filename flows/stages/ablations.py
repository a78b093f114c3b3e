"""The main task's blend on some families of signals only: fitted beside the release, read by its evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ranking import calibration
from ranking.blend import MultiTaskBlend
from ranking.fit import Ablation
from ranking.layout import RANKING_DIR

_BLENDS: Final = f"{RANKING_DIR}/ablation_blend.json"
_CALIBRATION: Final = f"{RANKING_DIR}/ablation_calibration.json"


def write_ablations(out: Path, ablations: Mapping[str, Ablation]) -> None:
    """Write every subset's blend and calibration below `out`."""
    MultiTaskBlend({name: one.blend for name, one in ablations.items()}).save(out / _BLENDS)
    calibration.save({name: one.calibrator for name, one in ablations.items()}, out / _CALIBRATION)


def read_ablations(release: Path) -> dict[str, Ablation]:
    """Return what `write_ablations` wrote; empty for a release without."""
    if not (release / _BLENDS).exists():
        return {}
    blends = MultiTaskBlend.load(release / _BLENDS).tasks
    curves = calibration.load(release / _CALIBRATION)
    return {name: Ablation(blend=blend, calibrator=curves[name]) for name, blend in blends.items()}
