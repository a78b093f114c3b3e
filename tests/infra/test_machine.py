"""The lower of the machine's memory and the control group's limit counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from infra.machine import memory_limit


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_the_lower_of_machine_and_control_group(tmp_path: Path, name: str) -> None:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert memory_limit(tmp_path) == machine
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    for text, expected in (("1048576\n", 2**20), ("max\n", machine), (f"{2**63 - 4096}\n", machine)):
        file.write_text(text)
        assert memory_limit(tmp_path) == expected
