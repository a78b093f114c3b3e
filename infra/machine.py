"""What the machine, or the container that this process runs in, has to offer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")
_LIMITS: Final = ("memory.max", "memory/memory.limit_in_bytes")  # of cgroup version 2 and 1


def memory_limit(cgroups: Path = _CGROUPS) -> int:
    """Return the bytes of memory this process may use: the machine's, or its control group's limit where lower.

    Args:
        cgroups: where the control group's files are mounted; inside a container they are its own.
    """
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in _LIMITS:
        path = cgroups / name
        text = path.read_text(encoding="ascii").strip() if path.is_file() else "max"
        if text != "max":  # version 2's word for no limit; version 1 writes a number beyond any machine
            found = min(found, int(text))
    return found
