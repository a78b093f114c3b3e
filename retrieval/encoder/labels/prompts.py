"""Classification by filling in a word (PET; Schick & Schütze, 2021): from no label at all, or from a few.

Use:
    language = load_language_model(result.backbone)          # after `pretrain`, or any checkpoint with its head
    prompt = Prompt(language, task.classes, PromptConfig(template="{text} 这段话的主题是{mask}。"))
    fit_prompt(prompt, few_texts, few_labels)                # optional
    probabilities = prompt_probabilities(prompt, texts)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import structlog
import torch
from torch import Tensor, nn
from torch.nn import functional

from infra.errors import InvalidInputError, unknown_name
from retrieval.encoder.data import Float32
from retrieval.encoder.labels.config import PromptConfig
from retrieval.encoder.optimise import autocast, deterministic, make_optimizer, warmup_cosine
from retrieval.encoder.pretrain.language_model import LanguageModel
from retrieval.encoder.record import Bar
from retrieval.encoder.tokens import Int64, chunks

log = structlog.get_logger(__name__)

CHUNK_TOKENS: Final = 4096
LR_WARMUP: Final = 0.1
CLIP: Final = 1.0


class Prompt:
    """A template and the words of its classes, in one masked-language model's tokens.

    A word of k tokens, as most Chinese ones are, is read at k masks in one pass; its score is the mean of their log
    probabilities. A class's score is the mean over its words. Give the classes words of one length where you can: the
    number of masks alone tells the model much of the word.

    Args:
        language: with a trained head.
        classes: names by code.
        config: template, words, calibration.

    Attributes:
        words: by class the tokens of each of its words.
        prior: `[classes]` scores of the template around no text, or zeros.

    Raises:
        InvalidInputError: the backbone is causal or its head new; a word that the tokenizer doesn't know; words for a
            class that there is not; a template that leaves no room for text.
    """

    def __init__(self, language: LanguageModel, classes: Sequence[str], config: PromptConfig) -> None:
        _check(language, classes, config)
        self.language, self.classes, self.config = language, tuple(classes), config
        self._tokenizer = language.backbone.tokenizer
        words = [config.words.get(name, (name.replace("_", " "),)) for name in classes]
        self.words = [[self._word(word) for word in own] for own in words]
        self._lengths = sorted({len(word) for own in self.words for word in own})
        empty = len(self._prompts([""], self._lengths[-1])[0])
        self._room = config.max_tokens - empty
        if self._room < 1:
            raise InvalidInputError(f"max_tokens: expected more than the template's {empty}, found {config.max_tokens}")
        self.prior = torch.zeros(len(classes), device=language.device)
        if config.calibrate:
            with torch.no_grad():
                self.prior = self.scores([""])[0]

    def scores(self, texts: Sequence[str]) -> Tensor:
        """Return the classes' scores less their prior, `[n, classes]`, with gradients unless under no_grad."""
        cut = self._cut(texts)
        by_length = {length: self._log_probabilities(cut, length) for length in self._lengths}
        columns = []
        for own in self.words:
            each = []
            for word in own:
                found = by_length[len(word)]
                spots = torch.arange(len(word), device=found.device)
                each.append(found[:, spots, torch.tensor(word, device=found.device)].mean(1))
            columns.append(torch.stack(each).mean(0))
        return torch.stack(columns, dim=1) - self.prior

    def lengths(self, texts: Sequence[str]) -> Int64:
        """Return the tokens of each text's longest prompt, int64 `[n]`."""
        return np.array([len(ids) for ids in self._prompts(self._cut(texts), self._lengths[-1])], np.int64)

    def _log_probabilities(self, cut: Sequence[str], masks: int) -> Tensor:
        """Return log probabilities `[n, masks, vocabulary]` at the masks of each text's prompt."""
        device, pad = self.language.device, self.language.backbone.pad_id
        prompts = self._prompts(cut, masks)
        longest = max(len(ids) for ids in prompts)
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in prompts], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in prompts], device=device)
        with autocast(device):
            logits = self.language.logits_at(ids, mask, ids == self._tokenizer.mask_token_id)
        return functional.log_softmax(logits.float(), dim=1).view(len(prompts), masks, -1)

    def _prompts(self, cut: Sequence[str], masks: int) -> list[list[int]]:
        """Return the token ids of texts in the template, with so many masks."""
        filled = [self.config.template.format(text=text, mask=self._tokenizer.mask_token * masks) for text in cut]
        ids: list[list[int]] = self._tokenizer(filled, truncation=False, padding=False)["input_ids"]
        return ids

    def _cut(self, texts: Sequence[str]) -> list[str]:
        """Return texts without the mask's own name, short enough for their prompts."""
        clean = [text.replace(self._tokenizer.mask_token, " ") for text in texts]
        found = self._tokenizer(
            clean, truncation=True, max_length=self._room, add_special_tokens=False, return_offsets_mapping=True
        )["offset_mapping"]
        return [text[: spans[-1][1]] if spans else "" for text, spans in zip(clean, found, strict=True)]

    def _word(self, word: str) -> list[int]:
        """Return a word's tokens as they would stand in the template: behind a space where the mask is."""
        space = " " if " {mask}" in self.config.template else ""
        ids: list[int] = self._tokenizer(space + word, add_special_tokens=False)["input_ids"]
        if not ids or self._tokenizer.unk_token_id in ids:
            raise InvalidInputError(f"words: expected words of the tokenizer's vocabulary, found {word!r}")
        return ids


def prompt_probabilities(prompt: Prompt, texts: Sequence[str], *, progress: bool = True) -> Float32:
    """Return the probability of each class for each text, float32 `[n, classes]`, as `pseudo_labels` takes them.

    Args:
        prompt: as made, or fitted.
        texts: `[n]`; equal ones are read once.
        progress: show a bar where the terminal is one.
    """
    if not texts:
        return np.empty((0, len(prompt.classes)), np.float32)
    distinct = list(dict.fromkeys(texts))
    found = np.empty((len(distinct), len(prompt.classes)), np.float32)
    with torch.no_grad(), Bar(shown=progress) as bar:
        for rows in bar.track("encoder: prompts", chunks(prompt.lengths(distinct), CHUNK_TOKENS)):
            found[rows] = torch.softmax(prompt.scores([distinct[row] for row in rows]), dim=1).cpu().numpy()
    place = {text: row for row, text in enumerate(distinct)}
    return found[[place[text] for text in texts]]


def fit_prompt(prompt: Prompt, texts: Sequence[str], labels: Float32, *, progress: bool = True) -> None:
    """Let the language model learn to fill in the classes' words, by cross-entropy of their scores, in place.

    The prior stays as it was before. `save_language_model` writes what was learnt.

    Args:
        prompt: whose configuration gives budget, rate and seed.
        texts: `[n]`.
        labels: float32 `[n]` codes, NaN for none.
        progress: show a bar where the terminal is one; log lines are written in any case.

    Raises:
        InvalidInputError: a label too many or too few, one that is no class's code, or none at all.
    """
    _check_labels(prompt, texts, labels)
    config, model = prompt.config, prompt.language.model
    rows, rng = np.flatnonzero(~np.isnan(labels)), np.random.default_rng(config.seed)
    targets = torch.from_numpy(np.nan_to_num(labels).astype(np.int64)).to(prompt.language.device)
    optimizer = make_optimizer([(model.parameters(), config.learning_rate)], weight_decay=config.weight_decay)
    schedule = warmup_cosine(optimizer, config.steps, LR_WARMUP)
    losses = []
    with deterministic(), Bar(shown=progress) as bar:
        for _ in bar.track("encoder: prompt", range(config.steps)):
            drawn = rng.choice(rows, min(config.batch, len(rows)), replace=False)
            loss = functional.cross_entropy(prompt.scores([texts[row] for row in drawn]), targets[drawn])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    log.info("prompt_fitted", texts=len(rows), steps=config.steps, first_loss=losses[0], last_loss=losses[-1])


def _check(language: LanguageModel, classes: Sequence[str], config: PromptConfig) -> None:
    if language.backbone.causal:
        raise InvalidInputError("prompt: expected a masked-language model, found a causal backbone")
    if language.backbone.tokenizer.mask_token is None:
        raise InvalidInputError("prompt: expected a tokenizer with a mask token, found none")
    if language.head_is_new:
        raise InvalidInputError(
            "prompt: expected a backbone whose masked-token head is trained, found a new one; pretrain it on texts of "
            "the domain first, or name a checkpoint that has its head"
        )
    for name in config.words:
        if name not in classes:
            raise InvalidInputError(f"words: {unknown_name('class', name, classes)}")


def _check_labels(prompt: Prompt, texts: Sequence[str], labels: Float32) -> None:
    if len(labels) != len(texts):
        raise InvalidInputError(
            f"labels: expected one for each of {len(texts)} texts (NaN for none), found {len(labels)}"
        )
    present = labels[~np.isnan(labels)]
    if not len(present) or not np.isin(present, np.arange(len(prompt.classes))).all():
        found = f"{present.min()}..{present.max()}" if len(present) else "none"
        raise InvalidInputError(f"labels: expected whole numbers in [0, {len(prompt.classes)}), found {found}")
