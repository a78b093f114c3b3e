"""Errors of a YAML document: each names the file, the line, the path, what was expected and what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, model_validator

from flows.document import DocumentError, DocumentNotFoundError, parse_document, read_document


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Csv(Strict):
    type: Literal["csv"]
    delimiter: str = ","


class Parquet(Strict):
    type: Literal["parquet"]
    columns: list[str] = []


class Layer(Strict):
    width: int = 1

    @model_validator(mode="after")
    def check(self) -> Layer:
        if self.width > 100:
            raise ValueError(f"expected a width of at most 100, found {self.width}")
        return self


class Root(Strict):
    name: str
    source: Annotated[Csv | Parquet, Field(discriminator="type")] = Csv(type="csv")
    layers: list[Layer] = []
    tables: dict[str, Layer] = {}
    best: Layer | None = None


def error_of(tmp_path: Path, text: str) -> str:
    path = tmp_path / "polyrank.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DocumentError) as caught:
        parse_document(read_document(path), Root)
    return str(caught.value)


def test_valid_document_becomes_the_model(tmp_path: Path) -> None:
    path = tmp_path / "polyrank.yaml"
    path.write_text("name: shop\nsource: {type: parquet, columns: [a]}\nlayers:\n  - width: 3\n")
    parsed = parse_document(read_document(path), Root)
    assert parsed == Root(name="shop", source=Parquet(type="parquet", columns=["a"]), layers=[Layer(width=3)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: a\nlayrs: []\n", "line 2, layrs: unknown key 'layrs'; did you mean 'layers'?"),
        ("name: a\nlayers:\n  - widht: 3\n", "line 3, layers.0.widht: unknown key 'widht'; did you mean 'width'?"),
        ("name: a\nbest: {widht: 3}\n", "line 2, best.widht: unknown key 'widht'; did you mean 'width'?"),
        (
            "name: a\ntables:\n  x:\n    widht: 3\n",
            "line 4, tables.x.widht: unknown key 'widht'; did you mean 'width'?",
        ),
        ("name: a\nlayers:\n  - width: wide\n", "line 3, layers.0.width: expected a valid integer"),
        ("name: a\nlayers:\n  - width: wide\n", "found 'wide' (text)"),
        ("name: a\nlayers: 3\n", "line 2, layers: expected a valid list, found 3 (a whole number)"),
        ("name: a\nlayers:\n  - width: 200\n", "layers.0: expected a width of at most 100, found 200"),
        ("name:\n", "line 1, name: expected a valid string, found nothing"),
        ("layers: []\n", "name: expected a value for the required key 'name', found none"),
        ("", "name: expected a value for the required key 'name', found none"),
    ],
)
def test_problem_names_line_path_expected_and_found(tmp_path: Path, text: str, expected: str) -> None:
    message = error_of(tmp_path, text)
    assert expected in message
    assert message.startswith(str(tmp_path / "polyrank.yaml"))


def test_union_member_tag_is_no_part_of_the_path_and_only_its_keys_are_known(tmp_path: Path) -> None:
    message = error_of(tmp_path, "name: a\nsource:\n  type: csv\n  delimeter: ;\n")
    assert "line 4, source.delimeter: unknown key 'delimeter'; did you mean 'delimiter'?" in message
    assert "columns" not in message  # a key of the parquet member only


def test_unknown_union_member_lists_the_known_ones(tmp_path: Path) -> None:
    message = error_of(tmp_path, "name: a\nsource:\n  type: cvs\n")
    assert "line 2, source" in message
    assert "'csv', 'parquet'" in message


def test_every_problem_is_listed(tmp_path: Path) -> None:
    message = error_of(tmp_path, "nam: a\nlayers: x\n")
    assert "3 problems" in message  # nam unknown, name missing, layers no list


def test_yaml_error_gives_line_and_column(tmp_path: Path) -> None:
    message = error_of(tmp_path, "name: a\nlayers: [1, 2\nbest: {}\n")
    assert f"{tmp_path / 'polyrank.yaml'}:3:5: not valid YAML" in message


def test_key_given_twice_is_an_error(tmp_path: Path) -> None:
    message = error_of(tmp_path, "name: a\nbest:\n  width: 1\n  width: 2\n")
    assert "polyrank.yaml:4: expected each key once, found best.width again (first on line 3)" in message


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words\n", "3\n"])
def test_top_level_must_be_a_mapping(tmp_path: Path, text: str) -> None:
    assert "expected a mapping of sections at the top level" in error_of(tmp_path, text)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentNotFoundError, match=r"expected a file at .*polyrank\.yaml, found none"):
        read_document(tmp_path / "polyrank.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"), ("no", "no"), ("Yes", "Yes"), ("true", True), ("FALSE", False), ("12", 12), ("1e-4", 1e-4),
        ("1.5", 1.5), (".5", 0.5), ("-2.5E+3", -2500.0), ("1.", 1.0), ("~", None), ("1.2.3", "1.2.3"), ("e5", "e5"),
    ],
)  # fmt: skip
def test_plain_scalars_are_those_of_yaml_1_2(tmp_path: Path, text: str, value: object) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"{text}: 1\nkey: {text}\n")
    data = read_document(path).data
    assert data["key"] == value
    assert type(data["key"]) is type(value)
    if isinstance(value, str):
        assert value in data


def test_recursive_alias_ends(tmp_path: Path) -> None:
    assert "layers" in error_of(tmp_path, "name: a\nlayers: &x\n  - *x\n")


def assert_model_or_named_error(path: Path) -> None:
    try:
        outcome = parse_document(read_document(path), Root).name
    except DocumentError as error:
        outcome = str(error)
    assert outcome == "a" or str(path) in outcome


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=50)
@given(plain)
def test_any_yaml_value_yields_a_document_error_or_a_model(
    tmp_path_factory: pytest.TempPathFactory, value: object
) -> None:
    path = tmp_path_factory.mktemp("wild") / "polyrank.yaml"
    path.write_text(yaml.safe_dump({"name": "a", "layers": value, "best": value, "source": value}), encoding="utf-8")
    assert_model_or_named_error(path)


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=40))
def test_any_text_yields_a_document_error_or_a_model(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("wild") / "polyrank.yaml"
    path.write_text(text, encoding="utf-8")
    assert_model_or_named_error(path)
