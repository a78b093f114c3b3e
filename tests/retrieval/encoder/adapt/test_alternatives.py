from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from retrieval.encoder.adapt.alternatives import Alternatives, write_forms
from retrieval.encoder.adapt.back_translation import paraphrases
from retrieval.encoder.adapt.batch_sources import Replayed, Varied
from retrieval.encoder.adapt.config import AugmentConfig
from retrieval.encoder.adapt.errors import AdaptError
from retrieval.encoder.adapt.make import training_batches
from retrieval.encoder.config import EncoderConfig
from retrieval.encoder.data import TrainingData
from retrieval.encoder.prepare import Prepared, prepare
from retrieval.encoder.tokens import Int64
from retrieval.encoder.train import TrainResult

Runner = Callable[..., TrainResult]
EVERY = {
    "tokens": {"rate": 0.4, "variants": 3},
    "synonyms": {"words": {"likes": ["number"], "coffee": ["tea", "bread"]}, "rate": 1.0},
    "back_translation": "paraphrasing:shout",
}


@pytest.fixture(autouse=True)
def _hooks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the functions beside this file be imported by name."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield
    sys.modules.pop("paraphrasing", None)


def _config(config: EncoderConfig, **augment: object) -> EncoderConfig:
    return EncoderConfig.model_validate({**config.model_dump(), "augment": augment})


def _words(prepared: Prepared, texts: Int64) -> list[str]:
    table, tokenizer = prepared.pooler.table, prepared.model.backbone.tokenizer
    return [tokenizer.decode(table.ids[table.starts[t] : table.starts[t + 1]], skip_special_tokens=True) for t in texts]


def test_pairs_by_hand() -> None:
    found = Alternatives.pair(np.array([2, 0, 2, 1]), np.array([7, 5, 6, 1]), 8)
    # Text 1's only form is itself.
    assert found.starts.tolist() == [0, 1, 1, 3, 3, 3, 3, 3, 3]
    assert found.of(np.array([2, 1, 0])).tolist() == [7, 6, 5]
    rng = np.random.default_rng(0)
    drawn = np.array([found.draw(np.array([0, 1, 2]), 0.5, rng) for _ in range(4000)])
    assert set(drawn[:, 1]) == {1}
    # Half of the time itself (sd .008), else one of its forms by equal chances.
    assert (drawn[:, 0] == 0).mean() == pytest.approx(0.5, abs=0.04)
    assert [(drawn[:, 2] == form).mean() for form in (2, 6, 7)] == pytest.approx([0.5, 0.25, 0.25], abs=0.04)
    assert found.draw(np.array([2]), 1.0, rng)[0] in (6, 7)


def test_forms_belong_to_their_texts(full_world: TrainingData, small_config: EncoderConfig) -> None:
    prepared = prepare(
        full_world, _config(small_config, synonyms=EVERY["synonyms"], back_translation="paraphrasing:shout")
    )
    assert prepared.alternatives is not None
    item = prepared.placed.item_texts[10]
    assert _words(prepared, np.array([item])) == ["coffee number 0"]
    forms = set(_words(prepared, prepared.alternatives.of(np.array([item]))))
    assert forms <= {"tea number 0", "bread number 0", "coffee number 0 tea"}
    assert "coffee number 0 tea" in forms
    assert len(forms) >= 2
    user = prepared.placed.user_texts[0][0]
    assert set(_words(prepared, prepared.alternatives.of(np.array([user])))) == {
        "user number tea",
        "user likes tea tea",
    }


def test_held_out_texts_have_no_forms(full_world: TrainingData, small_config: EncoderConfig) -> None:
    prepared = prepare(full_world, _config(small_config, **EVERY))
    alternatives, placed = prepared.alternatives, prepared.placed
    assert alternatives is not None
    training = np.concatenate([placed.item_texts, *placed.user_texts[:-1], placed.texts.positions])
    only_held_out = np.setdiff1d(placed.held_out_texts.positions, training)
    assert len(only_held_out)
    assert len(alternatives.of(only_held_out)) == 0
    assert all(len(alternatives.of(np.array([text]))) for text in np.unique(training))


def test_batches_read_other_forms_of_texts_without_tags(full_world: TrainingData, small_config: EncoderConfig) -> None:
    config = _config(small_config, **EVERY, share=1.0)
    prepared = prepare(full_world, config)
    assert prepared.alternatives is not None
    plain = prepared.batcher(config.batch)
    varied = training_batches(plain, prepared, config)
    assert isinstance(varied, Varied)
    before, after = plain(np.random.default_rng(0)), varied(np.random.default_rng(0))
    assert np.array_equal(before.items, after.items)
    for view in ("user", "item", "item_row"):
        for old, new in zip(before.views[view], after.views[view], strict=True):
            assert new in prepared.alternatives.of(np.array([old]))
    # Every free text of this world has tags, which speak of its own tokens.
    assert np.array_equal(before.views["text"], after.views["text"])
    assert np.isin(after.texts, varied.reachable).all()
    assert len(np.unique(varied.reachable)) > len(np.unique(plain.reachable))


def test_states_of_other_forms_come_through_the_cache(full_world: TrainingData, small_config: EncoderConfig) -> None:
    prepared = prepare(full_world, _config(small_config, **EVERY))
    assert prepared.alternatives is not None
    texts = np.unique(prepared.alternatives.spots)[:40]
    pooler = prepared.pooler
    with torch.no_grad():
        expected = prepared.model.backbone(*pooler.table.padded(texts))
        for _ in ("computed", "from the store"):
            torch.testing.assert_close(pooler(texts), expected, atol=5e-3, rtol=0)


def test_a_seed_repeats_the_forms(world: TrainingData, small_config: EncoderConfig) -> None:
    def table(seed: int) -> list[int]:
        config = _config(small_config, **EVERY).model_copy(update={"seed": seed})
        return prepare(world, config).pooler.table.ids.tolist()

    assert table(0) == table(0)
    assert table(0) != table(1)


@pytest.mark.parametrize("architecture", ["tiny_bert", "tiny_llama"])
def test_training_reads_them(
    short: Runner, small_config: EncoderConfig, architecture: str, request: pytest.FixtureRequest
) -> None:
    backbone = {
        "name": str(request.getfixturevalue(architecture)), "max_tokens": {"user": 16, "item": 16, "text": 16}
    }  # fmt: skip
    result = short(
        backbone=backbone,
        augment={**EVERY, "mixup": 0.4},
        steps=30,
        validate_every=10,
        warmup={**small_config.warmup.model_dump(), "steps": 5},
    )
    assert result.best.mean < result.history[0].mean - 0.02


def test_the_hook_is_called_once_with_every_distinct_training_text(monkeypatch: pytest.MonkeyPatch) -> None:
    import paraphrasing

    calls: list[list[str]] = []

    def listen(texts: list[str]) -> list[str]:
        calls.append(texts)
        return texts

    monkeypatch.setattr(paraphrasing, "shout", listen)
    config = AugmentConfig(back_translation="paraphrasing:shout")
    write_forms({"item": ["b", "a", "b"], "user": ["a"], "text": ["c"]}, config, np.random.default_rng(0))
    assert calls == [["a", "b", "c"]]


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        ("no.such.module:function", "expected a function that can be imported, found 'no.such.module:function'"),
        ("paraphrasing:nothing", "expected a function that can be imported, found 'paraphrasing:nothing'"),
        ("paraphrasing:forget", "expected 2 texts from 'paraphrasing:forget', one for each given, found 1"),
        ("paraphrasing:count", "expected a list of texts from 'paraphrasing:count', found int"),
    ],
)
def test_a_hook_that_fails_is_named(hook: str, message: str) -> None:
    with pytest.raises(AdaptError, match=message):
        paraphrases(hook, ["a", "b"])


def test_replay_has_its_share(world: TrainingData, small_config: EncoderConfig) -> None:
    prepared = prepare(world, small_config)
    new, old = prepared.batcher(small_config.batch), prepared.batcher(small_config.warmup.batch, "held_out")
    taken: list[str] = []

    class Noted:
        def __init__(self, name: str, inner: object) -> None:
            self.name, self.inner = name, inner

        @property
        def reachable(self) -> Int64:
            return self.inner.reachable

        def __call__(self, rng: np.random.Generator) -> object:
            taken.append(self.name)
            return self.inner(rng)

    replayed = Replayed(Noted("new", new), Noted("old", old), 0.25)
    for _ in range(12):
        replayed(np.random.default_rng(0))
    assert taken == ["new", "new", "new", "old"] * 3
    assert len(replayed.reachable) == len(new.reachable) + len(old.reachable)
