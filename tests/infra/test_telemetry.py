from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Iterator

import pytest
import structlog
from prometheus_client import generate_latest

from infra.telemetry import Metrics, StageTimer, configure_logging

MIB = 1 << 20


@pytest.fixture
def _logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.usefixtures("_logging_restored")
def test_events_and_records_share_one_json_form() -> None:
    stream = io.StringIO()
    configure_logging("info", json=True, stream=stream)
    log = structlog.get_logger("tests")
    log.info("thing_done", count=3)
    log.debug("unseen")
    logging.getLogger("library").warning("it said %s", "so")
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        try:
            _ = 1 / 0
        except ZeroDivisionError:
            log.exception("thing_failed")
    done, library, failed = map(json.loads, stream.getvalue().splitlines())
    assert (done["event"], done["count"], done["level"]) == ("thing_done", 3, "info")
    assert done["timestamp"].endswith("Z")
    assert (library["event"], library["logger"], library["level"]) == ("it said so", "library", "warning")
    assert failed["request_id"] == "r1"
    assert "ZeroDivisionError" in failed["exception"]


@pytest.mark.usefixtures("_logging_restored")
def test_text_for_people_has_no_colours_in_a_file() -> None:
    stream = io.StringIO()
    configure_logging("warning", json=False, stream=stream)
    structlog.get_logger("tests").warning("thing_done", count=3)
    structlog.get_logger("tests").info("unseen")
    assert "thing_done" in stream.getvalue()
    assert "count=3" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
    assert "unseen" not in stream.getvalue()


def test_requests_are_counted_by_route_method_and_status() -> None:
    metrics = Metrics()
    for seconds in (0.001, 0.004):
        metrics.observe_request("/v1/things/{name}", "GET", 200, seconds)
    metrics.observe_request("/v1/things/{name}", "GET", 404, 0.001)
    labels = {"route": "/v1/things/{name}", "method": "GET", "status": "200"}
    value = metrics.registry.get_sample_value
    assert value("polyrank_request_seconds_count", labels) == 2
    assert value("polyrank_request_seconds_sum", labels) == pytest.approx(0.005)  # 0.001 + 0.004
    assert value("polyrank_request_seconds_bucket", labels | {"le": "0.003"}) == 1
    assert value("polyrank_request_seconds_count", labels | {"status": "404"}) == 1


def test_two_apps_do_not_share_counts() -> None:
    first, second = Metrics(), Metrics()
    first.count_degraded(["unknown", "stale"])
    first.count_degraded(["stale"])
    assert first.registry.get_sample_value("polyrank_degraded_total", {"reason": "stale"}) == 2
    assert second.registry.get_sample_value("polyrank_degraded_total", {"reason": "stale"}) is None


def test_parts_are_timed() -> None:
    metrics = Metrics()
    for _ in range(2):
        with metrics.timed("search"):
            time.sleep(0.002)
    value = metrics.registry.get_sample_value
    assert value("polyrank_part_seconds_count", {"part": "search"}) == 2
    assert (value("polyrank_part_seconds_sum", {"part": "search"}) or 0) >= 0.004


def test_releases_and_ages_are_asked_at_each_scrape() -> None:
    metrics = Metrics()
    state: dict[str, str | None] = {"release": None}
    metrics.watch_release(lambda: state["release"], lambda: 2)
    metrics.watch_age("snapshot", lambda: 7.5)
    assert b"polyrank_release_info{" not in generate_latest(metrics.registry)
    for name in ("a", "b"):
        state["release"] = name
        assert metrics.registry.get_sample_value("polyrank_release_info", {"release": name}) == 1
    assert metrics.registry.get_sample_value("polyrank_release_info", {"release": "a"}) is None
    assert metrics.registry.get_sample_value("polyrank_release_load_failures_total") == 2
    assert metrics.registry.get_sample_value("polyrank_feature_age_seconds", {"feature": "snapshot"}) == 7.5


def test_a_stage_reports_its_seconds_and_peak() -> None:
    timer = StageTimer()
    with timer.stage("small"):
        time.sleep(0.05)
    with timer.stage("large"):
        block = bytearray(200 * MIB)
        time.sleep(0.05)
        del block
    with timer.stage("after"):
        time.sleep(0.05)
    small, large, after = timer.stages
    assert [stage.stage for stage in timer.stages] == ["small", "large", "after"]
    assert 0.05 <= small.seconds < 5.0
    assert large.peak_rss_bytes - small.peak_rss_bytes > 150 * MIB
    assert large.peak_rss_bytes - after.peak_rss_bytes > 150 * MIB


def test_a_nested_stage_counts_for_the_outer_one() -> None:
    timer = StageTimer()
    with timer.stage("outer"), timer.stage("inner"):
        block = bytearray(100 * MIB)
        time.sleep(0.05)
        del block
    inner, outer = timer.stages
    assert (inner.stage, outer.stage) == ("inner", "outer")
    assert outer.peak_rss_bytes >= inner.peak_rss_bytes - MIB
    assert outer.seconds >= inner.seconds


def test_a_stage_that_raises_is_recorded() -> None:
    timer = StageTimer()
    with pytest.raises(KeyError), timer.stage("broken"):
        raise KeyError
    assert [stage.stage for stage in timer.stages] == ["broken"]
