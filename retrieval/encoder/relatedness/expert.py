"""Prior declared outright: what somebody who knows the product says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.encoder.relatedness.config import ExpertConfig
from retrieval.encoder.relatedness.matrix import Relatedness


@dataclass(frozen=True, eq=False)
class Expert:
    """A matrix as declared.

    Attributes:
        declared: names and values; `ExpertConfig` has checked them.
    """

    declared: ExpertConfig

    def relate(self, names: Sequence[str]) -> Relatedness:
        """Return the relatedness; a task that isn't declared is unknown."""
        return Relatedness.among(names, self.declared.names, np.array(self.declared.matrix, np.float64))
