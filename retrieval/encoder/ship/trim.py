"""A backbone without the token embeddings that its texts never use."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import structlog
import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from retrieval.encoder.backbone import Backbone, BackboneError
from retrieval.encoder.config import BackboneConfig, Kind
from retrieval.encoder.ship.vocabulary import Int64, trim_vocabulary
from retrieval.encoder.tokens import tokenize

log = structlog.get_logger(__name__)

# Every kept token is compared, in rows as long as a short text, so many rows at once; nothing but rounding may differ.
_ROW: Final = 16
_ROWS: Final = 256
_TOLERANCE: Final = 1e-5


def trim_tokens(backbone: Backbone, texts: Mapping[Kind, Sequence[str]], config: BackboneConfig) -> Backbone:
    """Return a copy that knows only the tokens of these texts, special tokens and single characters.

    These texts' vectors stay exactly as they were. A word that none of them holds falls into letters, whose vectors say
    little: give every text at hand, the users' too, and leave the vocabulary whole where searches are free text.

    Args:
        backbone: stays as it is.
        texts: by kind.
        config: prefixes and lengths; what truncation cuts off counts as unused.

    Returns:
        The copy, with a tokenizer of its own.

    Raises:
        BackboneError: states change, as in a model that counts positions from the padding's id where that moves.
        InvalidInputError: the tokenizer's model is of an unknown kind.
    """
    table, _ = tokenize(backbone.tokenizer, texts, config)
    used = np.unique(table.ids)
    tokenizer, kept = trim_vocabulary(_backend(backbone.tokenizer), {backbone.pad_id, *used.tolist()})
    new = {int(old): row for row, old in enumerate(kept)}
    model = copy.deepcopy(backbone.model)
    _cut_embeddings(model, kept, new)
    _rewrite_ids(model, new)
    wrapped = _wrapped(tokenizer, backbone.tokenizer)
    trimmed = Backbone(model, wrapped, backbone.pooling, causal=backbone.causal).eval()
    again, _ = tokenize(trimmed.tokenizer, texts, config)
    assert np.array_equal(kept[again.ids], table.ids), "a trimmed tokenizer splits its own texts as before"
    _compare(backbone, trimmed, kept)
    log.info(
        "vocabulary_trimmed", before=_backend(backbone.tokenizer).get_vocab_size(), after=len(kept), used=len(used)
    )
    return trimmed


def _backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    assert isinstance(tokenizer, PreTrainedTokenizerFast), "load_backbone takes no other"
    backend = tokenizer.backend_tokenizer
    assert isinstance(backend, Tokenizer)
    return backend


def _wrapped(tokenizer: Tokenizer, like: PreTrainedTokenizerBase) -> PreTrainedTokenizerFast:
    """Return Hugging Face's wrapper of a tokenizer, with another's special tokens and sides."""
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        model_max_length=like.model_max_length,
        padding_side=like.padding_side,
        truncation_side=like.truncation_side,
        **like.special_tokens_map,
    )


def _cut_embeddings(model: PreTrainedModel, kept: Int64, new: Mapping[int, int]) -> None:
    """Leave the kept rows of the token table, in place: some models scale theirs, which a new table wouldn't."""
    table: Any = model.get_input_embeddings()  # attributes of a module are untyped in torch
    weight = table.weight.detach()
    table.weight = nn.Parameter(weight[torch.from_numpy(kept).to(weight.device)].clone())
    table.num_embeddings = len(kept)
    if table.padding_idx is not None:
        table.padding_idx = new.get(table.padding_idx)
    model.config.get_text_config().vocab_size = len(kept)


def _rewrite_ids(model: PreTrainedModel, new: Mapping[int, int]) -> None:
    """Give every token that the configuration names its new id; one that isn't kept is named no more."""
    config = model.config.get_text_config()
    for name, value in config.to_dict().items():
        if name.endswith("_token_id") and isinstance(value, int):
            setattr(config, name, new.get(value))


@torch.no_grad()
def _compare(whole: Backbone, trimmed: Backbone, kept: Int64) -> None:
    """Refuse a copy that gives some token, in some row of all that were kept, another vector."""
    device = next(whole.parameters()).device
    every = np.resize(np.arange(len(kept)), (-(-len(kept) // _ROW), _ROW))
    for rows in np.array_split(every, -(-len(every) // _ROWS)):
        old, new = (torch.from_numpy(ids).to(device) for ids in (kept[rows], rows))
        mask = torch.ones_like(new)
        difference = float((whole.states(old, mask) - trimmed.states(new, mask)).abs().max())
        if difference > _TOLERANCE:
            raise BackboneError(
                f"trim_vocabulary: expected the same states from {type(whole.model).__name__} with fewer tokens, found "
                f"a difference of {difference:.2e}; where positions are counted from the padding's id, it must not move"
            )
