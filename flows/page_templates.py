"""Where every HTML page is rendered: texts are escaped, as a title is data, and a missing name is an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jinja2


def page_templates(**filters: Callable[..., Any]) -> jinja2.Environment:
    """Return the environment of the templates folder, with these filters beside jinja's own."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("flows", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment
