from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from scipy.special import softmax

from infra.errors import InvalidInputError
from retrieval.encoder.backbone import Pooling, load_backbone
from retrieval.encoder.config import BackboneConfig, EncoderConfig, Kind
from retrieval.encoder.data import EncoderTask, TrainingData
from retrieval.encoder.explain.attributions import STEPS, Attribution, attribute
from retrieval.encoder.explain.load import LoadedEncoder, load_encoder
from retrieval.encoder.explain.question import Question, kinds_of
from retrieval.encoder.head_runtime import Heads
from retrieval.encoder.model import MultiTaskEncoder
from retrieval.encoder.runtime import TextEncoder
from retrieval.encoder.train import train

if TYPE_CHECKING:
    from conftest import AsLoaded, Export

ByHand = Callable[[Pooling], LoadedEncoder]
TEXTS: dict[Kind, str] = {
    "user": "likes tea, often coffee number 3",
    "item": "四川辣椒 tea number 1",
    "text": "user likes bread, not soap",
}


def _words(found: Attribution) -> dict[str, float]:
    return {word.text: word.value for word in found.words}


def test_a_word_by_hand(by_hand: ByHand) -> None:
    found = attribute(by_hand("mean"), Question(task="likes_tea", texts={"text": "coffee tea"}), "text")
    # The four states of "[CLS] coffee tea [SEP]": three (s, 0), one (0, s). Their mean has the direction (3, 1), so the
    # unit vector's second entry is 1 / sqrt(10); the head multiplies it by sqrt(dim) = sqrt(2) and adds .25. Of the
    # baseline the entry is 0.
    assert found.logit == pytest.approx(sqrt(2) / sqrt(10) + 0.25, abs=1e-5)
    assert found.baseline_logit == pytest.approx(0.25, abs=1e-5)
    # Coffee's embedding is the padding's: the whole difference is tea's.
    assert _words(found) == pytest.approx({"coffee": 0.0, "tea": 1 / sqrt(5)}, abs=1e-4)
    assert [token.value for token in found.tokens if not token.token.is_own] == [0.0, 0.0]
    assert found.delta == pytest.approx(0.0, abs=1e-4)


def test_equal_words_share_alike(by_hand: ByHand) -> None:
    found = attribute(by_hand("mean"), Question(task="likes_tea", texts={"text": "tea tea"}), "text")
    # Two of four states (0, s): direction (1, 1), second entry 1 / sqrt(2), times sqrt(2): 1, half of it each.
    assert [word.value for word in found.words] == pytest.approx([0.5, 0.5], abs=1e-4)


def test_few_steps_leave_a_delta_that_is_told(by_hand: ByHand) -> None:
    encoder, question = by_hand("mean"), Question(task="likes_tea", texts={"text": "coffee tea"})
    # One step: at half the way tea's embedding is (.5, .5), its state (1, 1), the sum of states (3 s + 1, 1) = (5.243,
    # 1), 5.337 long. The state's gradient along the path, from (s, 0) to (0, s) by a = .5: x = (1 - a, a), |x|^2 = .5,
    # dx = (-1, 1) is at a right angle to x, so d(s x / |x|) = s dx / |x| = 2 (-1, 1). The unit vector's second entry
    # y = 1 / 5.337 grows by (2 - y^2 * 2 - 5.243 / 5.337 * y * -2) / 5.337 = (2 - .0702 + .3682) / 5.337 = .4306.
    found = attribute(encoder, question, "text", steps=1)
    assert _words(found)["tea"] == pytest.approx(sqrt(2) * 0.4306, abs=2e-3)
    assert found.delta == pytest.approx(sqrt(2) * 0.4306 - 1 / sqrt(5), abs=2e-3)
    assert abs(attribute(encoder, question, "text", steps=20).delta) < 1e-3


def test_a_token_that_the_head_cant_see_gets_nothing(tiny_llama: Path, as_loaded: AsLoaded) -> None:
    # Causal, and only the first token's state is pooled: nothing after it counts.
    found = attribute(as_loaded(tiny_llama, "cls"), Question(task="urgent", texts={"text": "tea likes soap"}), "text")
    first, *rest = found.tokens
    assert abs(first.value) > 1e-3
    assert [share.value for share in rest] == [0.0] * len(rest)


@pytest.mark.parametrize(("architecture", "pooling"), [("tiny_bert", "cls"), ("tiny_llama", "last")])
def test_logits_are_servings_and_shares_add_up(
    architecture: str, pooling: Pooling, exported: Export, full_world: TrainingData, request: pytest.FixtureRequest
) -> None:
    folder = exported(request.getfixturevalue(architecture), pooling)
    encoder, heads, runtime = load_encoder(folder), Heads.load(folder), TextEncoder.load(folder)
    vectors = {kind: runtime.encode([text], kind) for kind, text in TEXTS.items()}
    for task in full_world.tasks:
        if task.kind == "token_tags":
            continue
        kinds = kinds_of(task)
        question = Question(task=task.name, texts={kind: TEXTS[kind] for kind in kinds})
        if len(kinds) == 2:
            served = heads.pair_logits(task.name, vectors[kinds[0]][0], vectors["item"])[0]
        else:
            served = heads.row_logits(task.name, vectors[kinds[0]])[0]
        for kind in kinds:
            # Pair heads are smooth; a row head's rectified units bend the path where no step may stand.
            found = attribute(encoder, question, kind, steps=STEPS if len(kinds) == 2 else 200)
            expected = served if found.label is None else served[task.classes.index(found.label)]
            assert found.logit == pytest.approx(float(expected), abs=1e-4), task
            assert (found.kind, found.text) == (kind, TEXTS[kind])
            total = sum(share.value for share in found.tokens)
            assert total == pytest.approx(sum(word.value for word in found.words), abs=1e-5)
            assert found.delta == pytest.approx(total - (found.logit - found.baseline_logit), abs=1e-5)
            assert abs(found.delta) < (1e-3 if len(kinds) == 2 else 0.02), task
            assert abs(found.logit - found.baseline_logit) > 1e-3


@pytest.mark.parametrize(("architecture", "pooling"), [("tiny_bert", "cls"), ("tiny_llama", "last")])
def test_a_tags_logits_are_servings_and_shares_add_up(
    architecture: str, pooling: Pooling, exported: Export, request: pytest.FixtureRequest
) -> None:
    folder = exported(request.getfixturevalue(architecture), pooling)
    encoder, text = load_encoder(folder), TEXTS["text"]
    (served,) = TextEncoder.load(folder).read([text], ["slots"]).tags["slots"]
    names = encoder.model.task("slots").classes
    for number in (1, 3):
        by_tag = [
            attribute(encoder, Question(task="slots", texts={"text": text}, label=name, unit=number), "text")
            for name in names
        ]
        probabilities = softmax([found.logit for found in by_tag])
        assert probabilities == pytest.approx(served.probabilities[number - 1], abs=1e-5)
        likeliest = attribute(encoder, Question(task="slots", texts={"text": text}, unit=number), "text")
        assert likeliest == by_tag[int(probabilities.argmax())]
        assert likeliest.unit is not None
        assert (likeliest.unit.start, likeliest.unit.end) == tuple(served.units.span[number - 1])
        total = sum(share.value for share in likeliest.tokens)
        assert likeliest.delta == pytest.approx(total - (likeliest.logit - likeliest.baseline_logit), abs=1e-5)
        assert abs(likeliest.delta) < 0.05
        assert abs(likeliest.logit - likeliest.baseline_logit) > 1e-3


def test_the_tag_of_a_word_comes_from_what_its_token_sees(tiny_llama: Path, as_loaded: AsLoaded) -> None:
    # Causal: of three words the second sees the first and itself.
    question = Question(task="slots", texts={"text": "tea likes soap"}, unit=2)
    found = attribute(as_loaded(tiny_llama, "last"), question, "text")
    assert found.unit is not None
    assert (found.unit.number, found.text[found.unit.start : found.unit.end]) == (2, "likes")
    values = [share.value for share in found.tokens]
    seen, unseen = values[: found.unit.token + 1], values[found.unit.token + 1 :]
    assert min(abs(value) for value in seen) > 1e-5
    assert unseen == [0.0] * len(unseen)
    assert unseen


def test_characters_are_units_of_their_own(tiny_bert: Path) -> None:
    config = BackboneConfig(name=str(tiny_bert), max_tokens={"user": 8, "item": 8, "text": 6})
    task = EncoderTask(name="signs", kind="token_tags", on="text", classes=("O", "B"), unit="character")
    model = MultiTaskEncoder(load_backbone(config), (task,), EncoderConfig(backbone=config)).eval()
    encoder = LoadedEncoder(model=model.requires_grad_(False), config=config)

    def ask(text: str, unit: int) -> Attribution:
        return attribute(encoder, Question(task="signs", texts={"text": text}, unit=unit), "text", steps=2)

    # "[CLS] 辣椒 tea 椒 辣 [SEP]": the tokenizer takes the two signs side by side as one word.
    found = ask("辣椒 tea 椒 辣", 6).unit
    assert found is not None
    assert (found.start, found.end, found.token) == (7, 8, 3)
    with pytest.raises(InvalidInputError, match=r"unit 2: expected a character .* found '椒': no token begins with"):
        ask("辣椒 tea 椒 辣", 2)
    with pytest.raises(InvalidInputError, match=r"unit 9: expected .* found '椒': the text is cut off before it"):
        ask("tea tea 辣 辣 椒", 9)
    with pytest.raises(InvalidInputError, match="unit: expected 1 to 7, the characters of the text, found 8"):
        ask("辣椒 tea 椒 辣", 8)


def test_one_class_is_explained(bert: LoadedEncoder) -> None:
    texts = {"text": TEXTS["text"]}
    by_class = {
        name: attribute(bert, Question(task="topic", texts=texts, label=name), "text")
        for name in bert.model.task("topic").classes
    }
    assert [found.label for found in by_class.values()] == list(by_class)
    likeliest = max(by_class.values(), key=lambda found: found.logit)
    assert attribute(bert, Question(task="topic", texts=texts), "text") == likeliest
    least = min(by_class.values(), key=lambda found: found.logit)
    assert _words(least) != pytest.approx(_words(likeliest), abs=1e-3)


def test_a_long_text_in_parts_is_as_whole(bert: LoadedEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    question = Question(task="urgent", texts={"text": TEXTS["text"]})
    whole = attribute(bert, question, "text")
    # Eight tokens: two steps a pass.
    monkeypatch.setattr("retrieval.encoder.explain.attributions.CHUNK_TOKENS", 16)
    assert _words(attribute(bert, question, "text")) == pytest.approx(_words(whole), abs=1e-5)


def test_the_word_that_training_planted_gets_the_most(
    world: TrainingData, small_config: EncoderConfig, tmp_path: Path
) -> None:
    # Who likes soap leaves: the label is in that one word.
    result = train(world, small_config.model_copy(update={"steps": 40}), out=tmp_path, progress=False)
    encoder = LoadedEncoder(model=result.model.requires_grad_(False), config=small_config.backbone)
    values = {
        taste: _words(attribute(encoder, Question(task="churn", texts={"user": f"user likes {taste}"}), "user"))
        for taste in ("tea", "coffee", "bread", "soap")
    }
    assert max(values["soap"], key=lambda word: values["soap"][word]) == "soap"
    assert max(values, key=lambda taste: values[taste][taste]) == "soap"


@pytest.mark.parametrize(
    ("changes", "of", "steps", "message"),
    [
        ({"task": "topics"}, "text", 9, "unknown task 'topics'; did you mean 'topic'"),
        ({"task": "slots"}, "text", 9, "task slots: expected the number of the word whose tag is to be explained"),
        ({"task": "slots", "unit": 2}, "text", 9, "unit: expected 1 to 1, the words of the text, found 2"),
        ({"task": "slots", "unit": 0}, "text", 9, "unit: expected 1 to 1, the words of the text, found 0"),
        ({"task": "slots", "unit": 1, "label": "prodct"}, "text", 9, "unknown class 'prodct'; did you mean 'product'"),
        ({"unit": 1}, "text", 9, "task topic: expected no unit, as its logit is of whole texts, found 1"),
        ({"task": "demand"}, "item", 9, "task demand: expected a text of each kind in item, found text"),
        (
            {"task": "purchase", "texts": {"user": "a"}},
            "user",
            9,
            "expected a text of each kind in user, item, found user",
        ),
        ({}, "item", 9, "task topic: expected tokens of a text of text, found item"),
        ({"label": "te"}, "text", 9, "task topic: unknown class 'te'; did you mean 'tea'"),
        ({"task": "urgent", "label": "tea"}, "text", 9, "expected no label.*found 'tea' for a binary one"),
        ({"texts": {"text": " \n"}}, "text", 9, "text of kind text: expected one of which something is read in 24"),
        ({}, "text", 0, "steps: expected at least 1, found 0"),
    ],
)
def test_what_cant_be_asked(changes: dict[str, Any], of: Kind, steps: int, message: str, bert: LoadedEncoder) -> None:
    question = Question(**{"task": "topic", "texts": {"text": "tea"}} | changes)
    with pytest.raises(InvalidInputError, match=message):
        attribute(bert, question, of, steps=steps)


def test_kinds_of_a_task() -> None:
    assert kinds_of(EncoderTask(name="a", kind="contrastive", on="pair")) == ("user", "item")
    assert kinds_of(EncoderTask(name="a", kind="contrastive", on="text")) == ("text", "item")
    assert kinds_of(EncoderTask(name="a", kind="regression", on="item")) == ("item",)
