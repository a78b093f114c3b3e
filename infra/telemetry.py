"""Logs, metrics and stage figures: what a process tells of itself."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.context_managers import Timer
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from structlog.typing import Processor

# Seconds. A request is milliseconds and a part of one microseconds; both are asked for their p99.
REQUEST_BUCKETS: Final = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
)  # fmt: skip
PART_BUCKETS: Final = (
    0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0,
)  # fmt: skip
_SAMPLE_S: Final = 0.02
_STATM: Final = Path("/proc/self/statm")
_STATUS: Final = Path("/proc/self/status")


def configure_logging(level: str, *, json: bool, stream: TextIO | None = None) -> None:
    """Send structlog's events and the standard library's records to `stream`, one line each, in one form.

    Args:
        level: least level logged, such as "info".
        json: one JSON object a line; else text for people, coloured on a terminal.
        stream: where lines go; None is standard error.
    """
    stream = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderers: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
        if json
        else [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)]
    )
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(stream),
        # A logger that kept its first stream would write to it after another call has named another one, or after it
        # was closed; keeping it saves 1.3 us a line.
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    logging.basicConfig(level=number, handlers=[handler], force=True)


class Metrics:
    """The Prometheus metrics of one app, on a registry of its own so that several apps live in one process.

    Attributes:
        registry: what `/metrics` renders.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Histogram(
            "polyrank_request_seconds",
            "Seconds from a request's arrival to the end of its answer.",
            ("route", "method", "status"),
            buckets=REQUEST_BUCKETS,
            registry=self.registry,
        )
        self._parts = Histogram(
            "polyrank_part_seconds",
            "Seconds of one part of a request's work.",
            ("part",),
            buckets=PART_BUCKETS,
            registry=self.registry,
        )
        self._degraded = Counter(
            "polyrank_degraded_total", "Answers that fell back, by reason.", ("reason",), registry=self.registry
        )
        self._ages = Gauge(
            "polyrank_feature_age_seconds", "Seconds since the data was true.", ("feature",), registry=self.registry
        )
        # labels() takes a lock and joins strings; the children never change, so the hot path looks them up here.
        self._request_children: dict[tuple[str, str, int], Histogram] = {}
        self._part_children: dict[str, Histogram] = {}

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request under its route template (never its path: that would be one series per id)."""
        key = (route, method, status)
        child = self._request_children.get(key)
        if child is None:
            child = self._request_children[key] = self._requests.labels(route, method, str(status))
        child.observe(seconds)

    def timed(self, part: str) -> Timer:
        """Return a context manager that observes the seconds spent inside under the name `part`."""
        child = self._part_children.get(part)
        if child is None:
            child = self._part_children[part] = self._parts.labels(part)
        return child.time()

    def count_degraded(self, reasons: Iterable[str]) -> None:
        """Count one answer under each reason for which it fell back."""
        for reason in reasons:
            self._degraded.labels(reason).inc()

    def watch_age(self, feature: str, age_s: Callable[[], float]) -> None:
        """Report `age_s()` seconds, asked at each scrape, as the age of `feature`."""
        self._ages.labels(feature).set_function(age_s)

    def watch_release(self, release_id: Callable[[], str | None], failures: Callable[[], int]) -> None:
        """Report the release in service and the count of failed loads, both asked at each scrape."""
        self.registry.register(_ReleaseCollector(release_id, failures))


class _ReleaseCollector(Collector):
    def __init__(self, release_id: Callable[[], str | None], failures: Callable[[], int]) -> None:
        self._release_id = release_id
        self._failures = failures

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("polyrank_release_info", "1 for the release in service.", labels=["release"])
        release_id = self._release_id()
        if release_id is not None:
            info.add_metric([release_id], 1.0)
        yield info
        yield CounterMetricFamily(
            "polyrank_release_load_failures", "Releases that failed to load.", value=float(self._failures())
        )


@dataclass(frozen=True)
class StageRecord:
    """One stage's figures: wall seconds, and the largest resident memory of the process while it ran, in bytes."""

    stage: str
    seconds: float
    peak_rss_bytes: int


class StageTimer:
    """Collects the wall time and the peak memory of named stages, in the order in which they end.

    Attributes:
        stages: the records so far; a stage that raises is recorded too.
    """

    def __init__(self) -> None:
        self.stages: list[StageRecord] = []

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what runs inside, under `name`; stages may nest."""
        peak = _PeakMemory()
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            self.stages.append(StageRecord(name, seconds, peak.stop()))


class _PeakMemory:
    """Largest resident memory of this process between construction and `stop`, in bytes.

    Where the process reached a new high in between, the kernel's own mark is exact; else samples every 20 ms are the
    estimate. The mark itself is never reset: it is also what `/usr/bin/time -v` and the job's parent read.
    """

    def __init__(self) -> None:
        self._highest_before = _highest_bytes()
        self._peak = _resident_bytes()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="peak-memory", daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._stop.set()
        self._thread.join()
        highest = _highest_bytes()
        return highest if highest > self._highest_before else max(self._peak, _resident_bytes())

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            self._peak = max(self._peak, _resident_bytes())


def _resident_bytes() -> int:
    """Resident bytes now; without /proc (macOS) the highest so far stands in."""
    if not _STATM.exists():
        return _highest_bytes()
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _highest_bytes() -> int:
    # getrusage counts KiB on Linux and bytes on macOS; after a fork and exec it still holds the parent's mark on Linux,
    # which /proc's VmHWM does not.
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
