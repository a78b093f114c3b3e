"""Tags of free texts, served: the exported files against torch on the tokens that training tags."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from features.units import OUTSIDE, Unit, unit_spans
from infra.errors import InvalidInputError
from retrieval.encoder.backbone import load_backbone
from retrieval.encoder.config import BackboneConfig, EncoderConfig
from retrieval.encoder.data import EncoderTask, Tags
from retrieval.encoder.export import ExportError, export, verify
from retrieval.encoder.head_runtime import Heads
from retrieval.encoder.layout import ONNX, OUTPUT, STATES, TaskEntry
from retrieval.encoder.model import MultiTaskEncoder
from retrieval.encoder.runtime import TextEncoder
from retrieval.encoder.tokens import token_tags, tokenize

WORDS = EncoderTask(name="slots", kind="token_tags", on="text", classes=(OUTSIDE, "B-taste", "I-taste"))
SIGNS = EncoderTask(name="signs", kind="token_tags", on="text", classes=(OUTSIDE, "taste"), unit="character")
URGENT = EncoderTask(name="urgent", kind="binary", on="text")
# Empty, blank, twice the same, Chinese with and without spaces, and longer than twelve tokens of any kind.
TEXTS = ["tea number 3", "", " \n", "辣椒", "四川 辣椒 tea", "tea number 3", "user likes tea and soap " * 4]
Exported = tuple[MultiTaskEncoder, BackboneConfig, Path]


def _export(source: Path, folder: Path) -> Exported:
    config = BackboneConfig(
        name=str(source), max_tokens={"user": 8, "item": 8, "text": 12}, prefixes={"text": "user: "}
    )
    torch.manual_seed(1)
    tasks = (URGENT, WORDS, SIGNS)
    model = MultiTaskEncoder(load_backbone(config), tasks, EncoderConfig(backbone=config, rank=4, hidden=4))
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    report = export(model, config, folder, golden=TEXTS)
    assert report.tag_difference < 1e-5
    return model, config, folder


@pytest.fixture(scope="module")
def exported(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return _export(tiny_bert, tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def causal(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Byte-level: a Chinese character is three tokens, a word takes its space along, and the end is not marked."""
    return _export(tiny_llama, tmp_path_factory.mktemp("llama"))


def _all_units(texts: list[str], unit: Unit) -> Tags:
    """Every unit tagged, as training would get them."""
    spans = [unit_spans(text, unit) for text in texts]
    return Tags(
        text=np.repeat(np.arange(len(texts)), [len(own) for own in spans]).astype(np.int32),
        span=np.array([span for own in spans for span in own], np.int32).reshape(-1, 2),
        code=np.zeros(sum(len(own) for own in spans), np.int32),
    )


@pytest.mark.parametrize("which", ["exported", "causal"])
def test_served_tags_are_trainings(which: str, request: pytest.FixtureRequest) -> None:
    model, config, folder = request.getfixturevalue(which)
    found = TextEncoder.load(folder, threads=1).read(TEXTS, ["slots", "signs"])
    table, positions = tokenize(model.backbone.tokenizer, {"text": TEXTS}, config)
    for task in (WORDS, SIGNS):
        placed = token_tags(model.backbone.tokenizer, TEXTS, _all_units(TEXTS, task.unit), config)
        for row, (text, served) in enumerate(zip(TEXTS, found.tags[task.name], strict=True)):
            assert served.units.span.tolist() == [list(span) for span in unit_spans(text, task.unit)]
            carries = served.units.carries
            tokens = placed.token[placed.starts[row] : placed.starts[row + 1]]
            assert served.units.token[carries].tolist() == tokens.tolist()
            with torch.no_grad():
                states = model.backbone.states(*table.padded(positions["text"][[row]]))[0, torch.from_numpy(tokens)]
                expected = model.heads[task.name](states).softmax(1).numpy()
            np.testing.assert_allclose(served.probabilities[carries], expected, atol=1e-5)
            assert np.isnan(served.probabilities[~carries]).all()


def test_one_pass_gives_the_vectors_too(exported: Exported) -> None:
    encoder = TextEncoder.load(exported[2], threads=1)
    np.testing.assert_allclose(encoder.read(TEXTS, ["slots"]).vectors, encoder.encode(TEXTS, "text"), atol=1e-6)
    plain = encoder.read(TEXTS, [])
    assert plain.tags == {}
    assert np.array_equal(plain.vectors, encoder.encode(TEXTS, "text"))


def test_units_that_were_not_read_have_no_tag(exported: Exported) -> None:
    found = TextEncoder.load(exported[2], threads=1).read(TEXTS, ["slots", "signs"]).tags
    # Twelve tokens: [CLS], the prefix "user" and ":", eight words of the text, [SEP].
    assert found["slots"][6].units.token.tolist() == [*range(3, 11), *[-1] * 12]
    # "tea" is one token: its first character has it alone.
    assert found["signs"][0].units.token.tolist()[:3] == [3, 3, 3]
    assert found["signs"][0].units.carries.tolist()[:4] == [True, False, False, True]
    assert [len(own.probabilities) for own in found["slots"][1:3]] == [0, 0]


def test_texts_alone_and_none_at_all(exported: Exported) -> None:
    encoder = TextEncoder.load(exported[2], threads=1)
    together = encoder.read(TEXTS, ["slots"]).tags["slots"]
    for text, expected in zip(TEXTS, together, strict=True):
        (alone,) = encoder.read([text], ["slots"]).tags["slots"]
        np.testing.assert_allclose(alone.probabilities, expected.probabilities, atol=1e-5)
    assert together[0] is together[5]
    nothing = encoder.read([], ["slots"])
    assert nothing.vectors.shape == (0, 32)
    assert nothing.tags == {"slots": []}


def test_only_an_encoder_with_tags_gives_token_states(exported: Exported, tmp_path: Path) -> None:
    model, config, folder = exported
    assert [out.name for out in onnx.load(folder / ONNX).graph.output] == [OUTPUT, STATES]
    without = MultiTaskEncoder(model.backbone, (URGENT,), EncoderConfig(rank=4, hidden=4))
    report = export(without, config, tmp_path)
    assert report.tag_difference == 0
    assert [out.name for out in onnx.load(tmp_path / ONNX).graph.output] == [OUTPUT]
    message = r"expected one of tags \(this encoder has none\), found 'urgent'"
    with pytest.raises(InvalidInputError, match=message):
        TextEncoder.load(tmp_path).read(["tea"], ["urgent"])


def test_a_head_of_another_model_is_refused(exported: Exported) -> None:
    model, config, folder = exported
    other = copy.deepcopy(model)
    with torch.no_grad():
        next(other.heads["signs"].parameters()).mul_(1.5)
    with pytest.raises(ExportError, match="expected tags' probabilities within"):
        verify(other, config, folder)


def test_tags_by_hand() -> None:
    entry = TaskEntry(name="slots", kind="token_tags", on="text", classes=(OUTSIDE, "B"))
    outer = np.log(np.array([[1, 1], [3, 1]], np.float32))
    heads = Heads({"slots": entry}, {"slots": {"outer": outer, "bias": np.zeros(2, np.float32)}})
    found = heads.tag_probabilities("slots", np.array([[5, 1], [1, 5]], np.float32))
    # Less their mean and over their deviation, 3 and 2, the states are (1, -1) and (-1, 1): logits 0 and ln 3 of the
    # first, 0 and -ln 3 of the second; softmax gives 1/4, 3/4 and 3/4, 1/4.
    np.testing.assert_allclose(found, [[0.25, 0.75], [0.75, 0.25]], atol=1e-5)
    with pytest.raises(InvalidInputError, match=r"expected one of tags \(slots\), found 'slot'"):
        heads.tag_probabilities("slot", np.zeros((1, 2), np.float32))


def test_the_description_names_the_unit(exported: Exported) -> None:
    entries = TextEncoder.load(exported[2]).description.tasks
    assert [entry.unit for entry in entries] == ["word", "word", "character"]
    assert replace(SIGNS, unit="word").entry != SIGNS.entry
