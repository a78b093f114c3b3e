"""The `tune` section: every key and value is checked against the encoder's configuration when the file is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from flows.document import DocumentError
from flows.tune.config import DEFAULT_SPACE, Range, TuneConfig
from flows.workspace import Workspace

MINIMAL = """\
name: shop
source: {type: complete_journey}
tasks:
  - {name: purchase, kind: binary, on: pair, label: {type: event, event: purchase}}
"""


def test_the_default_space_is_accepted_as_a_declared_one() -> None:
    declared = {
        key: values.model_dump() if isinstance(values, Range) else list(values) for key, values in DEFAULT_SPACE.items()
    }
    assert TuneConfig.model_validate({"space": declared}) == TuneConfig()


def test_a_section_of_the_file_is_read(tmp_path: Path) -> None:
    section = "tune:\n  space:\n    learning_rate: {low: 1e-5, high: 2e-4, log: true}\n    train_layers: [1, null]\n"
    (tmp_path / "polyrank.yaml").write_text(MINIMAL + section)
    config = Workspace.load(tmp_path).config.tune
    assert config.space == {"learning_rate": Range(low=1e-5, high=2e-4, log=True), "train_layers": (1, None)}
    assert config.weights


def test_an_unknown_key_is_named_with_its_line_and_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "polyrank.yaml").write_text(MINIMAL + "tune:\n  space:\n    learning_rat: [1e-4]\n")
    with pytest.raises(DocumentError, match=r"line 6, tune.space: learning_rat: .* did you mean 'learning_rate'\?"):
        Workspace.load(tmp_path)


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ({"balance.methd": ["static"]}, "balance.methd: unknown key 'methd'; did you mean 'method'?"),
        ({"balance": ["static"]}, "balance: expected an option, found a section with"),
        ({"steps.count": [1]}, "steps.count: expected an option of the encoder section, found more names"),
        ({"seed": [1, 2]}, "seed: expected an option that a trial reads"),
        ({"ship.precision": ["int8"]}, "ship.precision: expected an option that a trial reads"),
        ({"balance.method": ["static", "statc"]}, "found 'statc'"),
        ({"dropout": {"low": 0, "high": 2}}, "dropout: input should be less than 1, found 2"),
        ({"steps": {"low": 1, "high": 2.5}}, "steps: input should be a valid integer"),
        ({"learning_rate": {"low": 2, "high": 1}}, "expected low < high, found low: 2, high: 1"),
        ({"learning_rate": {"low": 0, "high": 1, "log": True}}, "log: expected low above 0"),
        ({"steps": []}, "at least 1 item"),
    ],
)
def test_what_no_trial_could_use_is_refused(space: object, expected: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TuneConfig.model_validate({"space": space})
    assert expected in str(caught.value)


def test_a_search_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="found neither"):
        TuneConfig(space={}, weights=False)
    assert TuneConfig(space={}).weights
