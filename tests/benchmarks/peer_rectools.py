"""Fit a model of RecTools and list each user's best items, those of the history removed; see peers.py."""

from __future__ import annotations

import logging
import os
from typing import Any

import numpy as np
import pandas as pd
import torch
from peer_lists import LISTED, Asked, Clock, write
from pytorch_lightning import Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import EASEModel, SASRecModel
from rectools.models.nn.item_net import IdEmbeddingsItemNet
from rectools.models.nn.transformers.lightning import TransformerLightningModule

SEED = 0
PATIENCE, CUT = 3, 10


class EventsOnly(TransformerLightningModule):
    """The same softmax loss, worked out at events alone.

    RecTools works out logits at padding too and then drops them, which is nine of ten positions where histories are
    short: hours on a core, for the same value.
    """

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:  # noqa: ARG002 - as Lightning calls it
        """Return the mean cross-entropy over all items of the events that come next."""
        items = self.torch_model.item_model.get_all_embeddings()
        sessions = self.torch_model.encode_sessions(batch, items)
        events = batch["y"] != 0
        logits = self.torch_model.similarity_module(sessions[events], items)
        return torch.nn.functional.cross_entropy(logits, batch["y"][events])


def trainer() -> Trainer:
    """Return a trainer on the CPU that writes nothing."""
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def dataset(asked: Asked) -> Dataset:
    """Return the events as RecTools reads them; their order stands for the time."""
    days = pd.to_datetime(np.arange(len(asked.users)), unit="s")
    return Dataset.construct(
        pd.DataFrame(
            {Columns.User: asked.users, Columns.Item: asked.items, Columns.Weight: 1.0, Columns.Datetime: days}
        )
    )


def listed(model: Any, data: Dataset, users: np.ndarray) -> pd.DataFrame:
    """Return each user's best items with scores, those of the history removed."""
    return model.recommend(users=users, dataset=data, k=LISTED, filter_viewed=True, add_rank_col=True)


def ease(asked: Asked) -> None:
    """Fit EASE and write its lists."""
    data, clock = dataset(asked), Clock()
    model = EASEModel(**asked.settings)
    model.fit(data)
    seconds = clock.seconds()
    given(asked, listed(model, data, np.arange(asked.n_users)), seconds, {})


def sasrec(asked: Asked) -> None:
    """Train SASRec and write its lists: of the epoch with the best NDCG@10 of `truth`, or of the last one without."""
    seed_everything(SEED, verbose=False)
    data, clock = dataset(asked), Clock()
    settings = dict(asked.settings)
    epochs = settings.pop("epochs")
    model = SASRecModel(
        **settings,
        item_net_block_types=(IdEmbeddingsItemNet,),
        lightning_module_type=EventsOnly,
        get_trainer_func=trainer,
    )
    best, kept, reached, seconds = -1.0, None, 0, 0.0
    for epoch in range(1, epochs + 1):
        model.fit_partial(data, min_epochs=1, max_epochs=1)
        if asked.truth is None and epoch < epochs:
            continue
        seconds = clock.seconds()
        lists = listed(model, data, np.arange(asked.n_users))
        value = best if asked.truth is None else ndcg(lists, asked.truth)
        print(f"epoch {epoch}: {seconds:.0f} s, NDCG@10 {value:.4f}", flush=True)  # noqa: T201
        if kept is None or value > best:
            best, kept, reached = value, lists, epoch
        elif epoch - reached >= PATIENCE:
            break
    assert kept is not None, f"expected at least one epoch, found {epochs}"
    given(asked, kept, seconds, {"epochs": reached})


def ndcg(lists: pd.DataFrame, truth: np.ndarray) -> float:
    """Return NDCG@10 of one true item a user."""
    hits = lists[lists[Columns.Item].to_numpy() == truth[lists[Columns.User].to_numpy()]]
    ranks = hits[Columns.Rank].to_numpy()
    return float((1 / np.log2(ranks[ranks <= CUT] + 1.0)).sum() / len(truth))


def given(asked: Asked, lists: pd.DataFrame, seconds: float, told: dict[str, int]) -> None:
    """Write what `listed` returned."""
    users, items, scores = (lists[name].to_numpy() for name in (Columns.User, Columns.Item, Columns.Score))
    write(asked, users, items, scores, seconds, **told)


def main() -> None:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    asked = Asked.of_arguments()
    {"ease": ease, "sasrec": sasrec}[asked.model](asked)


if __name__ == "__main__":
    main()
