"""The order of the rooms, and the silence of the ground floor."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]
INFRA = sorted((ROOT / "infra").rglob("*.py"))
# infra/ would serve any product: what is recommended to whom is not its business.
FOREIGN = {"user", "users", "item", "items", "candidate", "candidates", "score", "scores"}
# A mapping's .items() is Python's word.
MAPPING_CALL = re.compile(r"\.items\(\)")


def words(source: str) -> Iterator[tuple[str, int]]:
    """Yield every word of every name, comment and string, with its line: itemRow and item_row both hold "item"."""
    for token in tokenize.generate_tokens(io.StringIO(MAPPING_CALL.sub("", source)).readline):
        if token.type in {tokenize.NAME, tokenize.COMMENT, tokenize.STRING}:
            for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", token.string):
                yield word.lower(), token.start[0]


def test_imports_run_one_way() -> None:
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


@pytest.mark.parametrize("path", INFRA, ids=lambda path: path.name)
def test_infra_knows_nothing_of_recommendation(path: Path) -> None:
    found = [f"{path}:{line}: {word}" for word, line in words(path.read_text()) if word in FOREIGN]
    assert found == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("user_id = 1", {"user"}),
        ("class ItemRow: pass", {"item"}),
        ("# a score", {"score"}),
        ('"""Candidates."""', {"candidates"}),
        ("itemize = underscore = {}.items()", set()),
    ],
)
def test_the_words_are_found(source: str, expected: set[str]) -> None:
    assert {word for word, _ in words(source)} & FOREIGN == expected
