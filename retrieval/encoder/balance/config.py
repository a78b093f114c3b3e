"""Which balance method, and its numbers; no torch here, because serving reads an encoder's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Losses to one scalar: a single backward pass.
ScalarMethod = Literal["static", "volume", "uncertainty", "dual", "lagrangian", "dwa", "famo", "random"]
# One backward pass for each task, then one gradient of all.
GradientMethod = Literal[
    "mean", "gradnorm", "pcgrad", "gradvac", "mgda", "cagrad", "fairgrad", "nash_mtl", "imtlg", "aligned_mtl",
    "upgrad", "dualproj", "graddrop", "config",
]  # fmt: skip
# They make every gradient count alike whatever its length (MGDA even prefers short ones): importances would be lost.
BLIND_TO_IMPORTANCE: Final = frozenset({"gradnorm", "mgda", "fairgrad", "nash_mtl", "imtlg", "aligned_mtl", "config"})
Level = Literal["feature", "lora", "parameter"]

Importance = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Relative = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class VolumeConfig(BaseModel):
    """Weights by the number of labels.

    Attributes:
        exponent: importance is multiplied by count ** exponent; negative favours rare tasks.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    exponent: float = Field(0.5, ge=-1, le=1)


class DualConfig(BaseModel):
    """The worst task first, among those that do worse than they can.

    Attributes:
        eta: step of the multiplicative update.
        pull: share of the way back to the importances (in logarithms) that every step takes; 0 never forgets.
        baselines: by task the loss of a model of its own, in units of the constant predictor's; 1, which is the
            constant predictor itself, for those left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    eta: float = Field(0.1, gt=0)
    pull: float = Field(0.02, ge=0, le=1)
    baselines: dict[str, Relative] = Field(default_factory=dict)


class LagrangianConfig(BaseModel):
    """Guardrails on top of the static sum.

    Attributes:
        limits: by task the loss that it shall not exceed, in units of the constant predictor's.
        eta: step of the multipliers.
        ceiling: of a multiplier, so that a limit out of reach doesn't end all other learning.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    limits: dict[str, Relative] = Field(default_factory=dict)
    eta: float = Field(0.05, gt=0)
    ceiling: float = Field(10.0, gt=0)


class DwaConfig(BaseModel):
    """More weight for losses that fall slowly.

    Attributes:
        temperature: higher is closer to equal weights.
        window: steps averaged into one loss, where the paper takes an epoch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(2.0, gt=0)
    window: int = Field(10, ge=1)


class FamoConfig(BaseModel):
    """Losses that fall at one rate.

    Attributes:
        learning_rate: of the weights' logits.
        weight_decay: of the same; pulls them back to the importances.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: float = Field(0.025, gt=0)
    weight_decay: float = Field(1e-3, ge=0)


class RandomConfig(BaseModel):
    """New weights by chance in every step: what any clever method has to beat.

    Attributes:
        distribution: `normal` (softmax of standard normals) or `dirichlet`.
        alpha: the Dirichlet's concentration; higher is closer to equal weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    distribution: Literal["normal", "dirichlet"] = "normal"
    alpha: float = Field(1.0, gt=0)


class GradNormConfig(BaseModel):
    """Gradients of one length, longer where a loss lags behind.

    Attributes:
        alpha: how much longer; 0 makes all equal.
        learning_rate: of the weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    alpha: float = Field(1.5, ge=0)
    learning_rate: float = Field(0.025, gt=0)


class SurgeryConfig(BaseModel):
    """Numbers of the gradient methods that have one.

    Attributes:
        cagrad_c: radius of the ball around the mean gradient, in its lengths.
        fairgrad_alpha: 0 is the mean, 1 proportional fairness, large the worst task alone.
        gradvac_beta: rate of the moving averages of cosines.
        graddrop_leak: share of each gradient that passes whatever its sign.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cagrad_c: float = Field(0.5, ge=0)
    fairgrad_alpha: float = Field(2.0, ge=0)
    gradvac_beta: float = Field(0.5, ge=0, le=1)
    graddrop_leak: float = Field(0.0, ge=0, le=1)


class BalanceConfig(BaseModel):
    """How the tasks' losses become one gradient.

    Every method sees losses divided by their constant predictor's, so that none depends on a loss's unit.

    Attributes:
        method: `static` sums losses by importance, `volume` by importance and number of labels; `uncertainty`, `dual`,
            `lagrangian`, `dwa`, `famo` and `random` weigh losses as they learn; the others weigh or change the tasks'
            gradients. Rare labels gain from the others' whatever their share, frequent ones lose where it is small: on
            validation rows of the demo's data (five seeds) `volume` left purchase, repurchase and churn within .6
            standard deviations of models of their own or better.
        weights: importance by task name, in gradients and in early stopping; 1 for those left out.
        contrastive: the same of contrastive tasks that `weights` leaves out, in gradients alone. Other heads multiply
            the shared vectors by matrices of their own, these compare the vectors as they are: with three times the
            others' importance retrieval's loss there was that of a model of its own, with six times .1 % lower (its
            ranks .4 % worse with either). Methods that make gradients count alike whatever their scale ignore it.
        level: where gradients are compared: at the `feature`s that the heads read (about a tenth dearer than static),
            at the `lora` parameters, or at every shared `parameter` (4 to 8 times a step). Without meaning for
            methods that weigh losses.
        seed: of methods that draw.
        volume, dual, lagrangian, dwa, famo, random, gradnorm: numbers of the method of that name.
        surgery: numbers of the other gradient methods.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: ScalarMethod | GradientMethod = "volume"
    weights: dict[str, Importance] = Field(default_factory=dict)
    contrastive: Relative = 6.0
    level: Level = "feature"
    seed: int = Field(0, ge=0)
    volume: VolumeConfig = VolumeConfig()
    dual: DualConfig = DualConfig()
    lagrangian: LagrangianConfig = LagrangianConfig()
    dwa: DwaConfig = DwaConfig()
    famo: FamoConfig = FamoConfig()
    random: RandomConfig = RandomConfig()
    gradnorm: GradNormConfig = GradNormConfig()
    surgery: SurgeryConfig = SurgeryConfig()

    def for_tasks(self, kinds: Mapping[str, str]) -> Self:
        """Return the same with every importance written out, as far as the method takes notice of them.

        Args:
            kinds: of the tasks, by name.
        """
        if self.method in BLIND_TO_IMPORTANCE:
            return self
        own = {name: self.contrastive if kind == "contrastive" else 1.0 for name, kind in kinds.items()}
        return self.model_copy(update={"weights": {**own, **self.weights}})

    @model_validator(mode="after")
    def _limits_where_they_are_kept(self) -> Self:
        if self.method == "lagrangian" and not self.lagrangian.limits:
            raise ValueError("lagrangian.limits: expected a limit for at least one task, found none")
        if self.method != "lagrangian" and self.lagrangian.limits:
            raise ValueError(
                f"lagrangian.limits: expected method 'lagrangian', found {self.method!r}, which would not keep them"
            )
        return self
