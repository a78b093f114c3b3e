"""A text as the encoder reads it: its tokens, the characters each stands for, and the words they make for the eye."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from infra.errors import InvalidInputError
from retrieval.encoder.config import BackboneConfig, Kind
from retrieval.encoder.explain.load import LoadedEncoder

# Scripts that put no space between words, by the names of their characters: there each token is a word of its own.
UNSPACED: Final = ("CJK ", "HIRAGANA ", "KATAKANA", "HALFWIDTH KATAKANA", "THAI ", "LAO ", "KHMER ", "MYANMAR ")


@dataclass(frozen=True, kw_only=True)
class Token:
    """One token.

    Attributes:
        piece: as the vocabulary writes it.
        start: first character of the text that it stands for.
        end: the one after its last; equal to `start` where it stands for none.
        is_own: it is the text's own, neither a special token nor the prefix of its kind.
    """

    piece: str
    start: int
    end: int
    is_own: bool


@dataclass(frozen=True, kw_only=True)
class Word:
    """Tokens that the eye takes as one.

    Attributes:
        start: first character.
        end: the one after its last.
        tokens: positions of its tokens, ascending.
    """

    start: int
    end: int
    tokens: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadText:
    """A text's tokens.

    Attributes:
        text: as given, without the prefix of its kind.
        kind: of text.
        ids: int64 `[1, tokens]`.
        tokens: `[tokens]`.
        read: characters read; the rest was cut off as too long.
    """

    text: str
    kind: Kind
    ids: Tensor
    tokens: tuple[Token, ...]
    read: int

    @property
    def words(self) -> tuple[Word, ...]:
        """The text's own tokens, grouped."""
        return group_words(self.text, self.tokens)


def read_text(encoder: LoadedEncoder, text: str, kind: Kind) -> ReadText:
    """Tokenise a text as serving does.

    Args:
        encoder: whose tokenizer.
        text: any with a sign in it.
        kind: whose prefix and length.

    Raises:
        InvalidInputError: nothing of the text is read: it is blank, or its prefix leaves no room.
    """
    config = encoder.config
    prefix = config.prefixes.get(kind, "")
    tokenizer = encoder.model.backbone.tokenizer
    found = tokenizer(
        prefix + text, truncation=True, max_length=config.max_tokens[kind], padding=False,
        return_offsets_mapping=True, return_special_tokens_mask=True,
    )  # fmt: skip
    pieces = tokenizer.convert_ids_to_tokens(found["input_ids"])
    tokens = tuple(
        _token(text, piece, first - len(prefix), last - len(prefix), is_special=bool(special))
        for piece, (first, last), special in zip(
            pieces, found["offset_mapping"], found["special_tokens_mask"], strict=True
        )
    )
    if not text.strip() or not any(token.is_own for token in tokens):
        raise InvalidInputError(_nothing_read(text, kind, config))
    ids = torch.tensor([found["input_ids"]], dtype=torch.int64)
    return ReadText(text=text, kind=kind, ids=ids, tokens=tokens, read=max(token.end for token in tokens))


def group_words(text: str, tokens: Sequence[Token]) -> tuple[Word, ...]:
    """Group a text's own tokens into words: pieces of one run of letters and digits, or parts of one character.

    Tokens of scripts without spaces stay alone, unless several of them make one character.

    Args:
        text: that the spans are of.
        tokens: in order.
    """
    groups: list[list[int]] = []
    for place, token in enumerate(tokens):
        if not token.is_own:
            continue
        if groups and _is_joined(text, tokens[groups[-1][-1]], token):
            groups[-1].append(place)
        else:
            groups.append([place])
    return tuple(_word(tokens, group) for group in groups)


def _word(tokens: Sequence[Token], group: Sequence[int]) -> Word:
    # A piece that stands for no character has its place where the tokenizer left it, often at 0.
    shown = [tokens[place] for place in group if tokens[place].end > tokens[place].start]
    spans = shown or [tokens[place] for place in group]
    return Word(start=min(token.start for token in spans), end=max(token.end for token in spans), tokens=tuple(group))


def _token(text: str, piece: str, start: int, end: int, *, is_special: bool) -> Token:
    """Return a token with its span in the text, spaces around it left out where it holds anything else."""
    if is_special or (end <= 0 and start < 0):
        return Token(piece=piece, start=0, end=0, is_own=False)
    start = max(start, 0)
    shown = text[start:end].strip()
    if shown:
        start += len(text[start:end]) - len(text[start:end].lstrip())
        end = start + len(shown)
    return Token(piece=piece, start=start, end=end, is_own=True)


def _is_joined(text: str, left: Token, right: Token) -> bool:
    """Tell whether two tokens that follow each other belong to one word."""
    if left.start == left.end or right.start == right.end or right.start < left.end:
        return True
    if right.start > left.end:
        return False
    return _is_spaced_letter(text[left.end - 1]) and _is_spaced_letter(text[right.start])


def _is_spaced_letter(character: str) -> bool:
    """Tell whether it is a letter, mark or digit of a script that puts spaces between words."""
    is_letter = unicodedata.category(character)[0] in "LMN"
    return is_letter and not unicodedata.name(character, "").startswith(UNSPACED)


def _nothing_read(text: str, kind: Kind, config: BackboneConfig) -> str:
    room, prefix = config.max_tokens[kind], config.prefixes.get(kind, "")
    return (
        f"text of kind {kind}: expected one of which something is read in {room} tokens"
        + (f" behind the prefix {prefix!r}" if prefix else "")
        + f", found {text[:40]!r}"
    )
