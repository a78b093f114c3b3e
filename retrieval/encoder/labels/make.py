"""From few labels to training: prompts, the warm-up of the backbone, and a first training give what the last one reads.

Use:
    ready = use_few_labels(data, config, folder)              # writes the warmed backbone into the folder
    train(ready.data, ready.config, out=...)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch

from infra.files import sha256_file
from retrieval.encoder.backbone import WEIGHTS, load_backbone, set_trainable
from retrieval.encoder.config import BackboneConfig, EncoderConfig
from retrieval.encoder.data import Bool, EncoderTask, Float32, TextData, TrainingData
from retrieval.encoder.labels.checks import check_few_labels, classes_of
from retrieval.encoder.labels.config import PromptConfig, PseudoLabelConfig
from retrieval.encoder.labels.contrastive import contrastive_warm_up
from retrieval.encoder.labels.extra_rows import extra_rows, joined
from retrieval.encoder.labels.prompts import Prompt, fit_prompt, prompt_probabilities
from retrieval.encoder.labels.pseudo import PseudoLabels, pseudo_labels
from retrieval.encoder.labels.report import FewLabelsReport, GivenLabel, TaskPseudoLabels, WarmUpReport
from retrieval.encoder.labels.text_probabilities import text_probabilities
from retrieval.encoder.pretrain.language_model import load_language_model
from retrieval.encoder.train import train

# From texts to class probabilities float32 `[n, classes]`.
Judge = Callable[[Sequence[str]], Float32]

# Of a task that has no label to stop by, one pseudo-label in this many is held out.
_HELD_OUT_IN: Final = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class FewLabels:
    """What training goes on with.

    Attributes:
        data: with the pseudo-labels among its texts.
        config: with the warmed backbone.
        report: what was done.
        given: every pseudo-label.
    """

    data: TrainingData
    config: EncoderConfig
    report: FewLabelsReport = field(default_factory=FewLabelsReport)
    given: tuple[GivenLabel, ...] = ()


def use_few_labels(
    data: TrainingData, config: EncoderConfig, folder: Path, *, progress: bool = True,
    replay: TrainingData | None = None,
) -> FewLabels:  # fmt: skip
    """Do what `config.few_labels` asks for before training; without an entry, nothing.

    Prompts come first, by the backbone as it is, so that the warm-up can learn from what they say; the first training
    is like the last one but for the labels that it gives.

    Args:
        data: texts, labels, and texts without any.
        config: of training.
        folder: made when something is written; training reads the backbone from it.
        progress: show a bar where the terminal is one.
        replay: as `train` takes it.

    Raises:
        InvalidInputError: an entry that the tasks contradict, too few labels to warm up on, or a backbone that fills in
            no words.
    """
    check_few_labels(config, data.tasks)
    ready = FewLabels(data=data, config=config)
    for task, settings, prompt in _pseudo_labelled(ready, by_prompt=True):
        assert prompt is not None
        judge = _prompt_judge(ready, task, prompt, progress=progress)
        ready = _with_pseudo_labels(ready, task, settings, judge, "prompt")
    ready = _with_warm_up(ready, folder / "backbone", progress=progress)
    judged = _pseudo_labelled(ready, by_prompt=False)
    if not judged:
        return ready
    model = train(ready.data, ready.config, out=folder / "first", progress=progress, replay=replay).model
    for task, settings, _ in judged:
        read = partial(text_probabilities, model, task, backbone_config=config.backbone, progress=progress)
        ready = _with_pseudo_labels(ready, task, settings, read, "first training")
    return ready


def _pseudo_labelled(
    ready: FewLabels, *, by_prompt: bool
) -> list[tuple[EncoderTask, PseudoLabelConfig, PromptConfig | None]]:
    """Return the tasks that get pseudo-labels by a prompt, or by a first training, with their settings."""
    tasks = {task.name: task for task in ready.data.tasks}
    return [
        (tasks[name], own.pseudo, own.prompt)
        for name, own in ready.config.few_labels.items()
        if own.pseudo is not None and (own.prompt is not None) == by_prompt
    ]


def _prompt_judge(ready: FewLabels, task: EncoderTask, config: PromptConfig, *, progress: bool) -> Judge:
    """Return what fills in the words, after it has learnt from the labels that there are."""
    prompt = Prompt(load_language_model(ready.config.backbone), classes_of(task), config)
    texts, labels = ready.data.texts.texts, _labels(ready.data.texts, task)
    if not np.isnan(labels).all():
        fit_prompt(prompt, texts, labels, progress=progress)
    return partial(prompt_probabilities, prompt, progress=progress)


def _with_pseudo_labels(
    ready: FewLabels, task: EncoderTask, config: PseudoLabelConfig, judge: Judge,
    name: Literal["prompt", "first training"],
) -> FewLabels:  # fmt: skip
    """Return the same with what the judge is sure of as labels of the task."""
    data, texts = ready.data, unlabelled_texts(ready.data, task)
    known = ~np.isnan(_labels(data.validation_texts, task))
    held_out = list(compress(data.validation_texts.texts, known))
    found = pseudo_labels(
        judge(texts), np.zeros(len(texts), bool), classes_of(task), config,
        held_out=judge(held_out), held_out_labels=_labels(data.validation_texts, task)[known],
    )  # fmt: skip
    stops = np.zeros(len(found.rows), bool)
    if not known.any():
        order = np.random.default_rng(ready.config.seed).permutation(len(stops))
        stops[order[: len(stops) // _HELD_OUT_IN]] = True
    teaching, stopping = (extra_rows(texts, _part(found, rows), task.name, data.tasks) for rows in (~stops, stops))
    classes = classes_of(task)
    given = tuple(
        GivenLabel(
            task=task.name, text=texts[row], label=classes[int(code)], confidence=float(sure), held_out=bool(out)
        )
        for row, code, sure, out in zip(found.rows, found.codes, found.confidence, stops, strict=True)
    )
    entry = TaskPseudoLabels(task=task.name, judge=name, found=found.report)
    return replace(
        ready,
        data=replace(
            data, texts=joined(data.texts, teaching), validation_texts=joined(data.validation_texts, stopping)
        ),
        report=ready.report.model_copy(update={"pseudo": (*ready.report.pseudo, entry)}),
        given=(*ready.given, *given),
    )


def unlabelled_texts(data: TrainingData, task: EncoderTask) -> list[str]:
    """Return the distinct texts to judge: those without a label of the task, unless they are held out.

    A text that is held out for any task is left out: its copy among the training texts would flatter what stops
    training.
    """
    labelled = compress(data.texts.texts, ~np.isnan(_labels(data.texts, task)))
    left_out = {*labelled, *data.validation_texts.texts, *data.test_texts.texts}
    return [text for text in dict.fromkeys([*data.texts.texts, *data.unlabelled]) if text not in left_out]


def _with_warm_up(ready: FewLabels, folder: Path, *, progress: bool) -> FewLabels:
    """Return the same with a backbone that has learnt to tell the classes apart, one task after the other."""
    config, data, report = ready.config, ready.data, dict[str, WarmUpReport]()
    asked = {name: own.warm_up for name, own in config.few_labels.items() if own.warm_up is not None}
    if not asked:
        return ready
    backbone = load_backbone(config.backbone).to("cuda" if torch.cuda.is_available() else "cpu")
    set_trainable(backbone, config.train_layers)
    for task in (task for task in data.tasks if task.name in asked):
        report[task.name] = contrastive_warm_up(
            backbone, data.texts.texts, _labels(data.texts, task), asked[task.name],
            backbone_config=config.backbone, progress=progress,
        )  # fmt: skip
    backbone.model.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
    return replace(
        ready,
        config=config.model_copy(update={"backbone": _at(config.backbone, folder)}),
        report=ready.report.model_copy(update={"warm_up": report}),
    )


def _at(config: BackboneConfig, folder: Path) -> BackboneConfig:
    return config.model_copy(update={"name": str(folder), "sha256": sha256_file(folder / WEIGHTS)})


def _labels(data: TextData, task: EncoderTask) -> Float32:
    """Return the task's labels, float32 `[n]`, NaN for none."""
    return data.labels.get(task.name, np.full(len(data.texts), np.nan, np.float32))


def _part(found: PseudoLabels, rows: Bool) -> PseudoLabels:
    return replace(found, rows=found.rows[rows], codes=found.codes[rows], confidence=found.confidence[rows])
