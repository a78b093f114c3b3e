"""Everything fitted that ranking needs at request time, as one value that is saved into and loaded from a release."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from features.schema import Float32, feature_schema_hash
from infra.errors import ConflictError
from infra.files import write_atomic
from ranking import calibration, gbdt
from ranking.assemble import FEATURES, feature_hash, feature_names
from ranking.blend import BlendInputs, Float64, MultiTaskBlend, blend_inputs, user_blend_inputs
from ranking.calibration import Calibrator
from ranking.formula.parse import FormulaText
from ranking.layout import BLEND, CALIBRATION, RANK, SCHEMA, gbdt_model
from ranking.objective import Objectives
from ranking.rules.config import Rules
from ranking.signals import Signals, SignalSchema
from ranking.spaces import Bool

if TYPE_CHECKING:
    import lightgbm as lgb

VERSION: Final = 2
# A pair whose item the user never bought has no count of purchases.
_COUNT: Final = FEATURES.index("history_count")


class SchemaVersionError(ConflictError):
    """A release whose `schema.json` is of another version of this code."""


class FeatureMismatchError(ConflictError):
    """A release whose models were fitted on other features than this code computes."""


class RankingSchema(BaseModel):
    """What `schema.json` says: the columns that the models were fitted on, and which models there are.

    Attributes:
        version: of this file.
        features: names in order, for people.
        feature_hash: of the names; must equal this code's.
        feature_schema_hash: of the feature lists that users' rows carry; likewise.
        pair_heads, user_heads: encoder tasks among the signals.
        sequence: whether the sequence model is among them.
        pair_models, user_models: tasks with trees.
        main_task: the task whose trees order lists best: explanations are about it.
        objectives: name -> formula, what a request may ask for.
        rules: on the order, after scoring.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[2] = VERSION
    features: tuple[str, ...]
    feature_hash: str
    feature_schema_hash: str
    pair_heads: tuple[str, ...]
    user_heads: tuple[str, ...]
    sequence: bool = False
    pair_models: tuple[str, ...]
    user_models: tuple[str, ...]
    main_task: str
    objectives: dict[str, FormulaText]
    rules: Rules

    @classmethod
    def of(
        cls,
        signals: SignalSchema,
        pair_models: tuple[str, ...],
        user_models: tuple[str, ...],
        *,
        main_task: str,
        objectives: Objectives,
        rules: Rules,
    ) -> RankingSchema:
        """Describe models fitted by this code."""
        return cls(
            features=feature_names(signals.names),
            feature_hash=feature_hash(signals.names),
            feature_schema_hash=feature_schema_hash(),
            pair_heads=signals.pair_tasks,
            user_heads=signals.user_tasks,
            sequence=signals.sequence,
            pair_models=pair_models,
            user_models=user_models,
            main_task=main_task,
            objectives=dict(objectives),
            rules=rules,
        )

    @classmethod
    def load(cls, path: Path) -> RankingSchema:
        """Read `schema.json`.

        Raises:
            SchemaVersionError: another version of this code wrote it.
        """
        body = json.loads(path.read_bytes())
        if body.get("version") != VERSION:
            raise SchemaVersionError(
                f"{path}: expected version {VERSION}, found {body.get('version')}; build a release with this version"
            )
        return cls.model_validate(body)

    @property
    def signals(self) -> SignalSchema:
        """The signals' columns."""
        return SignalSchema(self.pair_heads, self.user_heads, self.sequence)

    def check(self) -> None:
        """Check that this code computes the features that the models were fitted on.

        Raises:
            FeatureMismatchError: naming the features that only one side has.
        """
        current = feature_names(self.signals.names)
        if (self.feature_hash, self.feature_schema_hash) != (feature_hash(self.signals.names), feature_schema_hash()):
            raise FeatureMismatchError(
                f"ranking schema: expected the features this code computes, found others; only in the release: "
                f"{sorted(set(self.features) - set(current))}, only in the code: "
                f"{sorted(set(current) - set(self.features))}; build a release with this version"
            )


@dataclass(frozen=True, kw_only=True)
class RankingModels:
    """Trees, blend and calibration of one release.

    Attributes:
        schema: see there.
        trees: pair task -> binary model.
        rank: the LambdaRank model.
        user_trees: user task -> binary model.
        blend: every task's logistic model.
        calibrators: every task's curve.
    """

    schema: RankingSchema
    trees: Mapping[str, lgb.Booster]
    rank: lgb.Booster
    user_trees: Mapping[str, lgb.Booster]
    blend: MultiTaskBlend
    calibrators: Mapping[str, Calibrator]

    def pair_inputs(self, features: Float32, signals: Signals, applies: Mapping[str, Bool]) -> BlendInputs:
        """Return the blend's columns of n pairs; see `pair_inputs` below."""
        return pair_inputs(self.trees, self.rank, features, signals, applies)

    def user_inputs(self, features: Float32, user_logits: Float32) -> BlendInputs:
        """Return the blend's columns of n users; see `user_inputs` below."""
        return user_inputs(self.user_trees, self.schema.signals, features, user_logits)

    def probabilities(self, inputs: BlendInputs, applies: Mapping[str, Bool]) -> dict[str, Float64]:
        """Return task -> calibrated probability, float64 `[n]`, NaN where the task doesn't apply."""
        found = {}
        for task, mask in applies.items():
            if task in self.blend.tasks:
                logits = self.blend.tasks[task].logits(inputs)
                found[task] = np.where(mask, self.calibrators[task].probabilities(logits), np.nan)
        return found

    def save(self, release: Path) -> None:
        """Write every file of `ranking/` below a release directory that is being built."""
        for task, booster in {**self.trees, **self.user_trees, RANK: self.rank}.items():
            gbdt.save(booster, release / gbdt_model(task))
        self.blend.save(release / BLEND)
        calibration.save(self.calibrators, release / CALIBRATION)
        write_atomic(release / SCHEMA, self.schema.model_dump_json(indent=1).encode())

    @classmethod
    def load(cls, release: Path) -> RankingModels:
        """Read what `save` wrote.

        Raises:
            FeatureMismatchError: the models were fitted on other features than this code computes.
            SchemaVersionError: they were saved by another version.
        """
        schema = RankingSchema.load(release / SCHEMA)
        schema.check()
        return cls(
            schema=schema,
            trees={task: gbdt.load(release / gbdt_model(task)) for task in schema.pair_models},
            rank=gbdt.load(release / gbdt_model(RANK)),
            user_trees={task: gbdt.load(release / gbdt_model(task)) for task in schema.user_models},
            blend=MultiTaskBlend.load(release / BLEND),
            calibrators=calibration.load(release / CALIBRATION),
        )


def pair_inputs(
    trees: Mapping[str, lgb.Booster],
    rank: lgb.Booster,
    features: Float32,
    signals: Signals,
    applies: Mapping[str, Bool],
) -> BlendInputs:
    """Return the blend's columns of n pairs: signals and the raw scores of every task's trees and of LambdaRank.

    A task's trees run only where the task applies (500 rows through 300 trees cost 3 ms), and are missing elsewhere.

    Args:
        trees: pair task -> binary model.
        rank: the LambdaRank model; runs everywhere.
        features: float32 `[n, f]` of `assemble`.
        signals: of the same pairs.
        applies: task -> bool `[n]`.
    """
    masks = {task: applies[task] for task in trees}
    jobs = [(booster, features if masks[task].all() else features[masks[task]]) for task, booster in trees.items()]
    ranked, *found = gbdt.predict_raw_each([(rank, features), *jobs])
    raw: dict[str, Float64] = {}
    for (task, mask), scores in zip(masks.items(), found, strict=True):
        raw[task] = np.full(len(features), np.nan)
        raw[task][mask] = scores
    raw[RANK] = ranked
    return blend_inputs(signals, raw, fresh=np.isnan(features[:, _COUNT]))


def user_inputs(
    trees: Mapping[str, lgb.Booster], schema: SignalSchema, features: Float32, logits: Float32
) -> BlendInputs:
    """Return the blend's columns of n users: the user heads' logits and each user task's trees.

    Args:
        trees: user task -> binary model.
        schema: names the heads.
        features: float32 `[n, f]`, rows of `assemble_user`.
        logits: float32 `[n, len(schema.user_tasks)]`.
    """
    raw = {task: gbdt.predict_raw(booster, features) for task, booster in trees.items()}
    return user_blend_inputs(schema.user_names, logits, raw)
