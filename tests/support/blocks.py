"""Names of rings that no other test uses, the files of their blocks, and where these are mapped."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np

SHM = Path("/dev/shm")

_numbers = itertools.count()


def fresh_name() -> str:
    """A ring name that no other test, and no other run, uses."""
    return f"shmring-test-{os.getpid()}-{next(_numbers)}"


def block_file(name: str) -> Path:
    """The file of a ring's block."""
    return SHM / name


def inode(name: str) -> int:
    """What distinguishes a block from every other one, after it was unlinked too."""
    return block_file(name).stat().st_ino


def mappings(node: int) -> list[tuple[int, int, str]]:
    """(start, end, permissions) of this process's mappings of the block with that inode."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, permissions, _, _, number, *path = line.split(maxsplit=5)
        if int(number) == node and path and path[0].startswith(str(SHM)):
            start, end = (int(part, 16) for part in span.split("-"))
            found.append((start, end, permissions))
    return found


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]
