"""The errors of recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shmring.errors import ShmringError

if TYPE_CHECKING:
    from shmring.recording._summary import Summary


class RecordingCorrupt(ShmringError, ValueError):
    """The files are no recording, or parts of one are missing."""


class RecordingFailed(ShmringError, OSError):
    """The disk is full, or refused a write. What was recorded before is readable.

    Attributes
    ----------
    summary : Summary
        What is in the file, or files.
    """

    def __init__(self, message: str, summary: Summary) -> None:
        super().__init__(message)
        self.summary = summary
