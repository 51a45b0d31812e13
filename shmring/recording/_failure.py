"""How a write that failed is told."""

from __future__ import annotations

import errno

from shmring.recording._errors import RecordingFailed
from shmring.recording._summary import Summary


def failed(failure: OSError, ring: str, summary: Summary) -> RecordingFailed:
    """Make the error that ends a recording."""
    why = "the disk is full" if failure.errno == errno.ENOSPC else failure.strerror or str(failure)
    return RecordingFailed(
        f"{why}: recording ring {ring!r} ended after {summary.frames} frames ({summary.nbytes} bytes), "
        f"which are readable in {summary.paths[-1]}",
        summary,
    )
