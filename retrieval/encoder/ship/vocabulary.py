"""A tokenizer with fewer tokens that splits the texts it was cut down to exactly as before.

Every text is still readable: special tokens and single characters stay, so that a word never seen falls into its
letters. What a removed token was made of never won over the tokens kept on these texts, so for each model:

- WordPiece takes the longest piece at each place: those it took are kept, longer ones weren't there before either;
- BPE merges pairs by rank: each merge that leads to a kept token is kept, and the others never led to one;
- Unigram takes the likeliest split: it is still there, and there are only fewer others;
- WordLevel looks words up.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from infra.errors import InvalidInputError

Int64 = npt.NDArray[np.int64]

# A tokenizer file's own structure: objects, lists, strings and numbers, told apart by their "type".
Json = dict[str, Any]

_MODELS: Final = ("WordPiece", "BPE", "Unigram", "WordLevel")
# How the kinds of model mark where in a word a piece stands: "##s", "s</w>", "▁s"; bytes are "<0x0A>".
_CONTINUING: Final = "continuing_subword_prefix"
_ENDING: Final = "end_of_word_suffix"
_WORD_START: Final = "▁"
_BYTE: Final = ("<0x", ">")


def trim_vocabulary(tokenizer: Tokenizer, used: Collection[int]) -> tuple[Tokenizer, Int64]:
    """Return a tokenizer of the used tokens and those that it cannot do without.

    Args:
        tokenizer: stays as it is.
        used: ids of the tokens of some texts.

    Returns:
        The smaller tokenizer, and by new id the old one, int64 `[tokens kept]`, ascending.

    Raises:
        InvalidInputError: its model is none of WordPiece, BPE, Unigram and WordLevel.
    """
    data: Json = json.loads(tokenizer.to_str())
    model = data["model"]
    if model["type"] not in _MODELS:
        raise InvalidInputError(f"tokenizer: expected a model of {', '.join(_MODELS)}, found {model['type']}")
    old = _vocabulary(model)
    names = {place: token for token, place in old.items()} | {
        entry["id"]: entry["content"] for entry in data["added_tokens"]
    }
    keep = {names[place] for place in used} | {entry["content"] for entry in data["added_tokens"]}
    if model["type"] != "WordLevel":
        keep |= {token for token in old if _is_needed(token, model)}
    if model["type"] == "BPE":
        keep |= _parts(model, keep)
    if isinstance(model.get("unk_token"), str):
        keep.add(model["unk_token"])
    if isinstance(model.get("unk_id"), int):
        keep.add(names[model["unk_id"]])
    kept = sorted(place for place, token in names.items() if token in keep)
    new = {place: row for row, place in enumerate(kept)}
    _rewrite_model(model, new)
    for entry in data["added_tokens"]:
        entry["id"] = new[entry["id"]]
    if data["padding"] is not None:
        data["padding"]["pad_id"] = new[data["padding"]["pad_id"]]
    _rewrite_processor(data["post_processor"], new)
    return Tokenizer.from_str(json.dumps(data)), np.array(kept, np.int64)


def _vocabulary(model: Json) -> dict[str, int]:
    """Return ids by token of the model alone, without added tokens."""
    if model["type"] == "Unigram":
        return {token: place for place, (token, _) in enumerate(model["vocab"])}
    found: dict[str, int] = model["vocab"]
    return found


def _is_needed(token: str, model: Json) -> bool:
    """Tell whether a token is a single character or byte, without which some text could not be split at all."""
    if token.startswith(_BYTE[0]) and token.endswith(_BYTE[1]):
        return True
    bare = token.removeprefix(model.get(_CONTINUING) or "").removesuffix(model.get(_ENDING) or "")
    return len(bare) == 1 or (len(token) == 2 and token.startswith(_WORD_START))


def _parts(model: Json, keep: Collection[str]) -> set[str]:
    """Return the tokens that merges to the kept tokens start from, down to single characters."""
    sources: dict[str, list[tuple[str, str]]] = {}
    for left, right in model["merges"]:
        sources.setdefault(_merged(left, right, model), []).append((left, right))
    found: set[str] = set()
    waiting = list(keep)
    while waiting:
        for pair in sources.get(waiting.pop(), ()):
            fresh = set(pair) - found
            found |= fresh
            waiting.extend(fresh)
    return found


def _merged(left: str, right: str, model: Json) -> str:
    return left + right.removeprefix(model.get(_CONTINUING) or "")


def _rewrite_model(model: Json, new: Mapping[int, int]) -> None:
    """Leave the kept tokens of a model under their new ids, and the merges between them."""
    if model["type"] == "Unigram":
        model["vocab"] = [entry for place, entry in enumerate(model["vocab"]) if place in new]
        if model["unk_id"] is not None:
            model["unk_id"] = new[model["unk_id"]]
        return
    model["vocab"] = {token: new[place] for token, place in model["vocab"].items() if place in new}
    if model["type"] == "BPE":
        vocabulary = model["vocab"]
        model["merges"] = [
            [left, right]
            for left, right in model["merges"]
            if left in vocabulary and right in vocabulary and _merged(left, right, model) in vocabulary
        ]


def _rewrite_processor(processor: Json | None, new: Mapping[int, int]) -> None:
    """Give the tokens that a post-processor puts around a text their new ids."""
    if processor is None:
        return
    if processor["type"] == "Sequence":
        for part in processor["processors"]:
            _rewrite_processor(part, new)
    elif processor["type"] == "TemplateProcessing":
        for entry in processor["special_tokens"].values():
            entry["ids"] = [new[place] for place in entry["ids"]]
    elif processor["type"] in ("BertProcessing", "RobertaProcessing"):
        for end in ("sep", "cls"):
            token, place = processor[end]
            processor[end] = [token, new[place]]
