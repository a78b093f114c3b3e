"""Alerts to a real HTTP server on this machine: each once, whatever it answers on the way."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from flows.monitor.alert import Alert
from flows.monitor.store import MonitorStore
from flows.monitor.webhook import Webhook, WebhookError, deliver
from infra.settings import InvalidSettingsError
from tests.flows.monitor.receiver import Receiver
from tests.flows.monitor.samples import T, alert


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver.running() as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> MonitorStore:
    return MonitorStore(tmp_path / "monitor.sqlite")


def keep(store: MonitorStore, *alerts: Alert) -> None:
    store.decide([own.point for own in alerts], alerts, T, post_since=T, keep=T)


def webhook(receiver: Receiver, *pauses_s: float) -> Webhook:
    return Webhook(receiver.address, timeout_s=5, pauses_s=pauses_s)


def test_each_alert_is_posted_once(store: MonitorStore, receiver: Receiver) -> None:
    own = alert()
    keep(store, own, alert("Bolt", 1))
    deliver(store, webhook(receiver))
    deliver(store, webhook(receiver))
    keys = [key for key, _ in receiver.requests]
    assert keys == [own.id, alert("Bolt", 1).id]
    body = receiver.requests[0][1]
    assert body["text"] == own.summary
    assert Alert.model_validate(body["alert"]) == own
    assert len(store.alerts("posted")) == 2


def test_a_busy_receiver_is_asked_again(store: MonitorStore, receiver: Receiver) -> None:
    keep(store, alert())
    receiver.answers = [503, 429]
    deliver(store, webhook(receiver, 0.0, 0.0))
    assert len(receiver.requests) == 3
    assert len({key for key, _ in receiver.requests}) == 1
    assert store.alerts("pending") == []


def test_a_refusal_is_kept_for_the_next_run(store: MonitorStore, receiver: Receiver) -> None:
    first, second = alert(), alert("Bolt", 1)
    keep(store, first, second)
    receiver.answers = [403]
    with pytest.raises(WebhookError, match=rf"1 alerts wait .* expected 2xx to alert {first.id}, found 403") as raised:
        deliver(store, webhook(receiver, 0.0, 0.0))
    assert "token" not in str(raised.value)
    # Another attempt wouldn't change a refusal, and it holds up no other alert.
    assert [key for key, _ in receiver.requests] == [first.id, second.id]
    assert store.alerts("pending") == [first]
    deliver(store, webhook(receiver))
    assert [key for key, _ in receiver.requests] == [first.id, second.id, first.id]


def test_nobody_there_is_a_failure(store: MonitorStore, receiver: Receiver) -> None:
    keep(store, alert())
    nowhere = Webhook(SecretStr("http://127.0.0.1:9/"), timeout_s=0.5, pauses_s=(0.0,))
    with pytest.raises(WebhookError, match="found ConnectError"):
        deliver(store, nowhere)
    deliver(store, webhook(receiver))
    assert len(receiver.requests) == 1


def test_a_run_killed_before_it_tells_leaves_the_alert_to_the_next(store: MonitorStore, receiver: Receiver) -> None:
    keep(store, alert())

    def killed(_: Alert) -> None:
        raise KeyboardInterrupt

    with capture_logs() as logged, pytest.raises(KeyboardInterrupt):
        deliver(store, killed)
    with capture_logs() as again:
        deliver(store, webhook(receiver))
    assert len(receiver.requests) == 1
    told = [[entry["event"] for entry in lines] for lines in (logged, again)]
    assert told == [["negative_share_alert"], []]


def test_without_an_address_alerts_are_kept_and_not_posted_later(store: MonitorStore, receiver: Receiver) -> None:
    keep(store, alert())
    with capture_logs() as logged:
        deliver(store, None)
    (entry,) = logged
    assert (entry["event"], entry["log_level"], entry["alert"]) == ("negative_share_alert", "warning", alert().id)
    deliver(store, webhook(receiver))
    assert receiver.requests == []
    assert len(store.alerts("kept")) == 1


def test_an_address_is_in_no_log_line(
    store: MonitorStore, receiver: Receiver, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    # Whoever configured logging before, as import-linter does, may have disabled the loggers that there were.
    monkeypatch.setattr(logging.getLogger("httpx"), "disabled", False)
    keep(store, alert())
    receiver.answers = [503]
    deliver(store, webhook(receiver, 0.0))
    assert len(receiver.requests) == 2
    assert "token" not in caplog.text
    httpx.post(receiver.address.get_secret_value(), json={})
    assert "token" in caplog.text


def test_an_address_is_checked_and_never_shown() -> None:
    with pytest.raises(
        InvalidSettingsError, match="POLYRANK_ALERT_WEBHOOK: expected an http or https address"
    ) as raised:
        Webhook(SecretStr("hooks.example/secret"), timeout_s=1)
    assert "secret" not in str(raised.value)
