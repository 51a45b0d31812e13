"""What PyTorch leaves when its workers are killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.blocks import SHM


@pytest.fixture(autouse=True)
def files_of_killed_workers(nothing_left_behind):
    """PyTorch names the memory of a tensor for a moment: a worker that is killed then leaves the file."""
    yield
    for file in Path(SHM).glob("torch_*"):
        _, pid, *_ = file.name.split("_")
        if not Path("/proc", pid).exists():
            file.unlink(missing_ok=True)
