from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import AddedToken, AutoTokenizer

from infra.errors import InvalidInputError
from retrieval.encoder.backbone import Backbone
from retrieval.encoder.config import BackboneConfig
from retrieval.encoder.labels.config import PromptConfig
from retrieval.encoder.labels.prompts import Prompt, fit_prompt, prompt_probabilities
from retrieval.encoder.optimise import autocast
from retrieval.encoder.pretrain.language_model import load_language_model

CLASSES = ("to_drink", "to_eat", "to_clean")
CONFIG = PromptConfig(
    template="{text} is about {mask} .",
    words={"to_drink": ("drink",), "to_eat": ("food",), "to_clean": ("wash",)},
    max_tokens=16,
    steps=60,
    learning_rate=3e-3,
)
# Neither number was read before.
TEXTS = [f"{thing} {n}" for thing in ("tea", "coffee", "bread", "soap") for n in (8, 9)]
CHINESE_CONFIG = CONFIG.model_copy(
    update={
        "template": "{text}的主题是{mask}。",
        "words": {"to_drink": ("饮料",), "to_eat": ("食品",), "to_clean": ("清洁",)},
    }
)


def test_a_text_is_classified_without_any_label(read_bert: BackboneConfig) -> None:
    prompt = Prompt(load_language_model(read_bert), CLASSES, CONFIG)
    found = prompt_probabilities(prompt, [*TEXTS, TEXTS[0]], progress=False)
    assert found.dtype == np.float32
    assert found.sum(1) == pytest.approx(np.ones(9), abs=1e-6)
    assert found.argmax(1).tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 0]
    assert np.array_equal(found[0], found[8])
    assert prompt_probabilities(prompt, [], progress=False).shape == (0, 3)


def test_a_chinese_text_is_classified_by_words_of_two_tokens(read_bert: BackboneConfig) -> None:
    prompt = Prompt(load_language_model(read_bert), CLASSES, CHINESE_CONFIG)
    assert [len(word) for own in prompt.words for word in own] == [2, 2, 2]
    texts = [f"{thing}{n}" for thing in ("茶", "面包", "肥皂") for n in (8, 9)]
    assert prompt_probabilities(prompt, texts, progress=False).argmax(1).tolist() == [0, 0, 1, 1, 2, 2]


def test_scores_by_hand(read_bert: BackboneConfig) -> None:
    language = load_language_model(read_bert)
    words = {"to_drink": ("drink", "tea"), "to_eat": ("food",), "to_clean": ("清洁",)}
    prompt = Prompt(language, CLASSES, CONFIG.model_copy(update={"words": words, "calibrate": False}))
    tokenizer, logs = language.backbone.tokenizer, []
    for masks in ("[MASK]", "[MASK][MASK]"):
        ids = tokenizer(f"soap 8 is about {masks} .", return_tensors="pt")["input_ids"].to(language.device)
        with torch.no_grad(), autocast(language.device):
            logits = language.model(input_ids=ids).logits[0].float()
        logs.append(torch.log_softmax(logits, 1)[(ids[0] == tokenizer.mask_token_id).cpu()].cpu())
    drink, tea, food, first, second = tokenizer.convert_tokens_to_ids(["drink", "tea", "food", "清", "洁"])
    one, two = logs
    # The mean over a class's words, and over a word's tokens: 清 at the first mask, 洁 at the second.
    expected = [
        (one[0, drink] + one[0, tea]) / 2,
        one[0, food],
        (two[0, first] + two[1, second]) / 2,
    ]
    with torch.no_grad():
        found = prompt.scores(["soap 8"])[0]
        assert found.tolist() == pytest.approx([float(value) for value in expected], abs=1e-4)
        # Beside a longer text, padding changes nothing.
        beside = prompt.scores(["soap 8", "soap 8 is about soap 8"])[0]
        torch.testing.assert_close(beside, found, atol=1e-4, rtol=0)


def test_calibration_leaves_no_class_ahead_without_a_text(read_bert: BackboneConfig) -> None:
    language = load_language_model(read_bert)
    calibrated = Prompt(language, CLASSES, CONFIG)
    raw = Prompt(language, CLASSES, CONFIG.model_copy(update={"calibrate": False}))
    with torch.no_grad():
        assert calibrated.scores([""])[0].tolist() == pytest.approx([0, 0, 0], abs=1e-5)
        ahead = raw.scores([""])[0]
        assert float(ahead.max() - ahead.min()) > 0.1
        torch.testing.assert_close(calibrated.scores(TEXTS[:1]), raw.scores(TEXTS[:1]) - ahead, atol=1e-4, rtol=0)


def test_a_few_labels_teach_words_that_meant_nothing(read_bert: BackboneConfig) -> None:
    language = load_language_model(read_bert)
    config = CONFIG.model_copy(update={"words": {"hot": ("first",), "dry": ("second",)}})
    prompt = Prompt(language, ("hot", "dry"), config)
    things = {"tea": 0, "coffee": 0, "bread": 1, "soap": 1}
    texts = [f"{thing} {n}" for thing in things for n in range(3)]
    labels = np.repeat(np.array(list(things.values()), np.float32), 3)
    labels[::3] = np.nan
    before = prompt_probabilities(prompt, TEXTS, progress=False)
    fit_prompt(prompt, texts, labels, progress=False)
    found = prompt_probabilities(prompt, TEXTS, progress=False)
    assert found.argmax(1).tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert found.max(1).min() > before.max(1).min() + 0.1
    assert not language.model.training


def test_a_long_text_is_cut_and_the_template_never(read_bert: BackboneConfig) -> None:
    prompt = Prompt(load_language_model(read_bert), CLASSES, CONFIG)
    long = "soap 清 " + "is 8 " * 200
    # [CLS] and [SEP], "is about", a mask, ".": 6 of 16 leave 10: soap, 清 and four times "is 8".
    assert prompt.lengths([long, "soap"]).tolist() == [16, 7]
    with torch.no_grad():
        torch.testing.assert_close(prompt.scores([long]), prompt.scores(["soap 清" + " is 8" * 4]), atol=1e-5, rtol=0)
        # A text that names the mask asks for no word of its own.
        torch.testing.assert_close(prompt.scores(["tea [MASK] 8"]), prompt.scores(["tea 8"]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("template", "filled"), [("{text} is {mask}.", "x is coffee"), ("{text}是{mask}。", "x是coffee")]
)
def test_a_word_is_read_as_it_stands_in_the_template(
    read_bert: BackboneConfig, tiny_llama: Path, template: str, filled: str
) -> None:
    """Byte-level tokenizers part " coffee" and "coffee" otherwise."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    tokenizer.add_special_tokens({"mask_token": AddedToken("<mask>", lstrip=True)})
    language = load_language_model(read_bert)
    backbone = Backbone(language.backbone.model, tokenizer, "mean", causal=False)
    config = PromptConfig(template=template, calibrate=False)
    (word,), _ = Prompt(replace(language, backbone=backbone), ("coffee", "tea"), config).words
    assert tokenizer(filled)["input_ids"][-len(word) :] == word
    assert tokenizer.decode(word).endswith("coffee")


def test_what_cannot_be_prompted_is_refused(
    read_bert: BackboneConfig, speechless_bert: BackboneConfig, tiny_llama: Path
) -> None:
    language = load_language_model(read_bert)
    with pytest.raises(InvalidInputError, match="expected a backbone whose masked-token head is trained"):
        Prompt(load_language_model(speechless_bert), CLASSES, CONFIG)
    with pytest.raises(InvalidInputError, match="found a causal backbone"):
        Prompt(load_language_model(BackboneConfig(name=str(tiny_llama))), CLASSES, CONFIG)
    with pytest.raises(InvalidInputError, match="unknown class 'to_drink'; did you mean 'to_drinks'"):
        Prompt(language, ("to_drinks", "to_eat", "to_clean"), CONFIG)
    with pytest.raises(InvalidInputError, match="expected words of the tokenizer's vocabulary, found 'soup kitchen'"):
        Prompt(language, ("soup_kitchen", "food"), PromptConfig())
    with pytest.raises(InvalidInputError, match="max_tokens: expected more than the template's 8, found 8"):
        # [CLS], this, text, is, about, [MASK], ., [SEP].
        Prompt(language, ("drink", "food"), PromptConfig(max_tokens=8))
    prompt = Prompt(language, CLASSES, CONFIG)
    for labels, found in (([3.0], r"3\.0\.\.3\.0"), ([np.nan], "none"), ([0.0, 1.0], "2")):
        with pytest.raises(InvalidInputError, match=f"labels: .*found {found}"):
            fit_prompt(prompt, ["tea"], np.array(labels, np.float32), progress=False)


@pytest.mark.parametrize("template", ["{text} is", "{mask} {text} {mask}", "{text!r} {mask}", "{text} {mask} {name}"])
def test_a_template_has_one_text_and_one_mask(template: str) -> None:
    with pytest.raises(ValidationError, match="expected"):
        PromptConfig(template=template)
