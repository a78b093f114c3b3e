"""An environment for each library that stands beside ours: made once by venv and pip, never the product's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# Of the pins in peer_LIBRARY.txt, the one whose version names the library.
LIBRARIES = {"implicit": "implicit", "rectools": "RecTools"}


class NotInstalledError(Exception):
    """Pip did not install a library; its last line."""


def version(library: str) -> str:
    """Return `implicit 0.7.3` or the like, as pinned."""
    pins = dict(line.split("==") for line in (HERE / f"peer_{library}.txt").read_text("utf-8").split() if "==" in line)
    return f"{library} {pins[LIBRARIES[library]]}"


def python_of(library: str, folder: Path) -> Path:
    """Return the interpreter of a library's environment in `folder`, made if it isn't there or pins changed.

    Raises:
        NotInstalledError: pip failed.
    """
    place = folder / library
    pins, stamp, python = HERE / f"peer_{library}.txt", place / "installed.txt", place / "bin" / "python"
    if stamp.exists() and stamp.read_text("utf-8") == pins.read_text("utf-8"):
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
    asked = [python, "-m", "pip", "install", "--quiet", "--requirement", pins]
    done = subprocess.run(asked, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise NotInstalledError(done.stderr.strip().rsplit("\n", 1)[-1])
    stamp.write_text(pins.read_text("utf-8"), encoding="utf-8")
    return python


def fit(library: str, folder: Path, threads: int, arguments: list[Any]) -> None:
    """Run `peer_LIBRARY.py` with its arguments in the library's environment.

    Raises:
        NotInstalledError: the library isn't there and pip failed.
        subprocess.CalledProcessError: the library did; it said why.
    """
    count = str(threads)
    settings = os.environ | {"OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, "PYTHONWARNINGS": "ignore"}
    # The product's code and packages are none of the peers'.
    settings.pop("PYTHONPATH", None)
    subprocess.run([python_of(library, folder), HERE / f"peer_{library}.py", *arguments], check=True, env=settings)
