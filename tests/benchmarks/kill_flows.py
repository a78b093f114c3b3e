"""SIGKILL at random moments of `refresh model` and `publish`: the current release loads, the next run finishes.

usage: python tests/benchmarks/kill_flows.py -w WORKSPACE [--kills 8] [--as-of 2017-11-27]

Works on a copy of the workspace, so the original stays as it is. The copy forgets every step, tables and encoder
included, so the kills fall on all of them: each run goes on from what the killed ones before it had finished.
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
        shutil.rmtree(folder / ".polyrank" / "runs")
        for number in range(arguments.kills):
            _killed(folder, ["refresh", "model", "--as-of", arguments.as_of], rng.uniform(2, arguments.longest))
            _loadable(store, before, f"refresh model, kill {number + 1}")
        _finish(folder, ["refresh", "model", "--as-of", arguments.as_of])
        newest = store.list()[0].release_id
        assert newest != before, f"expected another release than the current one, found {newest}"
        for number in range(arguments.kills):
            _killed(folder, ["publish", newest], rng.uniform(0.5, 12))
            current = store.current()
            assert current in (before, newest), current
            _loadable(store, current, f"publish, kill {number + 1}")
        _finish(folder, ["publish", newest])
        _loadable(store, newest, "after the last run")


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
        doing = [step.name for step in (folder / ".polyrank" / "runs").glob(".*")]
        CONSOLE.print(f"  killed after {after_s:.1f} s, at work on {', '.join(doing) or 'no step'}", highlight=False)


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
    parser.add_argument(
        "--as-of", default="2017-11-27", help="not that of the current release: another one has to be written"
    )
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--longest", type=float, default=200, help="latest moment of a kill, seconds")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
