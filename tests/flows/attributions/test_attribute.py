"""From a workspace folder to a page: a tiny encoder as a release, its tables, and every way to ask."""

from __future__ import annotations

import math
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from rich.console import Console
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from features.tables import Tables, encode, read_tables
from features.texts import TextConfig
from features.transforms import FeatureConfig, compute
from flows.attributions.attribute import AttributeRequest, attribute_texts
from flows.attributions.console import coloured, render_attributions
from flows.attributions.page import MAPPED_WORDS, attention_drawing, render_attributions_page
from flows.attributions.report import AttributionReport, segments_of
from flows.attributions.texts import UnknownRowError, user_text
from flows.build import Build
from flows.current_tables import latest_tables
from flows.publish import NoReleaseError
from flows.stages.data import Data, EligibleConfig
from flows.stages.encode import texts_of_users
from flows.stages.frames import write_frames
from flows.workspace import Workspace
from infra.errors import InvalidInputError
from infra.releases import ReleaseStore
from infra.settings import Settings
from retrieval.encoder.backbone import load_backbone
from retrieval.encoder.config import BackboneConfig, EncoderConfig
from retrieval.encoder.data import EncoderTask
from retrieval.encoder.explain.attention import AttentionMap
from retrieval.encoder.explain.attributions import Attribution, WordShare
from retrieval.encoder.explain.spans import ReadText, Token, Word
from retrieval.encoder.export import export
from retrieval.encoder.head_runtime import Heads
from retrieval.encoder.model import MultiTaskEncoder
from retrieval.encoder.runtime import TextEncoder

T = datetime(2024, 1, 1, tzinfo=UTC)
WORKSPACE = """
name: <shop>
source:
  type: tables
  items: {type: parquet, path: items.parquet}
  users: {type: parquet, path: users.parquet}
  events: {type: parquet, path: events.parquet}
texts: {item: "{title}", user: "{city}", frequent: 2, recent: 1}
tasks:
  - {name: purchase, kind: binary, on: pair, label: {type: event, event: purchase}}
"""
TASKS = (
    EncoderTask(name="purchase", kind="binary", on="pair"),
    EncoderTask(name="churn", kind="binary", on="user"),
    EncoderTask(name="demand", kind="regression", on="item"),
    EncoderTask(name="topic", kind="multiclass", on="text", classes=("tea", "<b>soap</b>")),
    EncoderTask(name="answer", kind="contrastive", on="text"),
    EncoderTask(name="slots", kind="token_tags", on="text", classes=("O", "B")),
)
WORDS = ["tea", "soap", "green", "black", "often", "lately", "Hamburg", "Kiel", "辣", "椒", "<b>"]


def _backbone(folder: Path) -> None:
    """Write a random BERT of one layer that reads the words above."""
    vocabulary = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, initializer_range=0.3, **sizes)
    BertModel(config).save_pretrained(folder)


def _release(folder: Path, release_id: str) -> None:
    """Write a release of an untrained encoder, and publish it."""
    config = BackboneConfig(name=str(folder / "backbone"), max_tokens={"user": 10, "item": 32, "text": 8})
    model = MultiTaskEncoder(load_backbone(config), TASKS, EncoderConfig(rank=4, hidden=4))
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    store = ReleaseStore(Workspace.load(folder).releases)
    with store.create(release_id, as_of=T) as writer:
        export(model, config, writer.path / "encoder")
        shutil.copyfile(folder / "polyrank.yaml", writer.path / "workspace.yaml")
    store.publish(release_id)


def _write_source(folder: Path) -> None:
    (folder / "polyrank.yaml").write_text(WORKSPACE, encoding="utf-8")
    titles = {"a": "green tea", "b": "<b>soap</b> 辣椒", "c": "black tea"}
    pl.DataFrame({"item_id": list(titles), "title": list(titles.values())}).write_parquet(folder / "items.parquet")
    users = {"user_id": ["u", "v", "w"], "city": ["Hamburg", "Kiel", "Kiel"]}
    pl.DataFrame(users).write_parquet(folder / "users.parquet")
    bought = [("v", "b", 30), ("u", "a", 9), ("u", "c", 8), ("u", "a", 2), ("u", "b", -5), ("w", "b", -5)]
    events = {
        "user_id": [user for user, _, _ in bought],
        "item_id": [item for _, item, _ in bought],
        "event": ["purchase"] * len(bought),
        "timestamp": [T - timedelta(days=days) for *_, days in bought],
    }
    pl.DataFrame(events).write_parquet(folder / "events.parquet")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    _write_source(folder)
    _backbone(folder / "backbone")
    Build.start(Workspace.load(folder), Settings(), None)
    _release(folder, "one")
    # Templates of today are not those of the release.
    changed = WORKSPACE.replace('item: "{title}"', 'item: "today {title}"')
    (folder / "polyrank.yaml").write_text(changed, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def pair(shop: Path) -> AttributionReport:
    return attribute_texts(str(shop), AttributeRequest(task="purchase", user_id="u", item_id="b", steps=30))


def _tables(shop: Path) -> Tables:
    folder = latest_tables(Workspace.load(shop))
    assert folder is not None
    return read_tables(folder)


def test_both_texts_of_a_pair_are_the_releases_own(shop: Path, pair: AttributionReport) -> None:
    user, item = pair.texts
    assert (user.name, user.given) == ("user u", ("item b",))
    assert (item.name, item.given) == ("item b", ("user u",))
    # As of T: tea twice and once; soap was bought later, and the item's template has changed since.
    assert user.attribution.text == "Hamburg, often green tea, black tea"
    assert item.attribution.text == "<b>soap</b> 辣椒"
    encoder = shop / ".polyrank" / "releases" / "one" / "encoder"
    runtime = TextEncoder.load(encoder)
    one, other = runtime.encode([user.attribution.text], "user"), runtime.encode([item.attribution.text], "item")
    served = float(Heads.load(encoder).pair_logits("purchase", one[0], other)[0])
    for row in pair.texts:
        assert row.attribution.logit == pytest.approx(served, abs=1e-4)
        total = sum(word.value for word in row.attribution.words)
        assert total - row.difference == pytest.approx(row.attribution.delta, abs=1e-6)
        assert "".join(segment.text for segment in row.segments) == row.attribution.text
    assert pair.words_of(served) == f"{served:.3f} (probability {1 / (1 + math.exp(-served)):.3f})"


def test_one_users_text_is_the_stages(shop: Path, tmp_path: Path) -> None:
    tables = _tables(shop)
    texts, features = TextConfig(user="{city}", frequent=1, recent=1), FeatureConfig(category_column=None)
    past = tables.before(T)
    data = Data(tables=past, events=encode(past), features=features, texts=texts, eligibility=EligibleConfig())
    write_frames(tmp_path, compute(data.events, data.categories, T, n_users=3, config=features))
    positions, expected = texts_of_users(data, tmp_path)
    ids = tables.users["user_id"].gather(positions).to_list()
    assert ids == ["u", "v"]
    assert [user_text(tables, user, T, texts, features) for user in ids] == expected.to_list()
    with pytest.raises(UnknownRowError, match="user 'w': expected a purchase event before 2024-01-01"):
        user_text(tables, "w", T, texts, features)


def test_texts_stand_for_what_has_no_id(shop: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    asked = {"task": "purchase", "user_id": "u", "texts": ("tea", "soap tea"), "steps": 5}
    rows = attribute_texts(str(shop), AttributeRequest(**asked), page).texts
    assert [row.name for row in rows] == ["user u", "text 1 of 2 as item", "user u", "text 2 of 2 as item"]
    assert [row.attribution.kind for row in rows] == ["user", "item"] * 2
    rows = attribute_texts(str(shop), AttributeRequest(task="answer", item_id="a", texts=("tea",), steps=5), page).texts
    assert [(row.name, row.attribution.text) for row in rows] == [("text", "tea"), ("item a", "green tea")]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"task": "purchases"}, "unknown task 'purchases'; did you mean 'purchase'"),
        ({"task": "slots", "texts": ("tea",)}, "expected one that gives a text a logit, found token_tags"),
        ({"task": "demand", "user_id": "u"}, "task demand: expected no user_id, as its rows are of item, found 'u'"),
        ({"task": "topic", "item_id": "a"}, "task topic: expected no item_id, as its rows are of text, found 'a'"),
        ({"task": "demand"}, "task demand: expected a text of kind item, or item_id, found none"),
        ({"task": "topic"}, "task topic: expected a text of kind text, found none"),
        ({"task": "purchase", "texts": ("tea",)}, "expected user_id or item_id, as a row of it has a text of user and"),
        ({"task": "answer", "texts": ("tea",)}, "expected item_id, as a row of it has a text of text and of item"),
        ({"task": "churn", "user_id": "u", "texts": ("a", "b")}, "expected no texts beside user_id, .* found 2"),
        ({"task": "demand", "item_id": "z"}, "items.item_id: expected one of its 3 ids, found 'z'"),
        ({"task": "churn", "user_id": "z"}, "users.user_id: expected one of its 3 ids, found 'z'"),
        ({"task": "demand", "texts": ("",)}, "text of kind item: expected one of which something is read"),
        ({"task": "topic", "texts": ("tea",), "label": "te"}, "unknown class 'te'; did you mean 'tea'"),
        ({"task": "topic", "texts": ("tea",), "layer": 3, "steps": 2}, "layer: expected 1 to 2, found 3"),
    ],
)
def test_what_cant_be_asked(asked: dict[str, Any], message: str, shop: Path, tmp_path: Path) -> None:
    with pytest.raises((InvalidInputError, UnknownRowError), match=message):
        attribute_texts(str(shop), AttributeRequest(**asked), tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_without_release_or_tables(shop: Path, tmp_path: Path) -> None:
    _write_source(tmp_path)
    with pytest.raises(NoReleaseError, match="expected a release"):
        attribute_texts(str(tmp_path), AttributeRequest(task="churn", texts=("tea",)))
    shutil.copytree(shop / ".polyrank" / "releases", tmp_path / ".polyrank" / "releases")
    request = AttributeRequest(task="churn", texts=("tea",), steps=2, release="one")
    assert attribute_texts(str(tmp_path), request).release_id == "one"
    with pytest.raises(InvalidInputError, match="expected refreshed tables, found none"):
        attribute_texts(str(tmp_path), AttributeRequest(task="churn", user_id="u"))


class _Page(HTMLParser):
    """Collects a page's tags and text, and what it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.fetched: list[str] = []
        self.shown = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.fetched += [
            value for name, value in attrs if name in {"src", "href"} and value and not value.startswith("#")
        ]

    def handle_data(self, data: str) -> None:
        self.shown += data


def test_page_colours_the_words_and_escapes_them(pair: AttributionReport) -> None:
    html = pair.page.read_text(encoding="utf-8")
    page = _Page()
    page.feed(html)
    assert page.fetched == []
    assert "<b>soap</b> 辣椒" in page.shown
    assert "<shop>" in page.shown
    assert "a diagnostic, not evidence" in page.shown
    marks = [attributes for tag, attributes in page.tags if tag == "mark" and "style" in attributes]
    words = [word for row in pair.texts for word in row.attribution.words]
    assert [mark["class"] for mark in marks] == ["up" if word.value >= 0 else "down" for word in words]
    assert marks[0]["title"] == f"{words[0].value:+z.3f}".replace("-", "−")
    # The strongest word of each text has half the colour's strength.
    strengths = [float(str(mark["style"]).split()[-1]) for mark in marks]
    assert strengths.count(50.0) == 2
    assert max(strengths) == 50.0
    assert sum(tag == "svg" for tag, _ in page.tags) == 2
    assert len(re.findall(r'<dd class="bar">', html)) == sum(len(row.strongest) for row in pair.texts)


def test_page_of_a_class(shop: Path, tmp_path: Path) -> None:
    request = AttributeRequest(task="topic", texts=("tea",), label="<b>soap</b>", steps=5, layer=1)
    report = attribute_texts(str(shop), request, tmp_path / "deep" / "page.html")
    page = _Page()
    page.feed((tmp_path / "deep" / "page.html").read_text(encoding="utf-8"))
    assert report.page == tmp_path / "deep" / "page.html"
    assert [(row.name, row.given, row.attribution.label) for row in report.texts] == [("text", (), "<b>soap</b>")]
    assert "class <b>soap</b>" in page.shown
    assert "Attention, layer 1 of 2" in page.shown


def _attribution(text: str, words: list[tuple[int, int, float]], read: int) -> Attribution:
    shares = tuple(
        WordShare(word=Word(start=start, end=end, tokens=(place,)), text=text[start:end], value=value)
        for place, (start, end, value) in enumerate(words)
    )
    return Attribution(
        task="topic", kind="text", text=text, label=None, logit=1.0, baseline_logit=0.0, delta=0.0, tokens=(),
        words=shares, read=read,
    )  # fmt: skip


def test_segments_and_their_colours() -> None:
    # "tea" is strongest with -2; "soap" has a fifth of that, and "milk" was cut off.
    found = segments_of(_attribution("tea, soap milk", [(0, 3, -2.0), (5, 9, 0.4)], read=9))
    assert [(part.text, part.value, part.strength, part.is_read) for part in found] == [
        ("tea", -2.0, -1.0, True),
        (", ", None, 0.0, True),
        ("soap", 0.4, 0.2, True),
        (" milk", None, 0.0, False),
    ]
    text = coloured(found)
    assert text.plain == "tea, soap milk"
    styles = {text.plain[span.start : span.end]: span.style for span in text.spans}
    assert styles == {"tea": "bold reverse red", "soap": "cyan", " milk": "dim strike"}


def test_terminal_shows_figures_and_no_markup_of_texts(pair: AttributionReport) -> None:
    console = Console(width=100)
    with console.capture() as capture:
        render_attributions(pair, console)
    out = capture.get()
    assert "user u, given item b" in out
    assert "<b>soap</b> 辣椒" in out
    assert pair.words_of(pair.texts[0].attribution.logit) in out
    strongest = pair.texts[1].strongest[0]
    value = f"{strongest.value:+.3f}".replace("-", "−")
    assert re.search(rf"^{re.escape(strongest.text)} +{re.escape(value)}$", out, re.MULTILINE)


def test_a_large_delta_is_told(pair: AttributionReport) -> None:
    row = pair.texts[0]
    off = replace(row.attribution, logit=1.0, baseline_logit=0.0, delta=0.06)
    rough = replace(pair, texts=(replace(row, attribution=off),))
    fine = replace(pair, texts=(replace(row, attribution=replace(off, delta=0.04)),))
    assert "ask for more than 30 steps" in render_attributions_page(rough)
    assert "ask for more than" not in render_attributions_page(fine)
    console = Console(width=100)
    with console.capture() as capture:
        render_attributions(rough, console)
    assert "more than 30 steps lower it" in capture.get()


def test_the_map_of_a_long_text_shows_the_words_that_get_most() -> None:
    count = MAPPED_WORDS + 5
    words = [f"w{n:02d}" for n in range(count)]
    tokens = tuple(Token(piece=w, start=4 * n, end=4 * n + 3, is_own=True) for n, w in enumerate(words))
    read = ReadText(text=" ".join(words), kind="text", ids=torch.zeros(1, count), tokens=tokens, read=4 * count)
    # The first five get nothing.
    weights = np.zeros((1, 1, count, count), np.float32)
    weights[..., 5:] = 1 / MAPPED_WORDS
    drawn = attention_drawing(AttentionMap(read=read, weights=weights), None)
    shown = re.findall(r">(w\d\d)<", drawn)
    assert shown == words[5:] * 2
    assert attention_drawing(AttentionMap(read=read, weights=weights), 1) == drawn
