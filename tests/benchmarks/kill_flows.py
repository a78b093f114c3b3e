"""SIGKILL in every step of `refresh model`, and in `publish`: the current release loads, the next run finishes.

usage: python tests/benchmarks/kill_flows.py -w WORKSPACE [--as-of 2017-11-27] [--seed 0]

Works on a copy of the workspace, so the original stays as it is. The copy forgets every step. A run is killed a random
moment after it began to write a step, first tables, then features and so on to the release itself; each run goes on
from what the killed ones before it had finished.
"""

from __future__ import annotations

import argparse
import os
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
# What a refresh writes, in this order, and the latest moment of the kill in each: most of its time on two cores.
LONGEST_S = {
    "tables": 2,
    "features": 0.3,
    "encoder": 60,
    "item_vectors": 6,
    "scene": 12,
    "merge": 20,
    "ranking": 40,
    "release": 0.05,
}
STEPS = tuple(LONGEST_S)


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
        for place in STEPS:
            _killed(folder, ["refresh", "model", "--as-of", arguments.as_of], place, rng.uniform(0, LONGEST_S[place]))
            _loadable(store, before, f"refresh model, killed in {place}")
        _finish(folder, ["refresh", "model", "--as-of", arguments.as_of])
        newest = store.list()[0].release_id
        assert newest != before, f"expected another release than the current one, found {newest}"
        for number in range(arguments.kills):
            _killed(folder, ["publish", newest], None, rng.uniform(0.5, 12))
            current = store.current()
            assert current in (before, newest), current
            _loadable(store, current, f"publish, kill {number + 1}")
        _finish(folder, ["publish", newest])
        _loadable(store, newest, "after the last run")


def _killed(folder: Path, arguments: list[str], place: str | None, after_s: float) -> None:
    """Run a command and kill it `after_s` after it began to write a step (None: after its start)."""
    state = folder / ".polyrank"
    roots = (state / "runs", state / "releases")
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *arguments, "-w", str(folder)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    # A release's folder bears the as-of day, a step's its name.
    start = ".tmp-2" if place == "release" else f".tmp-{place}-"
    before = _partial(roots)
    while place is not None and not any(name.startswith(start) for name in _partial(roots) - before):
        assert process.poll() is None, f"expected a run that writes {place}, found one that ended without"
        time.sleep(0.001)
    time.sleep(after_s)
    # With Prefect's temporary server, which would outlive it: the group is gone as after a crash of the machine.
    os.killpg(process.pid, signal.SIGKILL)
    ended = process.wait()
    what = "killed" if ended == -signal.SIGKILL else f"had ended ({ended})"
    CONSOLE.print(f"  {what} {after_s:.2f} s {'in' if place is None else f'into {place}'}", highlight=False)


def _partial(roots: tuple[Path, ...]) -> set[str]:
    return {path.name for root in roots for path in root.glob(".tmp-*")}


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
    parser.add_argument("--kills", type=int, default=8, help="of `publish`")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
