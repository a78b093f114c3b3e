"""A backbone with its language-modelling head: loaded, asked for some positions' logits, and written without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedModel
from transformers.utils import logging as hf_logging

from retrieval.encoder.backbone import Backbone, BackboneError, load_backbone, locate
from retrieval.encoder.config import BackboneConfig

log = structlog.get_logger(__name__)

# Beside the backbone's own files: a reader of the backbone alone finds exactly what it expects in those.
LM_HEAD: Final = "lm_head.safetensors"
_TIED: Final = "tied"


@dataclass(frozen=True, kw_only=True, eq=False)
class LanguageModel:
    """A backbone and the head that names tokens, in evaluation mode.

    Attributes:
        model: both.
        backbone: its transformer alone, the same weights.
        head_is_new: the head's weights are random: neither the backbone's files nor `lm_head.safetensors` held any.
        tied: the head's matrix was made to be the input embeddings'.
    """

    model: PreTrainedModel
    backbone: Backbone
    head_is_new: bool
    tied: bool

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def head_parameters(self) -> dict[str, nn.Parameter]:
        """Return by name what the head has besides the transformer's own parameters; empty where that is nothing."""
        own = f"{self.model.base_model_prefix}."
        return {name: value for name, value in self.model.named_parameters() if not name.startswith(own)}

    def logits_at(self, ids: Tensor, mask: Tensor, spots: Tensor) -> Tensor:
        """Return the logits of some positions alone.

        MiniLM's products with a vocabulary of 30,522 are as many as those of its six layers; the positions that no
        loss reads are dropped before them.

        Args:
            ids: int64 `[n, length]`.
            mask: int64 `[n, length]`, 1 on tokens.
            spots: bool `[n, length]`.

        Returns:
            `[spots, vocabulary]`, row by row.
        """

        def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (inputs[0][spots],)

        hook = _matrix(self.model).register_forward_pre_hook(keep)
        try:
            out = self.model(input_ids=ids, attention_mask=mask)
        finally:
            hook.remove()
        logits: Tensor = out.logits
        return logits


def load_language_model(config: BackboneConfig) -> LanguageModel:
    """Load a backbone with the head that fits it: masked, or next-token where the backbone is causal.

    It stands on a GPU where there is one. A head that the backbone's files lack is made anew, its matrix tied to the
    input embeddings (Press & Wolf, 2017).

    Args:
        config: which backbone.

    Raises:
        BackboneError: no such backbone, or its architecture has no such head.
    """
    loaded, source = load_backbone(config), locate(config)
    model, missing = _with_head(source, causal=loaded.causal, config=config)
    own = f"{model.base_model_prefix}."
    is_missing = any(not name.startswith(own) for name in missing)
    head = Path(source) / LM_HEAD
    is_new = is_missing and not head.is_file()
    tied = _read_head(model, head) if head.is_file() else is_missing
    if tied:
        embeddings = model.get_input_embeddings().weight
        assert isinstance(embeddings, nn.Parameter)
        _matrix(model).weight = embeddings
    if is_new:
        log.info("language_model_head_is_new", backbone=config.name, causal=loaded.causal, tied_to="input embeddings")
    transformer = model.base_model
    assert isinstance(transformer, PreTrainedModel)
    backbone = Backbone(transformer, loaded.tokenizer, loaded.pooling, causal=loaded.causal)
    model.to("cuda" if torch.cuda.is_available() else "cpu")  # type: ignore[arg-type]  # its wrapper's, not torch's
    return LanguageModel(model=model, backbone=backbone.eval(), head_is_new=is_new, tied=tied)


def save_language_model(language: LanguageModel, folder: Path) -> None:
    """Write `model.safetensors`, `config.json` and tokenizer files of the backbone alone, and `lm_head.safetensors`.

    Args:
        language: whose weights to write.
        folder: exists.
    """
    language.backbone.model.save_pretrained(folder)
    language.backbone.tokenizer.save_pretrained(folder)
    head = {name: value.detach().cpu().contiguous() for name, value in language.head_parameters().items()}
    save_file(head, folder / LM_HEAD, metadata={_TIED: str(language.tied)})


def _with_head(source: str, *, causal: bool, config: BackboneConfig) -> tuple[PreTrainedModel, set[str]]:
    """Return the model with its head, and the names of the weights that no file held."""
    family: Any = AutoModelForCausalLM if causal else AutoModelForMaskedLM  # its signature has no loading info
    with _one_log_line_instead():
        try:
            model, found = family.from_pretrained(
                source, attn_implementation="eager", dtype=torch.float32, output_loading_info=True,
                local_files_only=config.local_files_only or Path(source).is_dir(),
            )  # fmt: skip
        except ValueError as error:
            head = "next-token" if causal else "masked-token"
            raise BackboneError(
                f"backbone.name: expected a model with a {head} head, found {source!r}: {error}"
            ) from error
    return model, found["missing_keys"]


def _matrix(model: PreTrainedModel) -> nn.Linear:
    """Return the head's last layer, from states to the vocabulary."""
    layer = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    assert isinstance(layer, nn.Linear)
    return layer


def _read_head(model: PreTrainedModel, path: Path) -> bool:
    """Copy a written head into the model and tell whether it was tied."""
    parameters = dict(model.named_parameters())
    with safe_open(path, framework="pt") as file, torch.no_grad():
        for name in file.keys():  # noqa: SIM118 - safetensors' file is no mapping
            parameters[name].copy_(file.get_tensor(name))
        return bool(file.metadata()[_TIED] == str(True))


@contextmanager
def _one_log_line_instead() -> Iterator[None]:
    """Keep transformers from listing each weight that a file lacks or has too many; `head_is_new` says what matters."""
    before = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        hf_logging.set_verbosity(before)
