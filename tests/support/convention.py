"""Whether the rings that programs create say of their frames only what the convention of attrs knows."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import shmring
from shmring import attrs


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Check the attrs of every ring that is created inside, in this process."""
    create, problems = shmring.Ring.create, []

    @functools.wraps(create)
    def checked(*arguments, **options):
        ring = create(*arguments, **options)
        problems.extend(f"{ring.name}: {problem}" for problem in attrs.read(ring).problems)
        return ring

    shmring.Ring.create = checked
    try:
        yield
    finally:
        shmring.Ring.create = create
    assert problems == []
