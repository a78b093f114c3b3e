"""Committed tables of figures: one Markdown file a benchmark, one section a size, with machine, date and command."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import faiss

from infra.machine import memory_limit

RESULTS = Path(__file__).parent / "results"


def row(*cells: object) -> list[str]:
    """Return one line of a Markdown table."""
    return [f"| {' | '.join(map(str, cells))} |"]


def machine() -> str:
    """Return cores, memory, what the processor can, and the load of the last 15 minutes."""
    flags = set(Path("/proc/cpuinfo").read_text().split("flags")[1].split("\n")[0].split())
    simd = ", ".join(flag for flag in ("avx2", "avx512f", "avx512_vnni", "amx_int8") if flag in flags)
    memory = f"{memory_limit() / 2**30:.0f} GiB"
    return f"{os.cpu_count()} cores ({simd}), {memory}, FAISS {faiss.__version__}, load {os.getloadavg()[2]:.1f}"


def section(title: str, command: str, lines: Sequence[str]) -> str:
    """Return the Markdown of one size: what was run, when and on what, then the lines."""
    about = f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, {machine()}."
    return "\n".join([f"## {title}", "", about, "", *lines]) + "\n"


def write(path: Path, head: str, text: str) -> None:
    """Put a section in place of the one with its title, or after all others; a new file begins by `head`."""
    title = text.split("\n", 1)[0]
    old = path.read_text(encoding="utf-8") if path.exists() else head
    first, *parts = old.split("\n## ")
    kept = [f"## {part}".rstrip("\n") + "\n" for part in parts if not f"## {part}".startswith(title + "\n")]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([first.rstrip("\n") + "\n", *kept, text]), encoding="utf-8")
