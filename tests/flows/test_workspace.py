"""The workspace file: the shipped one loads, errors name file, line, path and the nearest key."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from flows.document import DocumentError, DocumentNotFoundError
from flows.folder import WorkspaceExistsError, WorkspaceFolder, template_names
from flows.workspace import Workspace, WorkspaceConfig
from infra.errors import InvalidInputError

MINIMAL = """\
name: shop
source: {type: complete_journey}
tasks:
  - {name: purchase, kind: binary, on: pair, label: {type: event, event: purchase}}
"""


def workspace(tmp_path: Path, text: str = MINIMAL) -> Workspace:
    (tmp_path / "polyrank.yaml").write_text(text, encoding="utf-8")
    return Workspace.load(tmp_path)


def error_of(tmp_path: Path, text: str) -> str:
    with pytest.raises(DocumentError) as caught:
        workspace(tmp_path, text)
    return str(caught.value)


@pytest.mark.parametrize("template", template_names())
def test_every_template_loads(tmp_path: Path, template: str) -> None:
    loaded = Workspace.load(WorkspaceFolder.create(tmp_path, template).folder)
    assert loaded.config.tasks


def test_templates_without_shops_have_the_parts_they_say(tmp_path: Path) -> None:
    for template, items in (("texts", False), ("answers", True)):
        parts = Workspace.load(WorkspaceFolder.create(tmp_path / template, template).folder).config.parts
        assert (parts.items, parts.events, parts.ranking) == (items, False, False)


def test_an_unknown_template_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"unknown template 'text'; did you mean 'texts'\?"):
        WorkspaceFolder.create(tmp_path, "text")


def test_shipped_workspace_loads_and_declares_the_tasks(tmp_path: Path) -> None:
    made = WorkspaceFolder.create(tmp_path / "new" / "shop")
    loaded = Workspace.load(made.folder)
    assert [task.name for task in loaded.config.tasks] == [
        "retrieval", "purchase", "repurchase", "coupon_response", "churn",
    ]  # fmt: skip
    assert loaded.config.time.horizon_days == 28
    assert loaded.config.audit.users == ("age",)
    assert loaded.file == tmp_path / "new" / "shop" / "polyrank.yaml"


def test_create_leaves_an_existing_file_alone(tmp_path: Path) -> None:
    workspace(tmp_path)
    with pytest.raises(WorkspaceExistsError, match="expected no workspace file"):
        WorkspaceFolder.create(tmp_path)
    assert (tmp_path / "polyrank.yaml").read_text() == MINIMAL


def test_a_minimal_file_takes_every_default(tmp_path: Path) -> None:
    config = workspace(tmp_path).config
    assert config.encoder == WorkspaceConfig.model_fields["encoder"].default
    assert config.ranking.main_task == "purchase"


def test_state_lies_below_the_folder_and_nothing_is_made_by_loading(tmp_path: Path) -> None:
    loaded = workspace(tmp_path)
    for place in ("tables", "feast", "runs", "releases", "events", "logs", "reports"):
        assert getattr(loaded, place) == tmp_path / ".polyrank" / place
    assert [path.name for path in tmp_path.iterdir()] == ["polyrank.yaml"]


def test_missing_file_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DocumentNotFoundError, match="polyrank init"):
        Workspace.load(tmp_path)


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("encodr: {}\n", "line 5, encodr: unknown key 'encodr'; did you mean 'encoder'?"),
        (
            "encoder: {trian_layers: 2}\n",
            "encoder.trian_layers: unknown key 'trian_layers'; did you mean 'train_layers'?",
        ),
        ("encoder:\n  batch: {user: 2}\n", "line 6, encoder.batch.user: unknown key 'user'; did you mean 'users'?"),
        ("time: {horizon_days: four weeks}\n", "time.horizon_days: expected a valid integer"),
        ("index: {type: flaat}\n", "index.type: expected 'auto', 'flat'"),
        ("candidates: {quota: {semantics: 3}}\n", "did you mean 'semantic'?"),
        ("sequence: {lenght: 9}\n", "sequence.lenght: unknown key 'lenght'; did you mean 'length'?"),
        ("sequence: {heads: 3}\n", "sequence: expected heads that divide width, found 3 heads of width 64"),
        ("sequence: {epochs: 0}\n", "sequence.epochs: expected greater than or equal to 1, found 0"),
        ("gate: {min_ndcg: 2}\n", "gate.min_ndcg: expected less than or equal to 1, found 2"),
        ("ranking: {main_task: purchse}\n", "ranking.main_task: unknown task 'purchse'; did you mean 'purchase'?"),
        ("ranking: {objectives: {default: buy +}}\n", "found the end"),
        ("audit: {user: [age]}\n", "audit.user: unknown key 'user'; did you mean 'users'?"),
        (
            "audit: {users: [age]}\ngate: {max_gap: [{column: agee, metric: ndcg, limit: 1}]}\n",
            "gate.max_gap, column of audit.users: unknown column 'agee'; did you mean 'age'?",
        ),
    ],
)
def test_a_wrong_section_is_named(tmp_path: Path, extra: str, expected: str) -> None:
    message = error_of(tmp_path, MINIMAL + extra)
    assert expected in message
    assert str(tmp_path / "polyrank.yaml") in message


def test_a_source_s_options_are_those_of_its_type(tmp_path: Path) -> None:
    message = error_of(tmp_path, MINIMAL.replace("complete_journey}", "complete_journey, max_user: 3}"))
    assert "line 2, source.max_user: unknown key 'max_user'; did you mean 'max_users'?" in message


def test_tasks_must_agree_with_each_other(tmp_path: Path) -> None:
    second = MINIMAL.splitlines()[-1] + "\n"
    assert "expected unique names, found 'purchase' twice" in error_of(tmp_path, MINIMAL + second)
    assert "kind contrastive needs" in error_of(
        tmp_path, MINIMAL + second.replace("binary, on: pair", "contrastive, on: user")
    )


def test_hash_follows_the_sections_asked_for_and_their_defaults(tmp_path: Path) -> None:
    loaded = workspace(tmp_path)
    same = workspace(tmp_path, MINIMAL + "encoder: {train_layers: 2}\n")  # 2 is the default
    other = workspace(tmp_path, MINIMAL + "encoder: {train_layers: 3}\n")
    assert loaded.config_hash("encoder", "tasks") == same.config_hash("tasks", "encoder")
    assert loaded.config_hash("encoder") != other.config_hash("encoder")
    assert loaded.config_hash("tasks", "texts") == other.config_hash("tasks", "texts")
    assert loaded.config_hash("texts") != loaded.config_hash("tasks")
    renamed = dataclasses.replace(loaded, config=loaded.config.model_copy(update={"name": "other"}))
    assert renamed.config_hash("name") != loaded.config_hash("name")
    with pytest.raises(InvalidInputError, match="did you mean 'encoder'"):
        loaded.config_hash("encodr")
