"""How the sequence model is made and trained."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class SequenceConfig(BaseModel):
    """The sequence model; saved with it.

    Attributes:
        length: the last so many events are read.
        width: of an item's and a user's vector.
        blocks: transformer blocks.
        heads: attention heads; they divide `width`.
        reader: `attention` reads the order of events; `mean` averages them, whatever their order.
        learnt: whether an item seen in training gets a vector of its own beside the projection of its text's; without
            it only texts tell items apart.
        again: whether a user may come back to an item. Where not, items of the history don't compete in the loss, and
            come last in the source's list.
        dropout: share of values dropped, of the inputs and in the blocks.
        temperature: logits are cosines over it; learnt from here on.
        sampled_above: catalogues of more items take a sampled softmax instead of the whole one.
        negatives: items a batch that a sampled softmax draws by their frequency, with the logQ correction.
        batch: events a step, about.
        learning_rate: of AdamW at its height: a tenth of the steps rise to it, then it falls to zero in a half cosine.
        weight_decay: of AdamW.
        epochs: passes over the histories.
        patience: epochs without a better held-out loss before training ends.
        held_out: users whose last event is held out to choose the epoch by; 0 trains all epochs on all events.
        precision: of the products with the catalogue; bf16 takes 40% of the time of fp32 on a core with AVX-512 BF16.
        seed: of weights, order and dropout.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    length: int = Field(50, ge=1)
    width: int = Field(64, ge=1)
    blocks: int = Field(2, ge=0)
    heads: int = Field(2, ge=1)
    reader: Literal["attention", "mean"] = "attention"
    learnt: bool = True
    again: bool = True
    dropout: float = Field(0.3, ge=0, lt=1)
    temperature: float = Field(0.07, gt=0)
    sampled_above: int = Field(50_000, ge=0)
    negatives: int = Field(4_096, ge=1)
    batch: int = Field(1_024, ge=2)
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    epochs: int = Field(15, ge=1)
    patience: int = Field(3, ge=1)
    held_out: int = Field(2_000, ge=0)
    precision: Literal["fp32", "bf16"] = "bf16"
    seed: int = 0

    @model_validator(mode="after")
    def _divides(self) -> SequenceConfig:
        if self.width % self.heads:
            raise ValueError(f"expected heads that divide width, found {self.heads} heads of width {self.width}")
        return self
