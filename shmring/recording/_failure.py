"""A write that failed: what it was, and what is readable all the same."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from shmring.recording import _formats
from shmring.recording._errors import RecordingFailed
from shmring.recording._summary import Summary


class WriteRefused(OSError):
    """A file did not take what was to be written, whatever the system or a library calls that."""


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Turn whatever a writer raises into WriteRefused."""
    try:
        yield
    except Exception as error:
        number = getattr(error, "errno", None) or errno.EIO
        raise WriteRefused(number, _said(error)) from error


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    return text if isinstance(error, OSError) else f"{type(error).__name__}: {text}"


def failed(failure: OSError, ring: str, summary: Summary) -> RecordingFailed:
    """Make the error that ends a recording."""
    why = "the disk is full" if failure.errno == errno.ENOSPC else failure.strerror or str(failure)
    return RecordingFailed(
        f"{why}: recording ring {ring!r} ended after {summary.frames} frames ({summary.nbytes} bytes), "
        f"{_readable(summary)}",
        summary,
    )


def _readable(summary: Summary) -> str:
    """Say what can be read, which is looked up: what failed may have damaged the file."""
    first, last = summary.paths[0], summary.paths[-1]
    try:
        stored = _formats.read(last)
        count = len(stored.index)
        stored.close()
    except Exception as error:
        return f"but {last} cannot be read: {_said(error)}"
    if first != last:
        return f"which are readable in {first} to {last}"
    if count < summary.frames:
        return f"of which {count} are readable in {last}"
    return f"which are readable in {last}"
