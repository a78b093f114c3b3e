"""A hook for paraphrases, such as translations there and back (Sennrich et al., 2016)."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from retrieval.encoder.adapt.errors import AdaptError


def paraphrases(hook: str, texts: Sequence[str]) -> list[str]:
    """Return a paraphrase of each text, by the caller's function.

    Args:
        hook: `package.module:function`, from a list of texts to as many.
        texts: given to it in one call.

    Raises:
        AdaptError: the function cannot be imported, or doesn't return one text for each.
    """
    module, _, name = hook.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise AdaptError(
            f"augment.back_translation: expected a function that can be imported, found {hook!r}: {error}"
        ) from error
    found = function(list(texts))
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise AdaptError(
            f"augment.back_translation: expected a list of texts from {hook!r}, found {type(found).__name__}"
        )
    if len(found) != len(texts):
        raise AdaptError(
            f"augment.back_translation: expected {len(texts)} texts from {hook!r}, one for each given, "
            f"found {len(found)}"
        )
    return found
