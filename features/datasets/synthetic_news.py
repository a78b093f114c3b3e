"""Dated headlines about invented companies, made by rule for this project: finance can be tried with no licence.

SYNTHETIC: every company, figure and event is made up; a likeness to a real one is chance. The sentiment follows from
the template, so a model learns it easily and its accuracy says nothing about real news.

Sixty days hold eight headlines each, one a company, of whichever tone a hash gives. Over three days in the last quarter
one company, `BURST_COMPANY`, has six more a day, all negative: what an alert should find.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import polars as pl

from features.schema import TEXT, TIMESTAMP
from features.schema import UTC as UTC_TYPE

TARGET: Final = "target"
SENTIMENT: Final = "sentiment"

FIRST_DAY: Final = datetime(2025, 1, 6, tzinfo=UTC)
DAYS: Final = 60
BURST_COMPANY: Final = "Calderbrook Steel"
BURST_DAYS: Final = range(50, 53)
BURST_PER_DAY: Final = 6

_COMPANIES: Final = (
    "Alderfen Freight", "Brindlewick Foods", BURST_COMPANY, "Dovemere Bank", "Emberholt Energy", "Fallowgate Motors",
    "Garnetside Retail", "Harrowby Pharma",
)  # fmt: skip
_METRICS: Final = ("revenue", "operating profit", "order intake", "margin", "free cash flow", "same-store sales")
# An ordinary day's tones; most news is neutral.
_TONES: Final = ("neutral", "neutral", "neutral", "positive", "positive", "negative")
_TEMPLATES: Final = {
    "positive": (
        "{company} lifts its outlook as {metric} grows {number}%",
        "{company} beats forecasts, {metric} up {number}%",
        "Record quarter at {company}: {metric} climbs {number}%",
        "Shares of {company} jump {number}% on strong {metric}",
    ),
    "neutral": (
        "{company} keeps its forecast for {metric} of {number} million",
        "{company} reports {metric} of {number} million, as expected",
        "{company} opens a site for {number} million",
        "{company} to publish its {metric}; analysts expect {number} million",
    ),
    "negative": (
        "{company} cuts its outlook as {metric} falls {number}%",
        "{company} misses forecasts, {metric} down {number}%",
        "{company} warns of losses after {metric} drops {number}%",
        "Shares of {company} slump {number}% on weak {metric}",
    ),
}


def synthetic_news() -> pl.DataFrame:
    """Return the headlines, oldest first: `text`, `target` (the company), `sentiment`, `timestamp`."""
    schema = {TEXT: pl.String(), TARGET: pl.String(), SENTIMENT: pl.String(), TIMESTAMP: UTC_TYPE}
    return pl.DataFrame(list(_headlines()), schema=schema, orient="row").sort(TIMESTAMP, maintain_order=True)


def _headlines() -> Iterator[tuple[str, str, str, datetime]]:
    for day in range(DAYS):
        for company in _COMPANIES:
            draw = _draw(f"{day} {company}")
            yield _headline(day, company, _TONES[draw[0] % len(_TONES)], draw)
        for number in range(BURST_PER_DAY if day in BURST_DAYS else 0):
            yield _headline(day, BURST_COMPANY, "negative", _draw(f"{day} burst {number}"))


def _headline(day: int, company: str, tone: str, draw: bytes) -> tuple[str, str, str, datetime]:
    template = _TEMPLATES[tone][draw[1] % len(_TEMPLATES[tone])]
    number = f"{1 + draw[3] % 30}.{draw[6] % 10}"
    text = template.format(company=company, metric=_METRICS[draw[2] % len(_METRICS)], number=number)
    # Business hours: 08:00 to 17:59.
    time = FIRST_DAY + timedelta(days=day, hours=8 + draw[4] % 10, minutes=draw[5] % 60)
    return text, company, tone, time


def _draw(key: str) -> bytes:
    """Return pseudo-random bytes that are the same on every machine and version."""
    return hashlib.blake2b(key.encode(), digest_size=8).digest()
