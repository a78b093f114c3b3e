"""Joint batches: some users at some cuts, some items and free texts, and every task's labels between and on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from retrieval.encoder.batch import Batch, PairLabels, RowLabels, TagLabels, View, row_labels
from retrieval.encoder.config import BatchConfig
from retrieval.encoder.data import CutData, EncoderTask, Float64, Int32
from retrieval.encoder.labelled_rows import LabelledRows, draw_rows, space_weights
from retrieval.encoder.pair_tables import Bool, PairTables, pair_labels, same_text
from retrieval.encoder.tokens import Int64

_NO_TEXTS = LabelledRows(positions=np.empty(0, np.int64))


class Batcher:
    """Draws batches from cuts, from free texts, or from both.

    Args:
        tasks: heads whose labels a batch carries.
        cuts: where users, items and their labels come from.
        user_texts: token table position of each cut's user texts, int64 `[n_users of the cut]`.
        item_texts: the same of every item, int64 `[n_items]`.
        popularity: float64 `[n_items]`.
        config: sizes.
        texts: free texts and their labels.
        item_groups: by column int32 `[n_items]` codes.
    """

    def __init__(
        self, tasks: Sequence[EncoderTask], cuts: Sequence[CutData], *, user_texts: Sequence[Int64], item_texts: Int64,
        popularity: Float64, config: BatchConfig, texts: LabelledRows = _NO_TEXTS,
        item_groups: Mapping[str, Int32] | None = None,
    ) -> None:  # fmt: skip
        self.config, self.item_texts = config, item_texts
        self.user_texts = np.concatenate([*user_texts, np.empty(0, np.int64)])
        self.pairs = PairTables(tasks, cuts, len(item_texts), config)
        self.item_groups = item_groups or {}
        self.item_rows = LabelledRows.of_items(tasks, cuts, item_texts, self.item_groups)
        self.texts = texts
        exponent = config.task_exponent
        self.item_weights = space_weights(self.item_rows.members(), len(self.item_rows.positions), exponent)
        self.text_weights = space_weights(texts.members(), len(texts.positions), exponent)
        answers = [task.name for task in tasks if task.on == "text" and task.kind == "contrastive"]
        self.answers = {name: texts.answers[name] for name in answers if name in texts.answers}
        self.negative = self.pairs.negative_probability(popularity)
        if self.answers and not self.negative.any():
            self.negative = np.full(len(item_texts), 1 / len(item_texts))
        expected = config.negatives * self.negative + self.pairs.expected_draws() + self._expected_answers()
        self.q = np.clip(1 - np.exp(-expected), 1e-9, 1 - 1e-9)

    def _expected_answers(self) -> Float64:
        """Return how often a batch draws each item as a text's answer, float64 `[n_items]`."""
        size = min(self.config.texts, len(self.text_weights))
        expected = np.zeros(len(self.item_texts))
        for items in self.answers.values():
            has = items >= 0
            np.add.at(expected, items[has], size * self.text_weights[has])
        return expected

    @property
    def reachable(self) -> Int64:
        """Token table positions of every text that a batch can hold, with repeats, int64."""
        return np.concatenate(
            [self.item_texts[self.q > 1e-8], self.user_texts, self.item_rows.positions, self.texts.positions]
        )

    def __call__(self, rng: np.random.Generator) -> Batch:
        """Draw one batch."""
        pairs = self.pairs
        owners = draw_rows(pairs.weights, self.config.users, rng) if pairs.n_owners else np.empty(0, np.int64)
        own, drawn_items, listed = pairs.draw_items(owners, rng)
        texts = draw_rows(self.text_weights, self.config.texts, rng)
        rows = draw_rows(self.item_weights, self.config.item_rows, rng)
        answered = [answers[texts].astype(np.int64) for answers in self.answers.values()]
        parts = [drawn_items, *listed, *(answers[answers >= 0] for answers in answered)]
        if self.negative.any():
            parts.append(rng.choice(len(self.item_texts), self.config.negatives, p=self.negative))
        items = np.unique(np.concatenate(parts))
        column = np.full(len(self.item_texts), -1, np.int64)
        column[items] = np.arange(len(items))
        text_of = np.unique(self.item_texts[items], return_inverse=True)[1].reshape(-1)
        drawn = np.zeros((len(owners), len(items)), bool)
        drawn[own, column[drawn_items]] = True
        found = dict(pairs.labels(owners, items, column, drawn, text_of, self.q))
        found |= {name: _answer_labels(own, column, text_of) for name, own in zip(self.answers, answered, strict=True)}
        labels, tags = self._row_labels(owners, rows, texts)
        views: dict[View, Int64] = {
            "user": self.user_texts[owners],
            "item": self.item_texts[items],
            "item_row": self.item_rows.positions[rows],
            "text": self.texts.positions[texts],
        }
        return Batch(
            views=views,
            items=items,
            log_q=torch.from_numpy(np.log(self.q[items]).astype(np.float32)),
            pairs={name: each for name, each in found.items() if bool(each.present.any())},
            rows=labels,
            tags=tags,
            groups=self._groups(owners, items, rows, texts),
        )

    def _groups(self, owners: Int64, items: Int64, rows: Int64, texts: Int64) -> dict[View, dict[str, Tensor]]:
        """Return the codes of every view's rows."""
        return {
            "user": _codes(self.pairs.groups, owners),
            "item": _codes(self.item_groups, items),
            "item_row": _codes(self.item_rows.groups, rows),
            "text": _codes(self.texts.groups, texts),
        }

    def _row_labels(
        self, owners: Int64, rows: Int64, texts: Int64
    ) -> tuple[dict[str, RowLabels], dict[str, TagLabels]]:
        """Return the labels on users, items and texts."""
        users = {name: row_labels(labels[owners]) for name, labels in self.pairs.user_labels.items()}
        items, _ = self.item_rows.batch_labels(rows)
        free, tags = self.texts.batch_labels(texts)
        return {name: labels for name, labels in users.items() if labels is not None} | items | free, tags


def _codes(groups: Mapping[str, Int32], rows: Int64) -> dict[str, Tensor]:
    return {column: torch.from_numpy(codes[rows].astype(np.int64)) for column, codes in groups.items()}


def _answer_labels(answers: Int64, column: Int64, text_of: Int64) -> PairLabels:
    """Return which item answers each text, `[texts, items]`; a text without an answer has no negatives either."""
    shape = (len(answers), len(text_of))
    positive: Bool = np.zeros(shape, bool)
    known = np.flatnonzero(answers >= 0)
    positive[known, column[answers[known]]] = True
    present = np.broadcast_to((answers >= 0)[:, None], shape).copy()
    excluded = ~present | same_text(positive, text_of)
    return pair_labels(positive.astype(np.float32), present, positive, excluded, np.zeros(shape))
