"""What can be chosen where labels are few; no torch here, because serving reads configurations."""

from __future__ import annotations

import string
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


def _fields(template: str) -> list[str]:
    parts = list(string.Formatter().parse(template))
    if any(spec or conversion for _, _, spec, conversion in parts):
        raise ValueError(f"expected plain {{name}} placeholders, found {template!r}")
    return [field for _, field, _, _ in parts if field is not None]


def _prompt(template: str) -> str:
    if sorted(_fields(template)) != ["mask", "text"]:
        raise ValueError(f"expected {{text}} and {{mask}}, each once, found {template!r}")
    return template


def _name_template(template: str) -> str:
    if _fields(template) != ["name"]:
        raise ValueError(f"expected {{name}} once, found {template!r}")
    return template


class PromptConfig(BaseModel):
    """A text's class as a word that a masked-language model fills in (Schick & Schütze, 2021).

    Attributes:
        template: around a text; `{mask}` stands where a class's word would.
        words: by class name, the words that stand for it; a class left out is its own name, underscores as spaces.
        max_tokens: of a prompt; the text is cut, never the template.
        calibrate: subtract what each class scores without a text, so that a word that is common everywhere doesn't win
            (Zhao et al., 2021).
        steps: of `fit_prompt` on labelled texts.
        batch: labelled texts a step.
        learning_rate: highest, of the whole model.
        weight_decay: AdamW's, on matrices alone.
        seed: of batches.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    template: Annotated[str, AfterValidator(_prompt)] = "{text} This text is about {mask}."
    words: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(default_factory=dict)
    max_tokens: int = Field(128, ge=8)
    calibrate: bool = True
    steps: int = Field(100, ge=1)
    batch: int = Field(16, ge=1)
    learning_rate: float = Field(2e-5, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    seed: int = Field(0, ge=0)


class ContrastiveConfig(BaseModel):
    """Warm-up of the backbone on pairs of labelled texts (SetFit; Tunstall et al., 2022).

    Attributes:
        steps: a count, so that a run repeats on any machine; the paper's 20 + 20 pairs a text take
            40 x texts / pairs.
        pairs: of a step; half of them of one class, half of two.
        learning_rate: highest, of whatever is trainable.
        weight_decay: AdamW's, on matrices alone.
        lr_warmup: share of the steps over which the rate rises linearly, before its cosine fall.
        clip: limit of the gradient's norm.
        seed: of the pairs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(100, ge=1)
    pairs: int = Field(32, ge=2)
    learning_rate: float = Field(2e-5, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    lr_warmup: float = Field(0.1, ge=0, le=1)
    clip: float = Field(1.0, gt=0)
    seed: int = Field(0, ge=0)


class ClassNameConfig(BaseModel):
    """A head that starts from the names of its classes.

    Attributes:
        template: around a class's name, underscores as spaces.
        temperature: the logit of a class is the cosine of text and name over it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    template: Annotated[str, AfterValidator(_name_template)] = "{name}"
    temperature: float = Field(0.07, gt=0, allow_inf_nan=False)


class PseudoLabelConfig(BaseModel):
    """Which predictions are taken for labels.

    Attributes:
        threshold: probability that a prediction must reach.
        by_class: the same for single classes, by name.
        method: `fixed`, or `flexible`: classes that reach their threshold rarely get a lower one (FlexMatch; Zhang et
            al., 2021).
        floor: below which no flexible threshold falls.
        cap: labels taken of a class, the most probable first; None takes all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: Share = 0.95
    by_class: dict[str, Share] = Field(default_factory=dict)
    method: Literal["fixed", "flexible"] = "fixed"
    floor: Share = 0.7
    cap: int | None = Field(None, ge=1)


class LabelQueueConfig(BaseModel):
    """Which texts a person should label next.

    Attributes:
        size: rows of the list, at most.
        measure: of uncertainty: `margin` between the two best classes, `entropy`, or `least_confidence`.
        breadth: candidates for each row of the list: among the `breadth` x `size` most uncertain texts, the list
            takes those far from each other and from all labelled ones; 1 takes the most uncertain as they are.
        seed: order of texts that are equally uncertain.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(100, ge=1)
    measure: Literal["margin", "entropy", "least_confidence"] = "margin"
    breadth: int = Field(5, ge=1)
    seed: int = Field(0, ge=0)


class FewLabelsConfig(BaseModel):
    """What is done for one task on texts whose labels are few: a line for each, in this order.

    Attributes:
        prompt: the texts without a label are judged by the word that a masked-language model fills in, not by a first
            training; so `pseudo` works from no label at all, and where there are some the model learns from them first.
        warm_up: the backbone moves texts of one class together, before any head learns.
        pseudo: training also learns from the texts that a first one (or the prompt) is sure of.
        class_names: the head begins with the names of its classes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: PromptConfig | None = None
    warm_up: ContrastiveConfig | None = None
    pseudo: PseudoLabelConfig | None = None
    class_names: ClassNameConfig | None = None

    @model_validator(mode="after")
    def _lines_fit(self) -> Self:
        if self.prompt is not None and self.pseudo is None:
            raise ValueError("prompt: expected pseudo, which says what of it is taken for labels, found none")
        if self.warm_up is None and self.pseudo is None and self.class_names is None:
            raise ValueError("expected one of warm_up, pseudo and class_names, found none")
        return self
