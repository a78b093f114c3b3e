"""Which tokens of a text a head's logit comes from, by integrated gradients on their embeddings.

Use:
    encoder = load_encoder(release / "encoder")
    question = Question(task="purchase", texts={"user": "often oat milk", "item": "oat drink, 1 l"})
    found = attribute(encoder, question, "item")
    found.logit - found.baseline_logit, sum(word.value for word in found.words)   # equal up to found.delta
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from captum.attr import IntegratedGradients  # type: ignore[import-untyped]
from torch import Tensor

from retrieval.encoder.backbone import Backbone, pool
from retrieval.encoder.batch import View
from retrieval.encoder.config import Kind
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.explain.load import LoadedEncoder
from retrieval.encoder.explain.question import (
    CLASSIFYING,
    Question,
    TaggedUnit,
    check_question,
    tagged_unit,
    task_of,
)
from retrieval.encoder.explain.spans import ReadText, Token, Word, read_text
from retrieval.encoder.model import Features, MultiTaskEncoder

STEPS: Final = 50
# Padded tokens a pass: all the points of a short text's path at once, a long one's in turn.
CHUNK_TOKENS: Final = 4096


@dataclass(frozen=True, kw_only=True)
class TokenShare:
    """What one token adds to the logit; 0 for special tokens and the prefix, which the baseline has too."""

    token: Token
    value: float


@dataclass(frozen=True, kw_only=True)
class WordShare:
    """What the tokens of one word add to the logit together."""

    word: Word
    text: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """A logit, divided among the tokens of one text.

    Attributes:
        task: whose head.
        kind: of the text.
        text: without the prefix of its kind.
        label: class of a multiclass task, or tag; else None.
        unit: of a tag task, the unit whose tag it is; else None.
        logit: of the text, as serving computes it.
        baseline_logit: of the same text with its own tokens masked.
        delta: sum of the tokens' values less (logit - baseline_logit): what the steps leave unexplained.
        tokens: all, special ones too.
        words: the text's own tokens, grouped.
        read: characters read; the rest was cut off as too long.
    """

    task: str
    kind: Kind
    text: str
    label: str | None
    unit: TaggedUnit | None
    logit: float
    baseline_logit: float
    delta: float
    tokens: tuple[TokenShare, ...]
    words: tuple[WordShare, ...]
    read: int


def attribute(encoder: LoadedEncoder, question: Question, of: Kind, *, steps: int = STEPS) -> Attribution:
    """Divide a logit among the tokens of one of its texts (Sundararajan et al., 2017), the other one held fixed.

    A token's value is the integral of the logit's gradient along the straight line from the baseline's embedding to its
    own, times their difference. The baseline is the same text with every token of its own replaced by the mask token
    (padding, where the tokenizer has none); special tokens and the prefix stay. All of it in float32.

    Args:
        encoder: that serving runs.
        question: the logit.
        of: the kind of text whose tokens it is divided among.
        steps: points of the path at which gradients are taken (Gauss-Legendre); the values' sum nears the difference of
            the logits as they grow, and `delta` tells how near.

    Raises:
        InvalidInputError: no such task, class or unit, other texts than a row of the task has, a blank text, no steps.
    """
    task = task_of(encoder, question.task)
    check_question(task, question, of, steps)
    read = {kind: read_text(encoder, text, kind) for kind, text in question.texts.items()}
    model, own = encoder.model, read[of]
    unit = None if question.unit is None else tagged_unit(task, own, question.unit)
    table = model.backbone.model.get_input_embeddings()
    with torch.no_grad():
        fixed = {kind: _vector(model, _embed(table, other.ids), kind) for kind, other in read.items() if kind != of}
        ends = torch.cat([_embed(table, ids) for ids in (own.ids, _baseline(own, model.backbone))])
    logits = _logits(model, task, of, fixed) if unit is None else _tag_logits(model, task, unit)
    with torch.no_grad():
        at_ends = logits(ends)
    column = _column(task, question.label, at_ends[0])
    values = IntegratedGradients(logits).attribute(
        ends[:1], baselines=ends[1:], target=column, n_steps=steps,
        internal_batch_size=max(1, CHUNK_TOKENS // ends.shape[1]),
    )  # fmt: skip
    scores = at_ends if column is None else at_ends[:, column]
    label = None if column is None else task.classes[column]
    return _attribution(task, own, label, unit, scores, values.detach()[0].sum(1))


def _attribution(
    task: EncoderTask, own: ReadText, label: str | None, unit: TaggedUnit | None, scores: Tensor, values: Tensor
) -> Attribution:
    """Put the numbers beside the text: logits `[2]` of the text and its baseline, values `[tokens]`."""
    shares = values.tolist()
    logit, baseline_logit = scores.tolist()
    words = tuple(
        WordShare(word=word, text=own.text[word.start : word.end], value=sum(shares[place] for place in word.tokens))
        for word in own.words
    )
    return Attribution(
        task=task.name,
        kind=own.kind,
        text=own.text,
        label=label,
        unit=unit,
        logit=logit,
        baseline_logit=baseline_logit,
        delta=sum(shares) - (logit - baseline_logit),
        tokens=tuple(TokenShare(token=token, value=value) for token, value in zip(own.tokens, shares, strict=True)),
        words=words,
        read=own.read,
    )


def _logits(
    model: MultiTaskEncoder, task: EncoderTask, of: Kind, fixed: Mapping[Kind, Tensor]
) -> Callable[[Tensor], Tensor]:
    """Return the task's logits `[n]`, or `[n, classes]`, as a function of token embeddings `[n, length, dim]`."""

    def logits(embedded: Tensor) -> Tensor:
        vectors = {_view(task, kind): vector for kind, vector in fixed.items()}
        vectors[_view(task, of)] = _vector(model, embedded, of)
        found = model.logits(task, Features(vectors=vectors), {})
        # Of a pair one side is a single row: [n, 1] or [1, n].
        return found if task.kind == "multiclass" else found.reshape(-1)

    return logits


def _tag_logits(model: MultiTaskEncoder, task: EncoderTask, unit: TaggedUnit) -> Callable[[Tensor], Tensor]:
    """Return the logits of a unit's tags `[n, tags]` as a function of token embeddings `[n, length, dim]`."""

    def logits(embedded: Tensor) -> Tensor:
        states, _ = _states(model, embedded)
        found: Tensor = model.heads[task.name](states[:, unit.token])
        return found

    return logits


def _view(task: EncoderTask, kind: Kind) -> View:
    return "item_row" if task.on == "item" else kind


def _vector(model: MultiTaskEncoder, embedded: Tensor, kind: Kind) -> Tensor:
    """Return unit vectors `[n, dim]` of texts without padding, given as token embeddings `[n, length, dim]`."""
    states, mask = _states(model, embedded)
    return model.vectors(pool(states, mask, model.backbone.pooling), kind)


def _states(model: MultiTaskEncoder, embedded: Tensor) -> tuple[Tensor, Tensor]:
    """Return token states `[n, length, dim]` and the mask that hides none."""
    mask = torch.ones(embedded.shape[:2], dtype=torch.int64)
    return model.backbone.model(inputs_embeds=embedded, attention_mask=mask).last_hidden_state, mask


def _embed(table: torch.nn.Module, ids: Tensor) -> Tensor:
    embedded: Tensor = table(ids)
    return embedded


def _baseline(own: ReadText, backbone: Backbone) -> Tensor:
    """Return the text's ids with its own tokens masked, int64 `[1, tokens]`."""
    mask_id = backbone.tokenizer.mask_token_id
    blank = backbone.pad_id if mask_id is None else int(mask_id)
    is_own = torch.tensor([[token.is_own for token in own.tokens]])
    return own.ids.masked_fill(is_own, blank)


def _column(task: EncoderTask, label: str | None, logits: Tensor) -> int | None:
    """Return the code of the class or tag asked for, or else of the likeliest; None of a task without."""
    if task.kind not in CLASSIFYING:
        return None
    return int(logits.argmax()) if label is None else task.classes.index(label)
