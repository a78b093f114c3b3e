from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from retrieval.encoder.config import EncoderConfig


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({"fgm": 1.0}, r"fgm: expected token embeddings that learn \(train_layers: null\), found train_layers: 2"),
        ({"fgm": 1.0, "train_layers": None, "lora": {}}, "fgm: .* found lora"),
        ({"fgm": 1.0, "train_layers": None, "unfreeze": {"every": 2}}, "fgm: .* found unfreeze"),
        ({"rdrop": 1.0}, "rdrop: expected dropout above 0"),
        ({"rdrop": 1.0, "dropout": 0.1, "augment": {"mixup": 0.2}}, "rdrop: expected no augment.mixup"),
        ({"lora": {}, "train_layers": 0}, "lora: expected transformer layers that learn, found train_layers: 0"),
        ({"unfreeze": {"every": 2}, "train_layers": 0}, "unfreeze: expected transformer layers that learn"),
        ({"keep": {"kl": 1.0}}, "keep: expected start"),
        ({"keep": {"ewc": 1.0}}, "keep: expected start"),
        ({"balance": {"method": "pcgrad", "level": "lora"}}, "balance.level: expected lora"),
        ({"augment": {"synonyms": {"rate": 0.5}}}, "expected words or a file, found neither"),
        ({"augment": {"back_translation": "no colon"}}, "back_translation"),
        ({"lora": {"rnak": 4}}, "rnak"),
        ({"augment": {"tokens": {"rate": 1.0}}}, "less than 1"),
    ],
)
def test_what_contradicts_itself_is_refused(lines: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EncoderConfig.model_validate(lines)


def test_every_option_together_survives_a_round_trip() -> None:
    config = EncoderConfig.model_validate(
        {
            "train_layers": None, "lora": {"targets": ["query"]}, "unfreeze": {"every": 5}, "layer_decay": 0.5,
            "optimizer": "sgd", "momentum": 0.5, "l1": 1e-5, "dropout": 0.1, "rdrop": 0.5, "start": "runs/encoder",
            "keep": {"kl": 1, "ewc": 2, "replay": 0.25}, "balance": {"method": "pcgrad", "level": "lora"},
            "augment": {
                "tokens": {"how": "replace"}, "synonyms": {"words": {"tea": ["cha"]}, "file": "words.tsv"},
                "back_translation": "some.module:function",
            },
        }
    )  # fmt: skip
    assert EncoderConfig.model_validate_json(config.model_dump_json()) == config


def test_by_default_every_option_is_off() -> None:
    config = EncoderConfig()
    assert (config.optimizer, config.layer_decay, config.lora, config.unfreeze, config.start) == (
        "adamw", 1.0, None, None, None,
    )  # fmt: skip
    assert not any((config.l1, config.dropout, config.fgm, config.rdrop, config.augment.mixup, config.augment.texts))
    assert not any((config.keep.kl, config.keep.ewc, config.keep.replay))
