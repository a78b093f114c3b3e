"""Telling of alerts: a log line each, and a POST to the address in POLYRANK_ALERT_WEBHOOK.

An alert counts as delivered once the receiver has answered 2xx. One that wasn't is tried again by the next run. A run
killed between the answer and its note posts that alert again, under the same `Idempotency-Key`.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Final

import httpx
import structlog
from pydantic import SecretStr

from flows.monitor.alert import Alert
from flows.monitor.store import MonitorStore
from infra.errors import PolyrankError
from infra.settings import InvalidSettingsError

log = structlog.get_logger(__name__)

VARIABLE: Final = "POLYRANK_ALERT_WEBHOOK"
_PAUSES_S: Final = (0.5, 2.0)
# A receiver that is busy or broken may recover within seconds; any other refusal won't.
_PASSING: Final = frozenset({408, 429, 500, 502, 503, 504})

Post = Callable[[Alert], None]


class WebhookError(PolyrankError):
    """The receiver of alerts didn't take one; it is kept for the next run."""

    status = 502
    title = "Alert not delivered"


class Webhook:
    """Posts alerts to an address.

    Args:
        address: may hold a token, so it is never shown.
        timeout_s: of one attempt.
        pauses_s: between attempts, one more than these.

    Raises:
        InvalidSettingsError: not an http or https address.
    """

    def __init__(self, address: SecretStr, *, timeout_s: float, pauses_s: tuple[float, ...] = _PAUSES_S) -> None:
        if not address.get_secret_value().startswith(("http://", "https://")):
            raise InvalidSettingsError(f"{VARIABLE}: expected an http or https address, found something else")
        self._address = address
        self._timeout_s = timeout_s
        self._pauses_s = pauses_s

    def __call__(self, alert: Alert) -> None:
        """Post an alert.

        Raises:
            WebhookError: no attempt was answered 2xx.
        """
        reason = ""
        for pause in (0.0, *self._pauses_s):
            time.sleep(pause)
            reason, may_pass = self._attempt(alert)
            if not reason:
                return
            if not may_pass:
                break
        raise WebhookError(f"{VARIABLE}: expected 2xx to alert {alert.id}, found {reason}")

    def _attempt(self, alert: Alert) -> tuple[str, bool]:
        """Post once; return why it failed, empty if it didn't, and whether another attempt may do better."""
        # Chats show `text`; programs read `alert`.
        body = {"text": alert.summary, "alert": alert.model_dump(mode="json")}
        try:
            with _silent_httpx():
                answer = httpx.post(
                    self._address.get_secret_value(), json=body, headers={"Idempotency-Key": alert.id},
                    timeout=self._timeout_s,
                )  # fmt: skip
        except (httpx.RequestError, httpx.InvalidURL) as error:
            return type(error).__name__, isinstance(error, httpx.TransportError)
        return ("", False) if answer.is_success else (str(answer.status_code), answer.status_code in _PASSING)


@contextlib.contextmanager
def _silent_httpx() -> Iterator[None]:
    """Keep httpx from logging the address, which it does at level info, while the body runs."""
    logger = logging.getLogger("httpx")

    def dropped(_: logging.LogRecord) -> bool:
        return False

    logger.addFilter(dropped)
    try:
        yield
    finally:
        logger.removeFilter(dropped)


def deliver(store: MonitorStore, post: Post | None) -> None:
    """Log each alert that no line told of, and post those that are pending.

    Args:
        store: the monitor's.
        post: returns once the alert is received; None where there is no webhook, and alerts are kept without.

    Raises:
        WebhookError: some weren't received; every one was tried.
    """
    for alert in store.unlogged():
        log.warning("negative_share_alert", alert=alert.id, message=alert.summary)
        store.mark_logged(alert.id)
    failed: list[WebhookError] = []
    for alert in store.alerts("pending"):
        if post is None:
            store.mark(alert.id, "kept")
            continue
        try:
            post(alert)
        except WebhookError as error:
            failed.append(error)
        else:
            store.mark(alert.id, "posted")
    if failed:
        raise WebhookError(f"{len(failed)} alerts wait for the next run; {failed[0]}") from failed[0]
