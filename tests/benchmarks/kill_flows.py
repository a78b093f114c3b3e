"""SIGKILL at random moments of `refresh model` and `publish`: the current release loads, the next run finishes.

usage: python tests/benchmarks/kill_flows.py -w WORKSPACE [--kills 6] [--as-of 2017-12-04]

Works on a copy of the workspace, so the original stays as it is. Steps that the copy finished are removed before each
refresh, so that there is something to kill.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from infra.releases import ReleaseStore
from ranking.answers import load_release

CONSOLE = Console(width=110)


def main() -> None:
    arguments = _arguments()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(dir=arguments.workspace.parent) as scratch:
        folder = Path(scratch) / "workspace"
        shutil.copytree(arguments.workspace, folder, copy_function=shutil.copy2)
        store = ReleaseStore(folder / ".polyrank" / "releases")
        before = store.current()
        assert before is not None, "expected a published release; `polyrank demo` makes one"
        _forget(folder)
        for number in range(arguments.kills):
            _killed(folder, ["refresh", "model", "--as-of", arguments.as_of], rng.uniform(2, arguments.longest))
            _loadable(store, before, f"refresh model, kill {number + 1}")
        _finish(folder, ["refresh", "model", "--as-of", arguments.as_of])
        newest = store.list()[0].release_id
        for number in range(arguments.kills):
            _killed(folder, ["publish", newest], rng.uniform(0.5, 12))
            current = store.current()
            assert current in (before, newest), current
            _loadable(store, current, f"publish, kill {number + 1}")
        _finish(folder, ["publish", newest])
        _loadable(store, newest, "after the last run")


def _forget(folder: Path) -> None:
    """Remove the ranking and scene steps, the cheap ones to repeat, and the releases that were not published."""
    runs = folder / ".polyrank" / "runs"
    for step in [*runs.glob("ranking-*"), *runs.glob("scene-*")]:
        shutil.rmtree(step)


def _killed(folder: Path, arguments: list[str], after_s: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *arguments, "-w", str(folder)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        process.wait(after_s)
        CONSOLE.print(f"  finished before the kill at {after_s:.1f} s (exit {process.returncode})")
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _loadable(store: ReleaseStore, expected: str | None, moment: str) -> None:
    current = store.current()
    assert current == expected, f"{moment}: expected {expected} to be current, found {current}"
    store.verify(current)
    began = time.perf_counter()
    load_release(store.path(current))
    seconds = time.perf_counter() - began
    CONSOLE.print(f"{moment}: {current} verified, loaded and warmed up in {seconds:.1f} s", highlight=False)


def _finish(folder: Path, arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments, "-w", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    CONSOLE.print(f"polyrank {' '.join(arguments)}: {done.stdout.strip().splitlines()[-1]}", highlight=False)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-w", "--workspace", type=Path, required=True)
    parser.add_argument("--as-of", default="2017-12-04")
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--longest", type=float, default=90, help="latest moment of a kill, seconds")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
