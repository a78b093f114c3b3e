"""A trained encoder made smaller before its export: fewer layers, taught by all of them, and fewer tokens."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import structlog

from retrieval.encoder.backbone import Backbone
from retrieval.encoder.config import BackboneConfig, Kind
from retrieval.encoder.held_out import HeldOut
from retrieval.encoder.model import MultiTaskEncoder
from retrieval.encoder.ship.config import ShipConfig
from retrieval.encoder.ship.distil import DistilReport, distil
from retrieval.encoder.ship.prune import drop_layers
from retrieval.encoder.ship.trim import trim_tokens
from retrieval.encoder.tokens import tokenize

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a backbone is.

    Attributes:
        layers: transformer layers.
        tokens: rows of the token table.
        parameters: of all modules.
    """

    layers: int
    tokens: int
    parameters: int

    @classmethod
    def of(cls, backbone: Backbone) -> Self:
        """Return a backbone's size."""
        config = backbone.model.config.get_text_config()
        parameters = sum(parameter.numel() for parameter in backbone.parameters())
        return cls(layers=int(config.num_hidden_layers), tokens=int(config.vocab_size), parameters=parameters)


@dataclass(frozen=True, kw_only=True)
class ShrinkReport:
    """What became of the encoder.

    Attributes:
        before: size of the backbone as trained.
        after: size of the backbone returned.
        distilled: how near the remaining layers came to the whole model; None where they weren't taught.
    """

    before: Size
    after: Size
    distilled: DistilReport | None = None


def shrink(
    model: MultiTaskEncoder,
    texts: Mapping[Kind, Sequence[str]],
    backbone: BackboneConfig,
    config: ShipConfig,
    *,
    held_out: HeldOut | None = None,
    progress: bool = True,
) -> tuple[MultiTaskEncoder, ShrinkReport]:
    """Return the encoder as shipping wants it; `export.export` and `write.write_runtime` come after.

    Projections and heads stay as trained: they read vectors or token states, and the smaller backbone gives nearly the
    same ones. Nearly: heads are surer of them than they are right, hence calibrated once more.

    Args:
        model: trained; stays as it is.
        texts: by kind, every text at hand: layers learn from them, and the vocabulary is cut down to theirs.
        backbone: the backbone's configuration, as trained with.
        config: which of it to do; with none of it the model itself comes back.
        held_out: what heads are calibrated on after layers were dropped; None leaves them as they are.
        progress: show a bar where the terminal is one.

    Raises:
        BackboneError: more layers are to be kept than there are, or the vocabulary cannot be cut.
        InvalidInputError: too few texts to learn from.
    """
    whole, report = model.backbone, None
    if config.keep_layers is not None:
        small = drop_layers(whole, config.keep_layers)
        if config.distil is not None:
            table, _ = tokenize(small.tokenizer, texts, backbone)
            tokens = any(task.kind == "token_tags" for task in model.tasks)
            report = distil(whole, small, table, config.distil, tokens=tokens, progress=progress)
        model = _with_backbone(model, small)
        if held_out is not None:
            held_out.calibrate(model)
    if config.trim_vocabulary:
        # After the calibration, whose texts are tokens of the whole vocabulary.
        model = _with_backbone(model, trim_tokens(model.backbone, texts, backbone))
    found = ShrinkReport(before=Size.of(whole), after=Size.of(model.backbone), distilled=report)
    log.info("encoder_shrunk", before=vars(found.before), after=vars(found.after))
    return model, found


def _with_backbone(model: MultiTaskEncoder, backbone: Backbone) -> MultiTaskEncoder:
    """Return a copy that reads this backbone."""
    other = copy.deepcopy(model)
    other.backbone = backbone
    return other
