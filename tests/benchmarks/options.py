"""Every option of the encoder that is one line of a workspace, against the workspace as it is: gain of each task.

usage: python tests/benchmarks/options.py -w WORKSPACE [--as-of DATE] [--seeds 2] [--group COLUMN] [--labels N]
           [--only NAME ...]

A run changes the lines of one option and nothing else, trains all tasks, and is measured on rows that no run reads
(`retrieval.encoder.trial` says by what). Finished runs are lines of RESULTS (by default below the workspace) and never
repeated, so that the command can be stopped and started again; it prints the table of all runs so far.

A figure is the relative fall of a task's error from the default's of the same seed, %, positive when better, with a 95%
Student interval over seeds. `noise` is the default's own deviation over seeds in the same unit: a gain within it is
none. `time` is training's wall time over the default's. No option was tuned.

Options for parties and groups need users, those for few labels a task of classes on texts; `--labels 8` keeps so many
training labels of each class of such a task, for the default too, and leaves the other texts unlabelled.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
from rich.console import Console
from rich.table import Table

from flows.build import Build
from flows.cli import parse_as_of
from flows.tune.report import over_seeds
from flows.tune.runs import Run, Runs
from flows.tune.study_data import StudyData, study_data
from flows.workspace import Workspace
from infra.settings import Settings
from retrieval.encoder.balance.config import BalanceConfig, GradientMethod, ScalarMethod
from retrieval.encoder.config import BackboneConfig, EncoderConfig
from retrieval.encoder.data import EncoderTask, TrainingData
from retrieval.encoder.pretrain.config import PretrainConfig
from retrieval.encoder.pretrain.pretrain import pretrain
from retrieval.encoder.trial import Trial

CONSOLE = Console(width=180)
DEFAULT = "default"
Lines = Mapping[str, object]


def options(tasks: Sequence[EncoderTask], column: str | None) -> Iterator[tuple[str, Lines]]:
    """Yield every option's name and lines of `encoder`, the default's first; `column` is one of users, if any."""
    yield DEFAULT, {}
    if len(tasks) > 1:
        yield from _balances(tasks)
    yield from _trainings()
    if column is not None:
        yield from _parties(tasks, column)
    yield from _few_labels([task.name for task in tasks if _has_classes(task)])


def _balances(tasks: Sequence[EncoderTask]) -> Iterator[tuple[str, Lines]]:
    limits = {"lagrangian": {"limits": {task.name: 0.9 for task in tasks}}}
    for method in (*get_args(ScalarMethod), *get_args(GradientMethod)):
        if method != BalanceConfig().method:
            yield method, {"balance": {"method": method, **(limits if method == "lagrangian" else {})}}
    if any(task.kind == "contrastive" for task in tasks):
        yield "all tasks alike", {"balance": {"contrastive": 1.0}}
    yield "rows by volume", {"batch": {"task_exponent": 1.0}}
    yield "residual", {"residual": {}}
    for method in ("reptile", "fomaml", "anil"):
        yield method, {"meta": {"method": method}}


def _trainings() -> Iterator[tuple[str, Lines]]:
    yield "heads alone", {"steps": 0}
    yield "top layer", {"train_layers": 1}
    yield "all layers", {"train_layers": None}
    yield "all layers, decaying rates", {"train_layers": None, "layer_decay": 0.8}
    yield "gradual unfreezing", {"unfreeze": {"every": 25}}
    yield "LoRA", {"lora": {}, "learning_rate": 5e-4}
    yield "no warm-up", {"warmup": {"steps": 0}}
    yield "token dropout", {"augment": {"tokens": {}}}
    yield "mixup", {"augment": {"mixup": 0.2}}
    yield "dropout", {"dropout": 0.1}
    yield "R-Drop", {"dropout": 0.1, "rdrop": 1.0}
    yield "FGM, all layers", {"train_layers": None, "fgm": 0.5}
    yield "SGD", {"optimizer": "sgd", "learning_rate": 5e-3, "head_learning_rate": 1e-2}
    yield "pretraining", {"pretrain": {"steps": 200}}


def _parties(tasks: Sequence[EncoderTask], column: str) -> Iterator[tuple[str, Lines]]:
    party, last = {"on": "user", "column": column}, tasks[-1].name
    if len(tasks) > 1:
        yield "reptile by party", {"meta": {"method": "reptile", "domains": party}}
    yield "FedMix", {"fedmix": {"party": party}}
    limit = {"task": last, **party, "measure": "loss_gap", "limit": 0.02, "rows": 10}
    yield f"limit on {last}'s loss gap", {"limits": [limit]}


def _few_labels(tasks: Sequence[str]) -> Iterator[tuple[str, Lines]]:
    if not tasks:
        return

    def each(**lines: object) -> dict[str, object]:
        return {"few_labels": dict.fromkeys(tasks, lines)}

    yield "linear heads", {"hidden": 0}
    yield "linear heads from the classes' names", {"hidden": 0, **each(class_names={})}
    yield "warm-up on pairs", each(warm_up={"steps": 300})
    yield "pseudo-labels", each(pseudo={})
    yield "pseudo-labels, flexible", each(pseudo={"method": "flexible"})
    # Only a backbone that was pretrained on masked words fills any in.
    yield "prompt after pretraining", {"pretrain": {"steps": 200}, **each(prompt={}, pseudo={"method": "flexible"})}


def _has_classes(task: EncoderTask) -> bool:
    return task.on == "text" and task.kind == "multiclass"


def main() -> None:
    arguments = _arguments()
    workspace = Workspace.load(arguments.workspace)
    column = arguments.group if workspace.config.parts.events else None
    groups = {} if column is None else {"user": (column,)}
    data = study_data(Build.start(workspace, Settings(), arguments.as_of), groups)
    if arguments.labels is not None:
        data = with_few_labels(data, arguments.labels)
    tasks = tuple(task.name for task in data.tasks)
    study = StudyData(data=data, encoder=workspace.config.encoder, tasks=tasks)
    runs = Runs(arguments.results or workspace.folder / "options.jsonl")
    found: dict[str, list[Run]] = {}
    for seed in range(arguments.seeds):
        for name, lines in options(data.tasks, column):
            if arguments.only and name not in (DEFAULT, *arguments.only):
                continue
            config = changed(study.encoder, {**lines, "seed": seed})
            run = runs.do(name, config, partial(trained, study, config, workspace.state))
            found.setdefault(name, []).append(run)
            if run.trial is None:
                CONSOLE.print(f"{name}, seed {seed}: failed: {run.reason}", highlight=False)
    show(found, tasks, arguments.part)


def with_few_labels(data: TrainingData, labels: int) -> TrainingData:
    """Return the data with so many training labels of each class, always the same ones; every text stays."""
    rng = np.random.default_rng(0)
    kept = dict(data.texts.labels)
    for task in filter(_has_classes, data.tasks):
        own = kept[task.name]
        rows = [rng.permutation(np.flatnonzero(own == code))[:labels] for code in range(len(task.classes))]
        few = np.full_like(own, np.nan)
        few[np.concatenate(rows)] = own[np.concatenate(rows)]
        kept[task.name] = few
    return replace(data, texts=replace(data.texts, labels=kept))


def changed(encoder: EncoderConfig, lines: Lines) -> EncoderConfig:
    """Return the configuration with these lines in place of its own."""
    content = encoder.model_dump()
    for name, value in lines.items():
        own = content[name]
        content[name] = {**own, **value} if isinstance(own, dict) and isinstance(value, dict) else value
    return EncoderConfig.model_validate(content)


def trained(study: StudyData, config: EncoderConfig, state: Path) -> Trial | str:
    """Train all tasks; a backbone that reads the texts first is kept for the next seed."""
    if config.pretrain is not None:
        backbone = _pretrained(study.data, config, config.pretrain, state / "options-pretrained")
        config = config.model_copy(update={"backbone": backbone, "pretrain": None})
    return study.attempt(config, study.tasks)


def _pretrained(data: TrainingData, config: EncoderConfig, own: PretrainConfig, folder: Path) -> BackboneConfig:
    if not folder.exists():
        pretrain(config.backbone, [*data.item_texts, *data.texts.texts], own, folder)
    return config.backbone.model_copy(update={"name": str(folder), "sha256": None})


def show(found: Mapping[str, Sequence[Run]], tasks: Sequence[str], part: str) -> None:
    """Print each option's gain by task, the mean gain, and its time."""
    table = Table(title=f"Gain over the default on {part} rows, %", title_justify="left")
    for column in ("option", *tasks, "mean", "time"):
        table.add_column(column, justify="left" if column == "option" else "right")
    default = {run.seed: run.trial for run in found[DEFAULT] if run.trial is not None}
    noise = [_noise([_error(trial, task, part) for trial in default.values()]) for task in tasks]
    table.add_row("noise", *(f"{own:.1f}" for own in noise), "", "")
    for name, runs in found.items():
        pairs = [(run.trial, default[run.seed]) for run in runs if run.trial is not None and run.seed in default]
        if name == DEFAULT or not pairs:
            continue
        gains = np.array([
            [100 * (1 - _error(trial, task, part) / _error(base, task, part)) for task in tasks]
            for trial, base in pairs
        ])  # fmt: skip
        times = [trial.seconds / base.seconds for trial, base in pairs]
        cells = [_interval(column) for column in (*gains.T, gains.mean(axis=1))]
        table.add_row(name, *cells, f"{np.median(times):.1f}")
    CONSOLE.print(table)


def _error(trial: Trial, task: str, part: str) -> float:
    return (trial.test if part == "test" else trial.validation)[task].error


def _noise(errors: Sequence[float]) -> float:
    return float(100 * np.std(errors, ddof=1) / np.mean(errors)) if len(errors) > 1 else float("nan")


def _interval(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:+.1f}"
    own = over_seeds(list(values))
    assert own.high is not None
    return f"{own.value:+.1f} ± {own.high - own.value:.1f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-w", "--workspace", type=Path, required=True)
    parser.add_argument("--as-of", type=parse_as_of, default=None)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--group", default="age", help="column of users: parties, domains and the limit's groups")
    parser.add_argument("--labels", type=int, default=None, help="training labels kept of each class on texts")
    parser.add_argument("--only", nargs="+", default=[], help="options by name; None takes all")
    parser.add_argument("--part", choices=("validation", "test"), default="test")
    parser.add_argument("--results", type=Path, default=None)
    return parser.parse_args()


if __name__ == "__main__":
    main()
