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


class ResidualConfig(BaseModel):
    """Labels explained by the other tasks' predictions on the same rows, as a regulariser.

    Attributes:
        weight: of the term against each task's loss, both in units of the constant predictor's.
        pairs: (explained, explaining) tasks; None takes every pair on the same rows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(0.1, gt=0)
    pairs: tuple[tuple[str, str], ...] | None = Field(None, min_length=1)


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
