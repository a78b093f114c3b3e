"""Any causal language model of transformers, by folder: messages in, text out."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Self

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from infra.errors import InvalidInputError
from ranking.reply.phrasing import ChatMessage

_CONFIG: Final = "config.json"


class CausalModelError(InvalidInputError):
    """The folder holds no causal language model, or a conversation doesn't fit into its window."""

    title = "No such model"


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What a model wrote.

    Attributes:
        text: of the answer.
        finish_reason: `stop` where the model ended it, `length` where it was cut off.
    """

    text: str
    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CausalModel:
    """One model; conversations are answered one after the other, as each takes all cores.

    Attributes:
        name: the folder's.
        model: in evaluation mode.
        tokenizer: of the model; its chat template, if it has one, writes a conversation as the model learnt to read it.
    """

    name: str
    model: Any
    tokenizer: Any
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load a model that `save_pretrained` wrote, from its files alone: nothing is fetched and no code of its run.

        Raises:
            CausalModelError: the folder holds no such model.
        """
        if not (folder / _CONFIG).is_file():
            raise CausalModelError(f"expected a causal language model in {folder}, found no {_CONFIG}")
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise CausalModelError(f"expected a causal language model in {folder}, found {error}") from error
        return cls(name=folder.name, model=model.eval(), tokenizer=tokenizer)

    def complete(self, messages: Sequence[ChatMessage], max_tokens: int, temperature: float) -> Completion:
        """Return the model's answer to a conversation.

        Args:
            messages: the conversation, oldest first.
            max_tokens: most tokens of the answer.
            temperature: 0 takes the likeliest token each time; above it tokens are drawn.

        Raises:
            CausalModelError: conversation and answer are longer than the model's window.
        """
        ids = self.tokenizer(self._prompt(messages), return_tensors="pt", add_special_tokens=False)["input_ids"]
        length, window = ids.shape[1], getattr(self.model.config, "max_position_embeddings", None)
        if window is not None and length + max_tokens > window:
            raise CausalModelError(
                f"messages: expected at most {window - max_tokens} tokens, as the answer may take {max_tokens} of the "
                f"model's {window}, found {length}"
            )
        drawn = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
        end = self.tokenizer.eos_token_id
        pad = end if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id
        with self._lock, torch.inference_mode():
            found = self.model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_tokens, pad_token_id=pad, **drawn
            )
        answer = found[0, length:]
        ended = len(answer) < max_tokens or int(answer[-1]) == end
        return Completion(
            text=self.tokenizer.decode(answer, skip_special_tokens=True).strip(),
            finish_reason="stop" if ended else "length",
        )

    def _prompt(self, messages: Sequence[ChatMessage]) -> str:
        """Return a conversation as one text; a model that learnt no conversations gets plain paragraphs."""
        if self.tokenizer.chat_template is not None:
            rows = [message.model_dump() for message in messages]
            text: str = self.tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=True)
            return text
        return "\n\n".join([*(message.content for message in messages), "Reply:\n"])
