"""What the end-to-end tests share: the workspace's commands and its server as a process."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import polars as pl

CUT = datetime(2017, 12, 4, tzinfo=UTC)


@dataclass(frozen=True)
class Built:
    folder: Path
    release_id: str


@dataclass(frozen=True)
class Server:
    url: str
    pid: int


def write_texts(path: Path) -> None:
    """Write a message to the shop every five days of 2017: its topic, its tone, and what of it names a product."""
    messages = [
        ("where is my order of milk", "delivery", -0.5, "O O O O O B"),
        ("the bread was stale", "quality", -1.0, "O B O O"),
        ("thanks for the fresh apples", "quality", 1.0, "O O O O B"),
        ("please deliver soap on friday", "delivery", 0.0, "O O B O O"),
        ("you charged the coffee twice", "billing", -1.0, "O O O B O"),
    ]
    rows = [messages[day % len(messages)] for day in range(73)]
    columns = {
        "text_id": [f"message-{day}" for day in range(73)],
        "text": [f"{text} {day}" for day, (text, *_) in enumerate(rows)],
        # Every tenth is yet to be labelled.
        "topic": [None if day % 10 == 9 else topic for day, (_, topic, _, _) in enumerate(rows)],
        "tone": [tone for _, _, tone, _ in rows],
        "slots": [[*slots.split(), "O"] for *_, slots in rows],
        "timestamp": [datetime(2017, 1, 1, tzinfo=UTC) + timedelta(days=5 * day) for day in range(73)],
    }
    pl.DataFrame(columns).write_parquet(path)


def polyrank(folder: Path, *arguments: str, environment: dict[str, str] | None = None, code: int = 0) -> str:
    """Run the console command on a workspace and return what it printed; its errors where it should fail."""
    as_of = ["--as-of", CUT.date().isoformat()] if arguments[0] == "refresh" else []
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments, "-w", str(folder), *as_of],
        capture_output=True, text=True, timeout=600, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == code, f"polyrank {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
    return done.stderr if code else done.stdout


@contextmanager
def serving(folder: Path, timeout_s: float = 120) -> Iterator[Server]:
    """Run `polyrank serve` on a free port until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "serve", "-w", str(folder), "--port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait_until_ready(f"http://127.0.0.1:{port}", process, timeout_s)
        yield Server(f"http://127.0.0.1:{port}", process.pid)
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        assert process.poll() is None, f"polyrank serve ended with {process.returncode} before it was ready"
        try:
            if httpx.get(f"{url}/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"polyrank serve was not ready after {timeout_s} s")
