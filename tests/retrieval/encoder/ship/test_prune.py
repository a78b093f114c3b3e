from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from retrieval.encoder.backbone import BackboneError, load_backbone
from retrieval.encoder.config import BackboneConfig
from retrieval.encoder.ship.prune import drop_layers, spaced

IDS = torch.tensor([[2, 5, 6, 7, 3], [2, 8, 3, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


@pytest.mark.parametrize(
    ("depth", "keep", "places"),
    [
        (6, 3, (0, 2, 5)),  # 0, 5 / 2 and 5, rounded down
        (6, 4, (0, 1, 3, 5)),  # 0, 5 / 3, 10 / 3, 5
        (12, 2, (0, 11)),
        (3, 3, (0, 1, 2)),
        (6, 1, (0,)),
    ],
)
def test_layers_are_spaced_from_the_first_to_the_last(depth: int, keep: int, places: tuple[int, ...]) -> None:
    assert spaced(depth, keep) == places


@torch.no_grad()
def test_what_remains_are_the_first_and_the_last_layer(tiny_bert: Path) -> None:
    whole = load_backbone(BackboneConfig(name=str(tiny_bert)))
    before = whole(IDS, MASK)
    small = drop_layers(whole, 2)
    # By hand: the embeddings, then the blocks 0 and 2 of 3, each told to ignore the padding.
    away = (1.0 - MASK[:, None, None, :].float()) * torch.finfo(torch.float32).min
    states: Tensor = whole.model.embeddings(input_ids=IDS)
    for place in (0, 2):
        out = whole.layers()[place](states, away)
        states = out if isinstance(out, Tensor) else out[0]
    torch.testing.assert_close(small.states(IDS, MASK) * MASK[..., None], states * MASK[..., None])
    assert len(small.layers()) == 2
    # The whole one is what it was, and shares no weights.
    next(small.layers()[0].parameters()).add_(1.0)
    assert torch.equal(whole(IDS, MASK), before)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_smaller_model_is_written_and_loaded(kind: str, tiny_bert: Path, tiny_llama: Path, tmp_path: Path) -> None:
    folder = tiny_bert if kind == "bert" else tiny_llama
    small = drop_layers(load_backbone(BackboneConfig(name=str(folder))), 1)
    small.model.save_pretrained(tmp_path)
    small.tokenizer.save_pretrained(tmp_path)
    loaded = load_backbone(BackboneConfig(name=str(tmp_path)))
    assert len(loaded.layers()) == 1
    torch.testing.assert_close(loaded(IDS, MASK), small(IDS, MASK))
    assert (loaded.pooling, loaded.causal) == (small.pooling, small.causal)


def test_a_causal_layer_learns_its_new_number(tiny_llama: Path) -> None:
    whole = load_backbone(BackboneConfig(name=str(tiny_llama)))
    # Of three layers the first and the last stay, and the last keeps its keys and values under 1 from now on.
    whole.layers().append(drop_layers(whole, 1).layers()[0])
    whole.model.config.num_hidden_layers = 3
    whole.layers()[2].self_attn.layer_idx = 2
    whole.model.config.layer_types = ["full_attention", "full_attention", "sliding_attention"]
    small = drop_layers(whole, 2)
    assert [layer.self_attn.layer_idx for layer in small.layers()] == [0, 1]
    assert small.model.config.layer_types == ["full_attention", "sliding_attention"]
    assert [layer.self_attn.layer_idx for layer in whole.layers()] == [0, 1, 2]


@pytest.mark.parametrize("keep", [0, 4])
def test_no_more_layers_than_there_are(tiny_bert: Path, keep: int) -> None:
    with pytest.raises(BackboneError, match=f"expected 1 to 3 layers of this backbone, found {keep}"):
        drop_layers(load_backbone(BackboneConfig(name=str(tiny_bert))), keep)
