from __future__ import annotations

import pytest
from pydantic import ValidationError

from retrieval.encoder.config import EncoderConfig


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="lerning_rate"):
        EncoderConfig.model_validate({"lerning_rate": 1e-3})


def test_a_kind_of_text_that_is_not_named_keeps_its_length() -> None:
    config = EncoderConfig.model_validate({"backbone": {"max_tokens": {"item": 128}}})
    assert config.backbone.max_tokens == {"user": 48, "item": 128, "text": 64}
    # A text has at least one token between its first and its last.
    with pytest.raises(ValidationError, match=r"max_tokens\.text"):
        EncoderConfig.model_validate({"backbone": {"max_tokens": {"text": 2}}})


def test_a_configuration_survives_a_round_trip() -> None:
    config = EncoderConfig.model_validate(
        {"train_layers": None, "backbone": {"max_tokens": {"user": 32, "item": 16, "text": 16}}}
    )
    assert EncoderConfig.model_validate_json(config.model_dump_json()) == config
