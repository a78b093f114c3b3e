"""Every task's head in numpy: what serving and ranking read of a trained encoder beside its texts.

Use:
    heads = Heads.load(release / "encoder")
    side = heads.item_side("purchase", item_vectors)      # once a release
    logits = heads.side_logits("purchase", user_vector, side[candidates])
    churn = heads.row_logits("churn", user_vectors)
    slots = heads.tag_probabilities("slots", token_states)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file
from scipy.special import expit, logsumexp, softmax

from infra.errors import InvalidInputError
from retrieval.encoder.layout import HEADS, Description, EncoderFilesError, TaskEntry

Float32 = npt.NDArray[np.float32]

# Added to a state's variance before its root, as torch's layer norm does in training.
_EPSILON: Final = np.float32(1e-5)


@dataclass(frozen=True)
class Heads:
    """Every task's head over unit vectors, or of tags over token states, in numpy.

    Attributes:
        tasks: by name.
        arrays: by task, the head's arrays (see `retrieval.encoder.heads`).
    """

    tasks: Mapping[str, TaskEntry]
    arrays: Mapping[str, Mapping[str, Float32]]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load the heads of an exported encoder.

        Raises:
            EncoderFilesError: a file is missing or of another format.
        """
        description = Description.read(folder)
        if not (folder / HEADS).is_file():
            raise EncoderFilesError(f"{folder}: expected {HEADS}, found no such file")
        return cls.of(description, load_file(folder / HEADS))

    @classmethod
    def of(cls, description: Description, flat: Mapping[str, Float32]) -> Self:
        """Return the heads of an encoder whose arrays, as its file names them, are at hand."""
        arrays: dict[str, dict[str, Float32]] = {task.name: {} for task in description.tasks}
        for key, value in flat.items():
            group, _, name = key.rpartition("/")
            if group.startswith("head/"):
                arrays[group.removeprefix("head/")][name] = value
        return cls({task.name: task for task in description.tasks}, arrays)

    def item_side(self, task: str, item_vectors: Float32) -> Float32:
        """Precompute a pair task's item half.

        Args:
            task: a pair task, or a contrastive one on texts.
            item_vectors: float32 `[n, dim]` unit vectors.

        Returns:
            float32 `[n, rank + 1]`: V v, then b . v + c. For retrieval `[n, dim + 1]`: v, then 0.
        """
        head = self._pair_head(task)
        if self.tasks[task].kind == "contrastive":
            return np.hstack([item_vectors, np.zeros((len(item_vectors), 1), np.float32)])
        constant = item_vectors @ head["item"] + head["bias"]
        return np.hstack([item_vectors @ head["right"].T, constant[:, None]]).astype(np.float32, copy=False)

    def side_logits(self, task: str, user_vector: Float32, item_side: Float32) -> Float32:
        """Return the head's own logits, without its parent's: float32 `[n]` of one user `[dim]` and rows of a side."""
        head = self._pair_head(task)
        if self.tasks[task].kind == "contrastive":
            scaled: Float32 = item_side[:, :-1] @ (user_vector * head["scale"])
            return scaled
        logits: Float32 = item_side[:, :-1] @ (head["left"] @ user_vector) + item_side[:, -1]
        return logits + head["user"] @ user_vector

    def pair_logits(self, task: str, user_vector: Float32, item_vectors: Float32) -> Float32:
        """Return logits float32 `[n]` of one user `[dim]` and items `[n, dim]`, unit vectors both.

        A child's parent is in them; for a regression they are the numbers themselves.
        """
        own = self.side_logits(task, user_vector, self.item_side(task, item_vectors))
        parent = self.tasks[task].parent
        return own if parent is None else product_logit(self.pair_logits(parent, user_vector, item_vectors), own)

    def row_logits(self, task: str, vectors: Float32) -> Float32:
        """Return logits of a task on users, items or texts for unit vectors float32 `[n, dim]`.

        Returns:
            float32 `[n]`, or `[n, classes]` of a multiclass task; a child's parent is in them; for a regression they
            are the numbers themselves.
        """
        head = self._head(task, ("user", "item", "text"))
        states = vectors
        if "inner" in head:
            states = np.maximum(states @ head["inner"].T + head["inner_bias"], 0)
        logits: Float32 = states @ head["outer"].T + head["bias"]
        entry = self.tasks[task]
        if entry.kind == "multiclass":
            return logits
        if entry.energy:
            weight, *factors = head["energy"]
            classes = [self.row_logits(name, vectors) * own for name, own in zip(entry.energy, factors, strict=True)]
            logits = logits + weight * logsumexp(np.hstack(classes), axis=1, keepdims=True).astype(np.float32)
        parent = entry.parent
        own: Float32 = logits[:, 0]
        return own if parent is None else product_logit(self.row_logits(parent, vectors), own)

    def row_predictions(self, task: str, vectors: Float32) -> Float32:
        """Return `row_logits` as probabilities `[n]` or `[n, classes]`; the numbers of a regression as they are."""
        logits, kind = self.row_logits(task, vectors), self.tasks[task].kind
        if kind == "regression":
            return logits
        found: Float32 = softmax(logits, axis=1) if kind == "multiclass" else expit(logits)
        return found

    def tag_entry(self, task: str) -> TaskEntry:
        """Return a tag task's entry.

        Raises:
            InvalidInputError: no such task, or none of tags.
        """
        entry = self.tasks.get(task)
        if entry is None or entry.kind != "token_tags":
            known = sorted(own.name for own in self.tasks.values() if own.kind == "token_tags")
            raise InvalidInputError(
                f"task: expected one of tags ({', '.join(known) or 'this encoder has none'}), found {task!r}"
            )
        return entry

    def tag_probabilities(self, task: str, states: Float32) -> Float32:
        """Return a tag task's probabilities, float32 `[tokens, tags]`, of token states float32 `[tokens, dim]`.

        Raises:
            InvalidInputError: no such task, or none of tags.
        """
        head = self.arrays[self.tag_entry(task).name]
        centred = states - states.mean(axis=1, keepdims=True)
        normalised = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + _EPSILON)
        found: Float32 = softmax(normalised @ head["outer"].T + head["bias"], axis=1)
        return found

    def _pair_head(self, task: str) -> Mapping[str, Float32]:
        if task in self.tasks and self.tasks[task].kind == "contrastive":
            return self.arrays[task]
        return self._head(task, ("pair",))

    def _head(self, task: str, on: tuple[str, ...]) -> Mapping[str, Float32]:
        entry = self.tasks.get(task)
        if entry is None or entry.on not in on or entry.kind == "token_tags":
            fits = (own for own in self.tasks.values() if own.on in on and own.kind != "token_tags")
            known = sorted(own.name for own in fits)
            rows = " or ".join(on)
            raise InvalidInputError(
                f"task: expected one on {rows} ({', '.join(known) or 'this encoder has none'}), found {task!r}"
            )
        return self.arrays[task]


def product_logit(parent: Float32, own: Float32) -> Float32:
    """Return the logit of sigmoid(parent) x sigmoid(own), float32 `[n]`; see `retrieval.encoder.heads`."""
    found: Float32 = -logsumexp(np.stack([-parent, -own, -parent - own]), axis=0)
    return found.astype(np.float32, copy=False)
