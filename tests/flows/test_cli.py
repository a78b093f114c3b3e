"""The command line as a person meets it: its own process, exit codes, one clear message for each mistake."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer

from flows.cli import exit_code, parse_as_of
from flows.document import DocumentError
from infra.errors import ConflictError, NotFoundError, PolyrankError, UnavailableError
from infra.releases import ReleaseStore

WORKSPACE = """\
name: shop
source:
  type: tables
  items: {type: csv, path: items.csv, text_columns: [item_id]}
  events: {type: csv, path: events.csv, text_columns: [user_id, item_id]}
texts: {title: "{title}", item: "{title}"}
tasks:
  - {name: purchase, kind: binary, on: pair, label: {type: event, event: purchase}}
"""


def polyrank(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False, env={"PATH": "", "COLUMNS": "200"}
    )


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "polyrank.yaml").write_text(WORKSPACE)
    (tmp_path / "items.csv").write_text("item_id,title\n1,Milk\n2,Bread\n")
    (tmp_path / "events.csv").write_text(
        "user_id,item_id,event,timestamp\na,1,purchase,2020-01-01T00:00:00Z\nb,2,purchase,2020-01-02T00:00:00Z\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2017-12-04", datetime(2017, 12, 4, tzinfo=UTC)),
        ("2017-12-04T06:00:00", datetime(2017, 12, 4, 6, tzinfo=UTC)),
        ("2017-12-04T06:00:00Z", datetime(2017, 12, 4, 6, tzinfo=UTC)),
        ("2017-12-04T06:00:00+02:00", datetime(2017, 12, 4, 4, tzinfo=UTC)),
    ],
)
def test_as_of_is_utc_unless_it_has_a_zone(text: str, moment: datetime) -> None:
    assert parse_as_of(text) == moment
    assert parse_as_of(text).tzinfo is UTC


@pytest.mark.parametrize("text", ["", "yesterday", "2017-13-01", "04.12.2017", "1512345600.5x"])
def test_as_of_refuses_what_is_no_iso_date(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected an ISO 8601 date"):
        parse_as_of(text)


def test_exit_code_tells_bad_input_from_failure() -> None:
    assert exit_code(DocumentError("x")) == 2
    assert exit_code(NotFoundError("x")) == 2
    assert [exit_code(error("x")) for error in (ConflictError, UnavailableError, PolyrankError)] == [1, 1, 1]


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    script = (
        "import sys; sys.argv = ['polyrank', '--help']\n"
        "from flows.cli import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "heavy = {'prefect', 'torch', 'polars', 'numpy', 'matplotlib', 'feast', 'faiss'} & set(sys.modules)\n"
        "sys.exit(repr(heavy) if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    for command in ("refresh", "publish", "rollback", "releases", "validate", "evaluate", "serve", "demo", "init"):
        assert command in done.stdout


def test_missing_workspace_is_one_message_and_code_2(tmp_path: Path) -> None:
    done = polyrank("refresh", "model", "-w", "nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "expected a workspace file at" in done.stderr
    assert "polyrank init" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_option_value_is_code_2(tmp_path: Path) -> None:
    done = polyrank("refresh", "model", "--as-of", "yesterday", cwd=tmp_path)
    assert done.returncode == 2
    assert "expected an ISO 8601 date" in done.stderr


def test_mistake_in_the_workspace_stops_a_refresh_before_it_starts(shop: Path) -> None:
    with (shop / "polyrank.yaml").open("a") as stream:
        stream.write("encoder: {trian_layers: 1}\n")
    done = polyrank("refresh", "features", cwd=shop)
    assert done.returncode == 2
    assert "line 9, encoder.trian_layers: unknown key 'trian_layers'; did you mean 'train_layers'?" in done.stderr


def test_debug_shows_where_an_error_arose(tmp_path: Path) -> None:
    debug = polyrank("--debug", "releases", cwd=tmp_path)
    assert debug.returncode == 2
    assert "Traceback" in debug.stderr
    assert "expected a workspace file" in debug.stderr


def test_init_writes_a_workspace_once(tmp_path: Path) -> None:
    first = polyrank("init", "shop", cwd=tmp_path)
    assert first.returncode == 0
    assert str(tmp_path / "shop" / "polyrank.yaml") in first.stdout
    again = polyrank("init", "shop", cwd=tmp_path)
    assert again.returncode == 1
    assert "expected no workspace file" in again.stderr


def test_validate_prints_what_was_found(shop: Path) -> None:
    with (shop / "events.csv").open("a") as stream:
        stream.write("c,3,purchase,2020-01-03T00:00:00Z\n")  # item 3 is in no catalogue
    with (shop / "polyrank.yaml").open("a") as stream:
        stream.write("validation: {max_drop_share: 0.5}\n")
    done = polyrank("-w", str(shop), "validate", cwd=shop.parent)
    assert done.returncode == 0, done.stderr
    assert "✓" in done.stdout
    line = next(line for line in done.stdout.splitlines() if "unknown_item" in line)
    assert "drop" in line


def test_releases_are_listed_and_rolled_back(shop: Path) -> None:
    store = ReleaseStore(shop / ".polyrank" / "releases")
    for name in ("first", "second"):
        with store.create(name, as_of=datetime(2017, 12, 4, tzinfo=UTC)) as writer:
            (writer.path / "model").write_text(name)
        store.publish(name)
    done = polyrank("releases", "--workspace", str(shop), cwd=shop.parent)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    second = next(place for place, line in enumerate(lines) if "second" in line)
    assert "2017-12-04" in lines[second]
    assert "current" in lines[second + 1]
    assert "previous" in lines[next(place for place, line in enumerate(lines) if "first" in line) + 1]
    back = polyrank("rollback", "-w", str(shop), cwd=shop.parent)
    assert (back.returncode, back.stdout) == (0, "rolled back to first\n")
    assert store.current() == "first"
    again = polyrank("rollback", "-w", str(shop), cwd=shop.parent)
    assert again.returncode == 1
    assert "No previous release" in again.stderr


def test_a_missing_extra_is_named(shop: Path) -> None:
    # As on a machine with the services alone, where Prefect is not installed.
    code = "import sys; sys.modules['prefect'] = None; from flows.cli import app; app()"
    done = subprocess.run(
        [sys.executable, "-c", code, "publish", "-w", str(shop)],
        capture_output=True, text=True, timeout=120, check=False, env={"PATH": "", "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 2
    assert "expected the package 'prefect'" in done.stderr
    assert "polyrank[train]" in done.stderr


def test_validate_names_the_times_that_a_monitor_lacks(tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("id,text,tone\n1,up,good\n2,down,bad\n")
    (tmp_path / "polyrank.yaml").write_text(
        "name: news\n"
        "source: {type: tables, texts: {type: csv, path: texts.csv, columns: {text_id: id, text: text, tone: tone}}}\n"
        "tasks: [{name: tone, kind: multiclass, on: text, label: {type: column, column: tone}}]\n"
        "monitor: {task: tone, negative: [bad]}\n"
    )
    done = polyrank("validate", cwd=tmp_path)
    assert done.returncode == 2
    assert "section monitor: table texts: expected a column timestamp, found none" in done.stderr


def test_validate_names_a_column_that_an_audit_lacks(shop: Path) -> None:
    (shop / "polyrank.yaml").write_text(WORKSPACE + "audit: {users: [age]}\n")
    done = polyrank("validate", cwd=shop)
    assert done.returncode == 2
    assert "groups, table users: unknown column 'age'" in done.stderr


def test_validate_points_at_what_names_no_items(shop: Path) -> None:
    lines = WORKSPACE.splitlines()
    task = lines[-1].removesuffix("}")
    (shop / "polyrank.yaml").write_text("\n".join([*lines[:-1], f"{task}, items: 'titel == \"Milk\"'}}"]))
    done = polyrank("validate", cwd=shop)
    assert done.returncode == 2
    assert "task purchase: items: filter, character 1: unknown attribute 'titel'; did you mean 'title'?" in done.stderr
    assert '\n    titel == "Milk"\n    ^' in done.stderr
    (shop / "polyrank.yaml").write_text(WORKSPACE + "eligible: {items: stock > 0}\n")
    done = polyrank("validate", cwd=shop)
    assert done.returncode == 2
    assert "eligible: items: filter, character 1: unknown attribute 'stock'" in done.stderr
    (shop / "polyrank.yaml").write_text("\n".join([*lines[:-1], f"{task}, items: title ==}}"]))
    done = polyrank("validate", cwd=shop)
    assert done.returncode == 2
    assert f"line {len(lines)}, tasks.0.items: filter, character 9: expected a value or an attribute" in done.stderr
