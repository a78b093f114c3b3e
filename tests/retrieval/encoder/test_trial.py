"""One run of a study on the small world, whose labels the texts explain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from infra.errors import InvalidInputError
from retrieval.encoder.batch import PairLabels
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.data import EncoderTask, TrainingData
from retrieval.encoder.labels.config import ContrastiveConfig, FewLabelsConfig, PseudoLabelConfig
from retrieval.encoder.state_store import Memory
from retrieval.encoder.train import train
from retrieval.encoder.trial import measure, micro_f1, outranked, run_trial, with_parents


def test_a_trial_measures_what_it_trained_on_both_parts(study: TrainingData, small_config: EncoderConfig) -> None:
    config = small_config.model_copy(update={"steps": 60, "patience": 10})
    trial = run_trial(study, config, ["churn", "purchase"], memory=Memory(), progress=False)
    assert trial.tasks == ("purchase", "churn")
    assert trial.steps == 60
    for part in (trial.validation, trial.test):
        assert part.keys() == {"purchase", "churn"}
        churn = part["churn"]
        # Lovers of soap churn and every text names its taste: the world can be learnt.
        assert churn.metric == "auc"
        assert churn.value > 0.95
        assert churn.error == pytest.approx(1 - churn.value)
        assert churn.loss < 1


def test_no_run_reads_the_test_part(study: TrainingData, small_config: EncoderConfig) -> None:
    assert study.test is not None
    turned = replace(study.test, user_labels={"churn": 1 - study.test.user_labels["churn"]})
    plain, other = (
        run_trial(data, small_config, ["churn"], memory=Memory(), progress=False)
        for data in (study, replace(study, test=turned))
    )
    assert plain.validation == other.validation
    # The same scores against opposite labels.
    assert plain.test["churn"].value == pytest.approx(1 - other.test["churn"].value)


def test_a_trial_does_first_what_is_asked_for_few_labels(full_study: TrainingData, small_config: EncoderConfig) -> None:
    config = small_config.model_copy(update={"steps": 4, "validate_every": 4})
    warm_up = FewLabelsConfig(warm_up=ContrastiveConfig(steps=40, pairs=16, learning_rate=1e-3))
    plain, warmed = (
        run_trial(full_study, own, ["topic"], memory=Memory(), progress=False)
        for own in (config, config.model_copy(update={"few_labels": {"topic": warm_up}}))
    )
    # Its texts lie together by topic before any head learns.
    assert warmed.test["topic"].loss < 0.9 * plain.test["topic"].loss


def test_pseudo_labels_change_nothing_that_a_trial_is_measured_on(
    full_study: TrainingData, small_config: EncoderConfig
) -> None:
    config = small_config.model_copy(update={"steps": 0, "warmup": small_config.warmup.model_copy(update={"steps": 1})})
    pseudo = FewLabelsConfig(pseudo=PseudoLabelConfig(threshold=0.0))
    unlabelled = replace(full_study, unlabelled=["a text about soap", "a text about bread"])
    taught = run_trial(
        unlabelled, config.model_copy(update={"few_labels": {"topic": pseudo}}), ["topic"], memory=Memory(),
        progress=False,
    )  # fmt: skip
    plain = run_trial(full_study, config, ["topic"], memory=Memory(), progress=False)
    # One step of a new head says the classes' shares, whatever it learnt from.
    assert taught.test["topic"].loss == pytest.approx(plain.test["topic"].loss, rel=0.05)


def test_runs_of_other_tasks_are_measured_on_the_same_rows(
    study: TrainingData, small_config: EncoderConfig, tmp_path: Path
) -> None:
    alone = replace(study, tasks=study.tasks[1:2])
    prepared = train(alone, small_config, out=tmp_path, progress=False).prepared
    among_all = replace(prepared, placed=replace(prepared.placed, data=study))
    found = measure(prepared, study, small_config, "test")
    assert found == measure(among_all, study, small_config, "test")
    # Batches drawn for this task alone would hold other items.
    assert found != measure(prepared, alone, small_config, "test")


def test_a_shared_memory_changes_a_run_by_rounding_alone(study: TrainingData, small_config: EncoderConfig) -> None:
    memory = Memory()
    first = run_trial(study, small_config, ["churn"], memory=memory, progress=False)
    again = run_trial(study, small_config, ["churn"], memory=memory, progress=False)
    assert again.test["churn"].loss == pytest.approx(first.test["churn"].loss, abs=0.02)


def test_every_kind_of_task_has_a_quality(full_study: TrainingData, small_config: EncoderConfig) -> None:
    config = small_config.model_copy(update={"steps": 4, "validate_every": 4})
    trial = run_trial(full_study, config, [task.name for task in full_study.tasks], memory=Memory(), progress=False)
    metrics = {name: quality.metric for name, quality in trial.test.items()}
    assert metrics == {
        "retrieval": "auc", "purchase": "auc", "repurchase": "auc", "churn": "auc", "return": "auc",
        "rating": "relative_loss", "taste": "accuracy", "spend": "relative_loss", "demand": "relative_loss",
        "topic": "accuracy", "urgent": "auc", "tone": "relative_loss", "answer": "auc", "slots": "accuracy",
    }  # fmt: skip
    assert all(0 <= quality.error < 20 for quality in trial.test.values())
    # None of the world's tags is O, so every unit counts.
    assert trial.test["slots"].f1 == pytest.approx(trial.test["slots"].value)
    assert trial.test["topic"].f1 is None


def test_f1_of_tags_by_hand() -> None:
    # Tagged B, I, B; found B at the first and a false B at the second place: one hit of 3 tagged and 2 found.
    truth, found = (np.array(codes, np.float32) for codes in ([1, 0, 2, 1, 0], [1, 1, 0, 0, 0]))
    assert micro_f1(truth, found, ("O", "B", "I")) == pytest.approx(2 * 1 / (3 + 2))
    # Found under another tag is no hit.
    assert micro_f1(np.array([1.0]), np.array([2.0]), ("O", "B", "I")) == 0
    assert micro_f1(np.zeros(3), np.zeros(3), ("O", "B")) is None
    # Without O all five count, two of them right.
    assert micro_f1(truth, found, ("A", "B", "C")) == pytest.approx(2 * 2 / (5 + 5))


def test_a_child_brings_its_parents() -> None:
    def task(name: str, parent: str | None = None) -> EncoderTask:
        return EncoderTask(name=name, kind="binary", on="pair", parent=parent)

    tasks = (task("view"), task("click", "view"), task("buy", "click"), task("share"))
    assert [one.name for one in with_parents(tasks, ["buy"])] == ["view", "click", "buy"]
    topic = EncoderTask(name="topic", kind="multiclass", on="text", classes=("a", "b"))
    urgent = EncoderTask(name="urgent", kind="binary", on="text", energy=("topic",))
    assert with_parents([*tasks, topic, urgent], ["urgent"]) == (topic, urgent)
    with pytest.raises(InvalidInputError, match="unknown task 'sharee'"):
        with_parents(tasks, ["sharee"])


def test_a_positive_counts_the_negatives_of_its_own_row_below_it() -> None:
    yes = torch.tensor
    pairs = PairLabels(
        label=torch.zeros(2, 4),
        present=torch.ones(2, 4, dtype=torch.bool),
        drawn=yes([[True, False, False, False], [False, True, False, True]]),
        excluded=yes([[True, True, False, False], [False, True, False, True]]),
        shift=torch.zeros(2, 4),
    )
    logits = yes([[2.0, 9.0, 1.0, 2.0], [0.0, 5.0, 1.0, 0.5]])
    # First row: of the negatives 1 and 2, one is below 2 and one equals it: (1 + 1/2) / 2; the excluded 9 is none.
    # Second row: 5 is above 0 and 1, 0.5 above one of them.
    assert outranked(pairs, logits) == pytest.approx([0.75, 1.0, 0.5])
