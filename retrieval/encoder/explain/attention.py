"""Where a transformer's attention goes in one text: a diagnostic, not evidence of why a head says what it says.

Other weights can give the same prediction, and gradients often name other words (Jain & Wallace, 2019); for what a
logit comes from, see `retrieval.encoder.explain.attributions`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from infra.errors import InvalidInputError
from retrieval.encoder.backbone import BackboneError
from retrieval.encoder.config import Kind
from retrieval.encoder.explain.load import LoadedEncoder
from retrieval.encoder.explain.spans import ReadText, read_text

Float32 = npt.NDArray[np.float32]

NOTE: Final = "a diagnostic, not evidence"


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionMap:
    """Attention weights of one text.

    Attributes:
        read: the text's tokens.
        weights: float32 `[layers, heads, tokens, tokens]`, from the row's token to the column's; rows sum to 1.
        note: what it may be taken for.
    """

    read: ReadText
    weights: Float32
    note: str = NOTE

    @property
    def layers(self) -> int:
        """Number of the transformer's layers."""
        return len(self.weights)

    def mean(self, layer: int | None = None) -> Float32:
        """Return the mean over a layer's heads, float32 `[tokens, tokens]`.

        Args:
            layer: from 1, the lowest; None takes the highest, whose states are pooled.

        Raises:
            InvalidInputError: no such layer.
        """
        if layer is not None and not 1 <= layer <= self.layers:
            raise InvalidInputError(f"layer: expected 1 to {self.layers}, found {layer}")
        chosen: Float32 = self.weights[-1 if layer is None else layer - 1].mean(0)
        return chosen

    def of_words(self, layer: int | None = None) -> tuple[tuple[str, ...], Float32]:
        """Return names, and the mean over a layer's heads between words, special tokens and the prefix's tokens.

        Attention to a word is the sum over its tokens, from it the mean over them (Clark et al., 2019), so that rows
        still sum to 1.

        Args:
            layer: as in `mean`.

        Returns:
            Names, and float32 `[names, names]`.
        """
        groups = [(self.read.text[word.start : word.end], word.tokens) for word in self.read.words]
        groups += [(token.piece, (place,)) for place, token in enumerate(self.read.tokens) if not token.is_own]
        groups.sort(key=lambda group: group[1])
        member = np.zeros((len(groups), len(self.read.tokens)), np.float32)
        for row, (_, places) in enumerate(groups):
            member[row, list(places)] = 1
        between: Float32 = (member / member.sum(1, keepdims=True)) @ self.mean(layer) @ member.T
        return tuple(name for name, _ in groups), between


@torch.no_grad()
def attention_map(encoder: LoadedEncoder, text: str, kind: Kind) -> AttentionMap:
    """Return the attention weights of one text, by the eager attention that the model was loaded with.

    Args:
        encoder: that serving runs.
        text: any that isn't blank.
        kind: whose prefix and length.

    Raises:
        InvalidInputError: nothing of the text is read.
        BackboneError: the transformer gives no attention weights.
    """
    read = read_text(encoder, text, kind)
    model = encoder.model.backbone.model
    found = model(input_ids=read.ids, attention_mask=torch.ones_like(read.ids), output_attentions=True).attentions
    if not found or any(layer is None for layer in found):
        raise BackboneError(f"attention: expected weights from {type(model).__name__}, found none")
    return AttentionMap(read=read, weights=torch.cat(list(found)).numpy())
