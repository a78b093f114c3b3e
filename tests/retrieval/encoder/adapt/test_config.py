from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from retrieval.encoder.config import EncoderConfig

META = {"method": "reptile"}
FEDMIX = {"party": {"on": "user", "column": "store"}}
LIMIT = {"task": "churn", "on": "user", "column": "region", "measure": "rate_gap", "limit": 0.1}


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
        ({"meta": META, "balance": {"method": "pcgrad"}}, "meta: expected balance.method static .* found pcgrad"),
        ({"meta": META, "residual": {}}, "meta: expected no residual, whose terms are of no single task, found both"),
        ({"meta": META, "start": "runs/encoder", "keep": {"kl": 1.0}}, "meta: expected no keep.kl"),
        ({"meta": META, "limits": [LIMIT]}, "meta: expected no limits"),
        ({"meta": {"method": "maml"}}, "'reptile', 'fomaml' or 'anil'"),
        ({"fedmix": FEDMIX, "augment": {"mixup": 0.2}}, "fedmix: expected no augment.mixup"),
        ({"fedmix": FEDMIX, "dropout": 0.1, "rdrop": 0.5}, "fedmix: expected no rdrop"),
        ({"fedmix": {**FEDMIX, "rows": 1}}, "greater than or equal to 2"),
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


def test_meta_and_fedmix_go_together_with_what_is_left() -> None:
    config = EncoderConfig.model_validate(
        {
            "train_layers": None, "meta": {**META, "steps": 5, "domains": {"on": "text", "column": "channel"}},
            "fedmix": FEDMIX, "start": "runs/encoder", "keep": {"ewc": 2, "replay": 0.25}, "l1": 1e-5, "fgm": 0.1,
            "balance": {"weights": {"churn": 2.0}},
        }
    )  # fmt: skip
    assert EncoderConfig.model_validate_json(config.model_dump_json()) == config


def test_each_option_asks_for_the_groups_that_it_reads() -> None:
    assert EncoderConfig().group_columns == {}
    one = EncoderConfig.model_validate(
        {"fedmix": FEDMIX, "meta": {**META, "domains": {"on": "text", "column": "channel"}}}
    )
    assert one.group_columns == {"user": ("store",), "text": ("channel",)}
    both = EncoderConfig.model_validate({"fedmix": FEDMIX, "limits": [LIMIT, {**LIMIT, "column": "store"}]})
    assert both.group_columns == {"user": ("region", "store")}


def test_by_default_every_option_is_off() -> None:
    config = EncoderConfig()
    assert (config.meta, config.fedmix) == (None, None)
    assert (config.optimizer, config.layer_decay, config.lora, config.unfreeze, config.start) == (
        "adamw", 1.0, None, None, None,
    )  # fmt: skip
    assert not any((config.l1, config.dropout, config.fgm, config.rdrop, config.augment.mixup, config.augment.texts))
    assert not any((config.keep.kl, config.keep.ewc, config.keep.replay))
