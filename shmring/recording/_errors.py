"""The errors of recordings."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from shmring.errors import ShmringError

if TYPE_CHECKING:
    from shmring.recording._summary import Summary


class RecordingCorrupt(ShmringError, ValueError):
    """The files are not a recording, or parts of one are missing."""


class RecordingBusy(ShmringError, FileExistsError):
    """Another recorder writes this recording at this moment."""


class RecordingFailed(ShmringError, OSError):
    """The disk is full, or refused a write. The message says what is readable.

    Attributes
    ----------
    summary : Summary
        What is in the file, or files.
    """

    def __init__(self, message: str, summary: Summary) -> None:
        super().__init__(message)
        self.summary = summary


class WriteRefused(OSError):
    """A file did not take what was to be written, whatever the system or a library calls that."""


@contextlib.contextmanager
def as_corrupt(path: Path) -> Iterator[None]:
    """Turn whatever the libraries raise at a file that they cannot read into RecordingCorrupt."""
    try:
        yield
    except (RecordingCorrupt, FileNotFoundError, PermissionError, ImportError):
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise RecordingCorrupt(f"{path} is damaged, or not a recording of shmring: {said}") from None


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Turn whatever a writer raises into WriteRefused."""
    try:
        yield
    except Exception as error:
        number = getattr(error, "errno", None) or errno.EIO
        raise WriteRefused(number, wording(error)) from error


def wording(error: Exception) -> str:
    """Return what an error says, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    return text if isinstance(error, OSError) else f"{type(error).__name__}: {text}"
