"""A shop whose release another shop starts from: where both lie, and that the old shop's data comes along."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from shutil import copytree
from typing import Any

import polars as pl
import pytest

from flows.build import Build
from flows.stages.replay import Origin, StartError, find_origin, find_start
from flows.stages.train import TRAINING_RUN
from infra.manifest import ReleaseNotFoundError
from infra.releases import ReleaseStore
from retrieval.encoder.layout import DESCRIPTION, HEADS, WEIGHTS
from retrieval.layout import CATALOGUE, ENCODER_DIR

THEN = datetime(2024, 5, 20, tzinfo=UTC)
THINGS = ("tea", "coffee", "bread", "soap")
TOPIC = {
    "name": "topic", "kind": "multiclass", "on": "text", "label": {"type": "column", "column": "topic"},
    "classes": list(THINGS),
}  # fmt: skip
PURCHASE = {"name": "purchase", "kind": "binary", "on": "pair", "label": {"type": "event", "event": "purchase"}}
LIQUID = {"name": "liquid", "kind": "binary", "on": "text", "label": {"type": "column", "column": "liquid"}}


def _texts(numbers: range) -> dict[str, list[Any]]:
    things = [thing for thing in THINGS for _ in numbers]
    return {"text": [f"{thing} {n}" for thing, n in zip(things, [*numbers] * 4, strict=True)], "topic": things}


def _release(folder: Path, name: str, encoder: Path | None, **parts: Any) -> Path:
    """Write a release of nothing but an encoder; None writes three files that only look like one."""
    store = ReleaseStore(folder / ".polyrank" / "releases")
    with store.create(name, **parts) as writer:
        if encoder is not None:
            copytree(encoder, writer.path / ENCODER_DIR)
        else:
            (writer.path / ENCODER_DIR).mkdir()
            for file in (DESCRIPTION, HEADS, WEIGHTS):
                (writer.path / ENCODER_DIR / file).write_text(f"{file} of {name}", encoding="utf-8")
    return store.path(name)


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """The folder of a workspace."""
    folder = tmp_path / "first"
    folder.mkdir()
    (folder / "polyrank.yaml").write_text("name: first", encoding="utf-8")
    return folder


def test_a_start_is_an_encoder_or_its_release(first: Path, tmp_path: Path) -> None:
    release = _release(first, "r1", None, as_of=THEN)
    for named in (release, release / ENCODER_DIR, Path("../first/.polyrank/releases/r1")):
        assert find_start(named, tmp_path / "second") == release / ENCODER_DIR
    with pytest.raises(StartError, match=r"encoder\.start: expected encoder\.json in .*nowhere or in its encoder/"):
        find_start(Path("nowhere"), first)


def test_an_index_refresh_has_the_data_of_the_release_that_trained(first: Path) -> None:
    trained = _release(first, "r1", None, as_of=THEN)
    expected = Origin(workspace=first, release_id="r1", as_of=THEN, item_sequence=0)
    assert find_origin(trained / ENCODER_DIR) == expected
    again = _release(first, "r2", None, as_of=THEN + timedelta(days=7), parent="r1")
    last = _release(first, "r3", None, as_of=THEN + timedelta(days=14), parent="r2")
    assert find_origin(again / ENCODER_DIR) == find_origin(last / ENCODER_DIR) == expected
    orphan = _release(first, "r4", None, as_of=THEN, parent="r1")
    for file in (trained, *trained.rglob("*")):
        file.chmod(0o755)
    trained.rename(first / "gone")
    with pytest.raises(ReleaseNotFoundError, match="r1"):
        find_origin(orphan / ENCODER_DIR)


def test_the_data_of_old_has_the_items_that_the_release_saw(first: Path) -> None:
    store = ReleaseStore(first / ".polyrank" / "releases")
    with store.create("r1", as_of=THEN) as writer:
        (writer.path / ENCODER_DIR).mkdir()
        (writer.path / CATALOGUE).write_text('{"texts": {}, "item_sequence": 3}', encoding="utf-8")
    assert find_origin(store.path("r1") / ENCODER_DIR).item_sequence == 3


def test_an_encoder_outside_a_release_has_no_data_of_old(first: Path) -> None:
    release = _release(first, "r1", None, as_of=THEN)
    lone = first / "encoder"
    copytree(release / ENCODER_DIR, lone)
    with pytest.raises(StartError, match=rf"encoder\.keep: expected a start in a release .*, found {lone}"):
        find_origin(lone)
    with pytest.raises(StartError, match=r"found no encoder\.start"):
        find_origin(None)
    timeless = _release(first, "r2", None)
    with pytest.raises(StartError, match="expected an as-of time in the manifest of r2, found none"):
        find_origin(timeless / ENCODER_DIR)
    (first / "polyrank.yaml").unlink()
    with pytest.raises(StartError, match="expected a start in a release"):
        find_origin(release / ENCODER_DIR)


def test_the_encoders_key_holds_what_it_goes_on_from(shop: Callable[..., Build], first: Path) -> None:
    releases = [_release(first, name, None, as_of=THEN) for name in ("r1", "r2")]
    start = first / "start"
    keys = []
    for release in releases:
        start.unlink(missing_ok=True)
        start.symlink_to(release)
        keys.append(shop(f"shop-{release.name}", _texts(range(2)), [PURCHASE, TOPIC], start=str(start)).encoder_key)
    plain = shop("shop-plain", _texts(range(2)), [PURCHASE, TOPIC]).encoder_key
    assert len({tuple(map(str, key)) for key in (*keys, plain)}) == 3
    # The workspaces say the same: what differs is what lies at the start.
    assert [one == other for one, other in zip(*keys, strict=True)] == [True] * (len(keys[0]) - 3) + [False] * 3


def test_the_data_of_old_is_the_other_workspaces_as_of_its_release(shop: Callable[..., Build], tmp_path: Path) -> None:
    dated = {**_texts(range(2)), "timestamp": [THEN - timedelta(days=40 if n % 2 else 20) for n in range(8)]}
    shop("first", dated, [PURCHASE, TOPIC])
    release = _release(tmp_path / "first", "r1", None, as_of=THEN)
    lines = {"start": str(release), "keep": {"replay": 0.25}}

    def keys() -> list[list[Any]]:
        builds = [shop(f"second-{next(number)}", _texts(range(4, 6)), [PURCHASE, TOPIC], **{**lines, **keep})
                  for keep in ({}, {"keep": {"kl": 1.0}})]  # fmt: skip
        return [build.encoder_key for build in builds]

    number = count()
    before = keys()
    # Of the two texts that come to the first shop now, the one from after its release is not its encoder's business.
    for age, changed in ((0, False), (30, True)):
        for column, value in (("text", "late tea"), ("topic", "tea"), ("timestamp", THEN - timedelta(days=age))):
            dated[column].append(value)
        ids = [str(n) for n in range(len(dated["text"]))]
        pl.DataFrame({"text_id": ids, **dated}).write_parquet(tmp_path / "first" / "texts.parquet")
        with_replay, without = keys()
        assert (with_replay != before[0]) == changed
        assert without == before[1]


def test_another_workspace_goes_on_from_a_release_with_its_data(
    shop: Callable[..., Build], old: Path, tmp_path: Path
) -> None:
    shop("first", _texts(range(4)), [PURCHASE, TOPIC])
    release = _release(tmp_path / "first", "r1", old, as_of=THEN)
    texts = {**_texts(range(4, 9)), "liquid": [1] * 5 + [0] * 10 + [1] * 5}
    build = shop("second", texts, [PURCHASE, TOPIC, LIQUID], start=f"../first/.polyrank/releases/{release.name}",
                 keep={"replay": 0.25, "kl": 1.0}, steps=20)  # fmt: skip
    content = json.loads((build.encoder() / TRAINING_RUN).read_bytes())
    # The head of topics was taken over: its loss begins far below a constant's, which is 1.
    curves = {curve["name"]: curve["losses"] for curve in content["run"]["curves"]}
    assert curves["topic"][0] < 0.5
    assert curves["liquid"][0] > 0.9
