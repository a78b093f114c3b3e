from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from structlog.testing import capture_logs

from infra.settings import InvalidSettingsError, KeysRequiredError, Settings, TrackerName, require_keys_if_public


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("POLYRANK_"):
            monkeypatch.delenv(name)


def keys(settings: Settings) -> list[str]:
    return [key.get_secret_value() for key in settings.api_keys]


def test_defaults_serve_this_machine_alone() -> None:
    settings = Settings.from_environment()
    assert (settings.host, settings.port, settings.api_keys) == ("127.0.0.1", 8080, ())
    require_keys_if_public(settings)


def test_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYRANK_PORT", "9000")
    monkeypatch.setenv("POLYRANK_API_KEYS", " one, two ,,")
    monkeypatch.setenv("POLYRANK_RETRIEVAL_URL", "http://retrieval:8081")
    settings = Settings.from_environment()
    assert settings.port == 9000
    assert keys(settings) == ["one", "two"]
    assert str(settings.retrieval_url) == "http://retrieval:8081/"


def test_an_address_that_may_hold_a_token_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.from_environment().alert_webhook is None
    monkeypatch.setenv("POLYRANK_ALERT_WEBHOOK", "https://hooks.example/T0/secret")
    settings = Settings.from_environment()
    assert settings.alert_webhook is not None
    assert settings.alert_webhook.get_secret_value() == "https://hooks.example/T0/secret"
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, ("tensorboard",)), (" mlflow,wandb ,", ("mlflow", "wandb")), ("", ())],
)
def test_trackers_are_a_list(
    monkeypatch: pytest.MonkeyPatch, value: str | None, expected: tuple[TrackerName, ...]
) -> None:
    if value is not None:
        monkeypatch.setenv("POLYRANK_TRACKERS", value)
    assert Settings.from_environment().trackers == expected


def test_an_unknown_tracker_is_named_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYRANK_TRACKERS", "tensorboard,wnadb")
    with pytest.raises(
        InvalidSettingsError,
        match=r"POLYRANK_TRACKERS: .*'tensorboard', 'mlflow' or 'wandb', found 'tensorboard,wnadb'",
    ):
        Settings.from_environment()


def test_an_argument_goes_before_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYRANK_PORT", "9000")
    monkeypatch.setenv("POLYRANK_API_KEYS", "one")
    settings = Settings.from_environment(port=9001, host="::1")
    assert (settings.host, settings.port, keys(settings)) == ("::1", 9001, ["one"])
    with pytest.raises(InvalidSettingsError, match="POLYRANK_PORT"):
        Settings.from_environment(port=70000)


def test_a_wrong_value_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYRANK_TIMEOUT_S", "-1")
    with pytest.raises(InvalidSettingsError, match=r"POLYRANK_TIMEOUT_S: Input should be greater than 0, found '-1'"):
        Settings.from_environment()


def test_a_mistyped_variable_is_logged_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYRANK_API_KEY", "one")
    with capture_logs() as logs:
        Settings.from_environment()
    assert [log["event"] for log in logs] == ["setting_unknown"]
    assert "did you mean 'POLYRANK_API_KEYS'" in logs[0]["message"]
    assert "one" not in logs[0].values()


def test_secrets_are_not_shown() -> None:
    settings = Settings(api_keys="opensesame", online_store_url="redis://:opensesame@host")
    assert "opensesame" not in repr(settings)
    assert "opensesame" not in settings.model_dump_json()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    require_keys_if_public(Settings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "example.org", "localhost.example.org"])  # noqa: S104
def test_any_other_address_needs_keys(host: str) -> None:
    with pytest.raises(KeysRequiredError, match=r"set POLYRANK_API_KEYS .* or bind 127\.0\.0\.1"):
        require_keys_if_public(Settings(host=host))
    require_keys_if_public(Settings(host=host, api_keys="key"))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(blacklist_categories=["Cs", "Z", "C"], blacklist_characters=","), min_size=1)))
def test_keys_survive_the_variable(given_keys: list[str]) -> None:
    assert keys(Settings(api_keys=",".join(given_keys))) == given_keys
