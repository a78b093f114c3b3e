"""From training data and a configuration to a model, its tokens, and batches that are positions in one token table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from retrieval.encoder.adapt.alternatives import Alternatives, Written, place_forms, write_forms
from retrieval.encoder.adapt.start import start_backbone
from retrieval.encoder.backbone import Backbone, load_backbone, set_trainable
from retrieval.encoder.batches import Batcher
from retrieval.encoder.config import BatchConfig, EncoderConfig, Kind
from retrieval.encoder.data import TextData, TrainingData
from retrieval.encoder.labelled_rows import LabelledRows
from retrieval.encoder.model import MultiTaskEncoder
from retrieval.encoder.packed import TextPooler
from retrieval.encoder.state_store import Memory, SharedStates
from retrieval.encoder.tokens import Int64, TokenTable, token_tags, tokenize

Texts = Mapping[Kind, Sequence[str]]
Part = Literal["train", "held_out", "test"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """Training data whose texts are positions in a token table.

    Attributes:
        data: what it was made from.
        item_texts: int64 `[n_items]` token table positions.
        user_texts: the same of each cut's users.
        texts: free training texts.
        held_out_texts: those held out.
        test_texts: those of studies.
    """

    data: TrainingData
    item_texts: Int64
    user_texts: list[Int64]
    texts: LabelledRows
    held_out_texts: LabelledRows
    test_texts: LabelledRows

    def batcher(self, config: BatchConfig, part: Part = "train", *, newest: int | None = None) -> Batcher:
        """Return what draws batches of the training part (of its `newest` cuts alone), or of another one."""
        cuts = len(self.data.train)
        chosen = {
            "train": slice(max(0, cuts - (newest or cuts)), cuts),
            "held_out": slice(cuts, cuts + 1),
            "test": slice(cuts + 1, cuts + 2),
        }[part]
        texts = {"train": self.texts, "held_out": self.held_out_texts, "test": self.test_texts}[part]
        return Batcher(
            self.data.tasks,
            self.data.cuts[chosen],
            user_texts=self.user_texts[chosen],
            item_texts=self.item_texts,
            popularity=self.data.popularity,
            config=config,
            texts=texts,
            item_groups=self.data.item_groups,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """Data and model, ready to be trained.

    Attributes:
        placed: the data.
        model: heads and projections new, the backbone as loaded, layers frozen as configured.
        pooler: from token table positions to pooled states.
        replay: data of old, where it is read.
        shared: states that no run changes.
        alternatives: other forms of the training texts, where there are any.
    """

    placed: Placed
    model: MultiTaskEncoder
    pooler: TextPooler
    shared: SharedStates
    replay: Placed | None = None
    alternatives: Alternatives | None = None

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def batcher(self, config: BatchConfig, part: Part = "train", *, newest: int | None = None) -> Batcher:
        """Return what draws batches of the data; see `Placed.batcher`."""
        return self.placed.batcher(config, part, newest=newest)

    def with_layers(self, train_layers: int | None, cache_mb: int) -> Prepared:
        """Return the same with another number of top layers through which texts have gradients."""
        pooler = TextPooler(
            self.model.backbone, self.pooler.table, train_layers=train_layers, cache_mb=cache_mb, shared=self.shared
        )
        return replace(self, pooler=pooler)


def prepare(
    data: TrainingData, config: EncoderConfig, *, replay: TrainingData | None = None, memory: Memory | None = None
) -> Prepared:
    """Load the backbone, put every text into one token table, and make new heads.

    Args:
        data: texts and labels.
        config: backbone, sizes, other forms of texts.
        replay: data of old.
        memory: of a study, to share states with its other runs.

    Raises:
        BackboneError: no such backbone.
        EncoderFilesError: no encoder to start from.
        AdaptError: other forms of texts cannot be made.
    """
    start = config.start
    backbone = load_backbone(config.backbone if start is None else start_backbone(config.backbone, start))
    table, placed, alternatives = _place([data] if replay is None else [data, replay], backbone, config)
    train_layers = config.train_layers if config.steps else 0
    set_trainable(backbone, train_layers)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = MultiTaskEncoder(backbone, data.tasks, config).to(device)
    shared = (memory or Memory()).of(table, f"{config.backbone.model_dump_json()} {config.start}")
    return Prepared(
        placed=placed[0],
        model=model,
        pooler=TextPooler(backbone, table, train_layers=train_layers, cache_mb=config.cache_mb, shared=shared),
        shared=shared,
        replay=placed[1] if len(placed) > 1 else None,
        alternatives=alternatives,
    )


def _place(
    sources: Sequence[TrainingData], backbone: Backbone, config: EncoderConfig
) -> tuple[TokenTable, list[Placed], Alternatives | None]:
    """Tokenise the texts of all data and the other forms of the first one's."""
    rng = np.random.default_rng([config.seed, 1])
    written = write_forms(_training(sources[0]), config.augment, rng) if config.augment.texts else None
    parts: list[Texts] = [_texts(data) for data in sources] + ([written.texts] if written else [])
    joined: Texts = {kind: [text for part in parts for text in part[kind]] for kind in parts[0]}
    table, found = tokenize(backbone.tokenizer, joined, config.backbone)
    ends = {kind: np.cumsum([len(part[kind]) for part in parts])[:-1] for kind in joined}
    split = {kind: np.split(found[kind], ends[kind]) for kind in joined}
    positions = [{kind: own[number] for kind, own in split.items()} for number in range(len(parts))]
    placed = [_placed(data, own, backbone, config) for data, own in zip(sources, positions, strict=False)]
    if written is None:
        return table, placed, None
    table, alternatives = _alternatives(table, placed[0], (written, positions[-1]), backbone, config)
    return table, placed, alternatives


def _alternatives(
    table: TokenTable, placed: Placed, written: tuple[Written, dict[Kind, Int64]], backbone: Backbone,
    config: EncoderConfig,
) -> tuple[TokenTable, Alternatives]:  # fmt: skip
    training = placed.user_texts[: len(placed.data.train)]
    texts: dict[Kind, Int64] = {
        "item": placed.item_texts,
        "user": np.concatenate([*training, np.empty(0, np.int64)]),
        "text": placed.texts.positions,
    }
    rng = np.random.default_rng([config.seed, 2])
    return place_forms(table, texts, written, backbone.tokenizer, config.augment, rng)


def _placed(data: TrainingData, positions: dict[Kind, Int64], backbone: Backbone, config: EncoderConfig) -> Placed:
    ends = np.cumsum([len(cut.users) for cut in data.cuts])[:-1]
    sizes = [len(part.texts) for part in (data.texts, data.validation_texts)]
    training, held_out, test = np.split(positions["text"], np.cumsum(sizes))
    return Placed(
        data=data,
        item_texts=positions["item"],
        user_texts=np.split(positions["user"], ends) if data.cuts else [],
        texts=_labelled(data.texts, training, backbone, config),
        held_out_texts=_labelled(data.validation_texts, held_out, backbone, config),
        test_texts=_labelled(data.test_texts, test, backbone, config),
    )


def _texts(data: TrainingData) -> Texts:
    """Return the texts of all kinds; user texts stand cut by cut, free texts as training, held out, test."""
    return {
        "item": list(data.item_texts),
        "user": [text for cut in data.cuts for text in cut.user_texts],
        "text": [*data.texts.texts, *data.validation_texts.texts, *data.test_texts.texts],
    }


def _training(data: TrainingData) -> Texts:
    """Return the texts that training reads; each kind's are the first of those in `_texts`."""
    return {
        "item": list(data.item_texts),
        "user": [text for cut in data.train for text in cut.user_texts],
        "text": list(data.texts.texts),
    }


def _labelled(data: TextData, positions: Int64, backbone: Backbone, config: EncoderConfig) -> LabelledRows:
    tags = {name: token_tags(backbone.tokenizer, data.texts, own, config.backbone) for name, own in data.tags.items()}
    return LabelledRows.of_texts(data, positions, tags)
