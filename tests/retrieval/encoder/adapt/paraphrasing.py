"""Functions for the hook: one that works, and some that don't."""

from __future__ import annotations


def shout(texts: list[str]) -> list[str]:
    return [f"{text} tea" for text in texts]


def forget(texts: list[str]) -> list[str]:
    return texts[1:]


def count(texts: list[str]) -> int:
    return len(texts)
