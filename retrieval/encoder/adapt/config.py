"""Options of training, each off by default; no torch here, because serving reads an encoder's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Words = Annotated[tuple[str, ...], Field(min_length=1)]


class LoraConfig(BaseModel):
    """Low-rank adapters in place of whole matrices (Hu et al., 2022), in the layers that `train_layers` opens.

    Attributes:
        rank: of an adapter.
        alpha: an adapter's output is multiplied by alpha / rank.
        dropout: on an adapter's input while training.
        targets: last names of the linear layers that get one, such as `query`; `auto` takes every linear layer of a
            transformer block.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(8, ge=1)
    alpha: int = Field(16, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: Literal["auto"] | Words = "auto"


class LimitConfig(BaseModel):
    """A gap between groups of rows that training keeps below a limit, while the task learns.

    Among the weights of a run, those are kept whose held-out losses are lowest, an excess counted by the highest
    multiplier.

    Attributes:
        task: whose predictions.
        on: whose column tells the groups: the task's rows are of these, or pairs with one.
        column: of the users, items or texts.
        measure: `rate_gap`, the highest less the lowest mean predicted probability of a group (of a task on pairs, over
            those that batches sample); `loss_gap`, the same of mean losses over the constant predictor's.
        limit: that the gap shall not exceed; `balance.lagrangian` says how fast and how far its multiplier rises.
        rows: labelled rows in the window from which on a group counts.
        window: batches over which a group's mean is taken.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    on: Literal["user", "item", "text"]
    column: str
    measure: Literal["rate_gap", "loss_gap"]
    limit: float = Field(gt=0, allow_inf_nan=False)
    rows: int = Field(30, ge=1)
    window: int = Field(50, ge=1)

    @property
    def name(self) -> str:
        """How balance, weights and errors call it."""
        return f"{self.task} {self.measure} by {self.on} {self.column}"


class ResidualConfig(BaseModel):
    """Labels explained by the other tasks' predictions on the same rows, as a regulariser.

    Attributes:
        weight: of the term against each task's loss, both in units of the constant predictor's.
        pairs: (explained, explaining) tasks; None takes every pair on the same rows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(0.1, gt=0)
    pairs: tuple[tuple[str, str], ...] | None = Field(None, min_length=1)


class GroupColumn(BaseModel):
    """A column whose values tell groups of rows.

    Attributes:
        on: whose column: the users', the items' or the texts'.
        column: its name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    on: Literal["user", "item", "text"]
    column: str


class MetaConfig(BaseModel):
    """First-order meta-learning: a start from which a few steps on one task go far, in place of the best for all.

    Each task, or each domain, is an episode of every step: weights adapt to it by plain gradient descent on some
    batches, and go back; what the adaptation showed is the step's gradient. A step costs as many passes through the
    layers that learn as there are episodes, times `steps`, or `steps` + 1 of `fomaml` and `anil`.

    Attributes:
        method: `reptile` follows the adaptation itself (Nichol et al., 2018); `fomaml` takes the adapted weights'
            gradient on another batch (Finn et al., 2017); `anil` adapts heads alone (Raghu et al., 2020).
        steps: of gradient descent in an episode, each on a batch of its own.
        rate: of these, for losses over their constant predictor's.
        domains: makes an episode of each group of users, items or texts, with all tasks on them (those on pairs count
            to users); rows without a value are left out, and every other task stays an episode.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["reptile", "fomaml", "anil"]
    steps: int = Field(3, ge=1)
    rate: float = Field(0.01, gt=0)
    domains: GroupColumn | None = None


class FedmixConfig(BaseModel):
    """Mixup with averages of other parties (Yoon et al., 2021), for binary, multiclass and regression tasks.

    Attributes:
        party: tells whose a row is; tasks on other rows keep their plain loss.
        ratio: the average's share in a mixture; the form holds for small ones, 0.05 to 0.2 in the paper.
        rows: labelled rows of one average; a batch must hold as many of a party for it to take part.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    party: GroupColumn
    ratio: float = Field(0.1, ge=0, lt=1)
    rows: int = Field(8, ge=2)


class UnfreezeConfig(BaseModel):
    """Gradual unfreezing (Howard and Ruder, 2018): the top layer learns first.

    Attributes:
        every: fine-tuning steps after which one more layer opens, until all that `train_layers` names are open; the
            embeddings, where they learn at all, come last.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    every: int = Field(ge=1)


class TokenDropoutConfig(BaseModel):
    """Alternatives of a text without some of its tokens; special tokens always stay.

    Attributes:
        rate: share of the tokens.
        how: `remove` them, or `replace` them by the mask token (the unknown one where there is no mask).
        variants: alternatives of each text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rate: float = Field(0.1, gt=0, lt=1)
    how: Literal["remove", "replace"] = "remove"
    variants: int = Field(2, ge=1)


class SynonymConfig(BaseModel):
    """Alternatives of a text with some words exchanged.

    Attributes:
        words: what each word may become; upper and lower case are alike. A word of a script that is written without
            spaces is found inside other words as well.
        file: more of them: a UTF-8 file with one word a line, followed by its synonyms, all separated by tabs.
        rate: probability that an occurrence is exchanged.
        variants: alternatives of each text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    words: dict[str, Words] = Field(default_factory=dict)
    file: Path | None = None
    rate: float = Field(0.3, gt=0, le=1)
    variants: int = Field(2, ge=1)

    @model_validator(mode="after")
    def _some_words(self) -> Self:
        if not self.words and self.file is None:
            raise ValueError("expected words or a file, found neither")
        return self


class AugmentConfig(BaseModel):
    """Training texts in other forms, and mixtures of their vectors; what is held out stays as it is.

    Attributes:
        tokens: token dropout.
        synonyms: exchanged words.
        back_translation: `package.module:function` from a list of texts to as many paraphrases; it is called once,
            with every distinct training text.
        share: of a batch's texts that are read in one of their other forms.
        mixup: alpha of the Beta distribution by which two rows are mixed (Zhang et al., 2018); 0 mixes nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: TokenDropoutConfig | None = None
    synonyms: SynonymConfig | None = None
    back_translation: str | None = Field(None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    share: float = Field(0.5, gt=0, le=1)
    mixup: float = Field(0.0, ge=0)

    @property
    def texts(self) -> bool:
        """Whether texts get other forms."""
        return self.tokens is not None or self.synonyms is not None or self.back_translation is not None


class KeepConfig(BaseModel):
    """What holds an encoder to what it was started from.

    Attributes:
        kl: weight of the divergence of its predictions from the start's, on every batch's texts.
        ewc: weight of squared changes, by how much the start's losses depend on each weight; needs replay data.
        replay: share of the steps that are drawn from replay data.
        fisher_batches: replay batches on which `ewc` measures that dependence.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kl: float = Field(0.0, ge=0)
    ewc: float = Field(0.0, ge=0)
    replay: float = Field(0.0, ge=0, lt=1)
    fisher_batches: int = Field(16, ge=1)
