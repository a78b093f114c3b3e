"""Where every HTML page is rendered: texts are escaped, as a title is data, and a missing name is an error.

A page extends `templates/page.html`, which has the frame and the one style sheet; what a single page needs beside
stands in its own block.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jinja2
from markupsafe import Markup, escape


def page_templates(**filters: Callable[..., Any]) -> jinja2.Environment:
    """Return the environment of the templates folder, with these filters and those below beside jinja's own."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("flows", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"breakable": breakable, "sentence": sentence, **filters}
    return environment


def breakable(name: str) -> Markup:
    """Return a name that may be broken into lines behind each sign between its words: `churn_in_28_days` is no word."""
    return Markup(re.sub(r"([_./])(?=\w)", r"\1<wbr>", str(escape(name))))  # noqa: S704  escaped before


def sentence(words: str) -> str:
    """Return words with a capital at the start; jinja's `capitalize` would make an AUC an auc."""
    return words[:1].upper() + words[1:]
