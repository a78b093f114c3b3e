"""How long and how fast the backbone reads unlabelled texts; no torch here, because serving reads configurations."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class PretrainConfig(BaseModel):
    """Numbers of one pass of domain-adaptive pretraining (Gururangan et al., 2020).

    Attributes:
        steps: on the whole model; a count, so that a run repeats on any machine.
        head_steps: before those, steps on a new language-modelling head alone: a random head's gradients would undo
            what the backbone knows (Kumar et al., 2022). A head that is trained already, or that has no weights
            besides the input embeddings, takes none.
        batch: texts a step.
        max_tokens: kept of a text, special tokens included.
        mask_share: share of a text's tokens that a masked model predicts, one at least; a causal model predicts all.
        held_out: share of the distinct texts on which the loss is measured.
        learning_rate: highest, of the whole model.
        head_learning_rate: highest, of a new head alone.
        weight_decay: AdamW's, on matrices alone.
        lr_warmup: share of the steps over which the rate rises linearly, before its cosine fall.
        clip: limit of the gradient's norm.
        validate_every: steps between measurements on the texts held out.
        patience: measurements without improvement before the pass stops.
        seed: of a new head, of the texts held out, of batches and masks.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(1000, ge=1)
    head_steps: int = Field(100, ge=0)
    batch: int = Field(64, ge=1)
    max_tokens: int = Field(64, ge=3)
    mask_share: float = Field(0.15, gt=0, lt=1)
    held_out: float = Field(0.05, gt=0, lt=1)
    learning_rate: float = Field(5e-5, gt=0)
    head_learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    lr_warmup: float = Field(0.1, ge=0, le=1)
    clip: float = Field(1.0, gt=0)
    validate_every: int = Field(100, ge=1)
    patience: int = Field(3, ge=1)
    seed: int = Field(0, ge=0)
