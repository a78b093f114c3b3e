"""Characters as units, the whole way: from a column of tags to the slots that `/v1/predict` answers with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from features.splits import plan
from features.tables import Tables, encode
from features.tasks import TaskSpec
from features.texts import TextConfig
from features.transforms import FeatureConfig
from flows.stages.column_tasks import column_tasks
from flows.stages.data import Data, EligibleConfig
from flows.stages.encode import encoder_tasks
from ranking.tags import tags_prediction
from retrieval.encoder.config import BackboneConfig, BatchConfig, EncoderConfig, WarmupConfig
from retrieval.encoder.data import TrainingData
from retrieval.encoder.explain.attributions import attribute
from retrieval.encoder.explain.load import load_encoder
from retrieval.encoder.explain.question import Question
from retrieval.encoder.export import export
from retrieval.encoder.runtime import TextEncoder
from retrieval.encoder.ship.config import ShipConfig
from retrieval.encoder.ship.write import write_runtime
from retrieval.encoder.train import train

FOODS = ("辣椒酱", "苹果", "面包", "茶")
FRAMES = ("请买{}", "我要{} 谢谢", "{}好吃", "昨天的{}坏了")
TASK = TaskSpec.model_validate(
    {
        "name": "food",
        "kind": "token_tags",
        "on": "text",
        "label": {"type": "column", "column": "food", "unit": "character"},
    }
)
T = datetime(2024, 1, 1, tzinfo=UTC)


def _tagged(frame: str, food: str) -> tuple[str, str]:
    """Return a message and the tags of its characters, those of the food B and I."""
    before, after = (len("".join(part.split())) for part in frame.split("{}"))
    tags = ["O"] * before + ["B"] + ["I"] * (len(food) - 1) + ["O"] * after
    return frame.format(food), " ".join(tags)


def _data() -> Data:
    """Every food in every frame, four times over, the last time on the day that is held out."""
    rows = [(*_tagged(frame, food), day) for day in (120, 110, 100, 84) for frame in FRAMES for food in FOODS]
    texts = pl.DataFrame(
        {
            "text_id": [f"t{row}" for row in range(len(rows))],
            "text": [text for text, _, _ in rows],
            "food": [tags for _, tags, _ in rows],
            "timestamp": [T - timedelta(days=day) for *_, day in rows],
        }
    )
    events = {"user_id": ["u"], "item_id": ["a"], "event": ["purchase"], "timestamp": [T - timedelta(days=200)]}
    tables = Tables(
        items=pl.DataFrame({"item_id": ["a"]}),
        users=pl.DataFrame({"user_id": ["u"]}),
        events=pl.DataFrame(events),
        texts=texts,
    )
    return Data(
        tables=tables, events=encode(tables), features=FeatureConfig(),
        texts=TextConfig(item="{item_id}", title="{item_id}"), eligibility=EligibleConfig(),
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread: None) -> None:
    """Train in one thread."""


@pytest.fixture(scope="module")
def chinese_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT whose normaliser parts Chinese characters by spaces of its own, which the text hasn't."""
    folder = tmp_path_factory.mktemp("chinese")
    signs = sorted(set("".join([*FOODS, *FRAMES])) - set("{} "))
    vocabulary = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *signs])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=32, initializer_range=0.2,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def served(chinese_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained encoder's files, its weights in int8."""
    folder, data = tmp_path_factory.mktemp("encoder"), _data()
    found = column_tasks(data, (TASK,), plan(T, timedelta(days=28), ranker_folds=2, encoder_folds=2))
    tasks = encoder_tasks((TASK,), found.classes)
    backbone = BackboneConfig(name=str(chinese_bert), max_tokens={"user": 12, "item": 12, "text": 12})
    config = EncoderConfig(
        backbone=backbone, batch=BatchConfig(texts=16), warmup=WarmupConfig(steps=0, batch=BatchConfig(texts=16)),
        steps=60, validate_every=20, learning_rate=2e-3, head_learning_rate=1e-2, train_layers=None,
        validation_batches=2, baseline_batches=2,
    )  # fmt: skip
    training = TrainingData(tasks=tasks, texts=found.texts, validation_texts=found.validation_texts)
    model = train(training, config, out=folder / "run", progress=False, trackers=()).model
    export(model, backbone, folder / "encoder", golden=list(found.texts.texts))
    write_runtime(folder / "encoder", ShipConfig(runtime="onnx", precision="int8_weights"), golden=found.texts.texts)
    return folder / "encoder"


def test_a_food_is_found_character_by_character(served: Path) -> None:
    encoder = TextEncoder.load(served, threads=1)
    (task,) = encoder.description.tasks
    assert (task.unit, task.classes) == ("character", ("B", "I", "O"))
    # A message as in training, but for a space more, which is no unit.
    text = "我要 辣椒酱 谢谢"
    (found,) = encoder.read([text], ["food"]).tags["food"]
    answer = tags_prediction(text, found, task)
    assert "".join(one.text for one in answer.tags) == "我要辣椒酱谢谢"
    assert [one.tag for one in answer.tags] == ["O", "O", "B", "I", "I", "O", "O"]
    (slot,) = answer.slots
    assert (slot.name, slot.start, slot.end, slot.text) == ("food", 3, 6, "辣椒酱")
    assert slot.probability == min(one.probability for one in answer.tags[2:5] if one.probability is not None)


def test_what_is_cut_off_has_no_tag(served: Path) -> None:
    encoder = TextEncoder.load(served, threads=1)
    text = "请买苹果" * 3
    (found,) = encoder.read([text], ["food"]).tags["food"]
    tags = [one.tag for one in tags_prediction(text, found, encoder.description.tasks[0]).tags]
    # Twelve tokens less two special ones.
    assert None not in tags[:10]
    assert tags[10:] == [None, None]


def test_a_characters_tag_is_explained(served: Path) -> None:
    question = Question(task="food", texts={"text": "请买辣椒酱"}, label="B", unit=3)
    found = attribute(load_encoder(served), question, "text", steps=20)
    assert found.unit is not None
    assert found.text[found.unit.start : found.unit.end] == "辣"
    assert [word.text for word in found.words] == list("请买辣椒酱")
