"""Recordings for other programs: an MCAP file of images, a SigMF description of samples."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from shmring.recording import _mcap, _sigmf
from shmring.recording._recording import Recording, open_recording

MAKERS: dict[str, Callable[[Recording, Path, Path], None]] = {
    ".mcap": _mcap.write,
    ".sigmf-meta": _sigmf.write,
}


def export(path: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Write a recording in a format of others, or a description that lets others read it.

    Parameters
    ----------
    path : path-like
        A recording; of a rolling one, one of its files.
    out : path-like
        What to make; the suffix chooses. ``.mcap``: images, for Foxglove and other programs of robotics.
        ``.sigmf-meta``: a description of the samples in `path`, which is a .npy file and stays where it is.

    Raises
    ------
    FileExistsError
        `out` is there already.
    ValueError
        The format has no place for these frames.
    """
    source, target = Path(path), Path(out)
    if target.suffix not in MAKERS:
        raise ValueError(f"{target} must end in {' or '.join(MAKERS)}: the suffix chooses the format")
    with open_recording(source) as recording, _made_whole(target) as partial:
        MAKERS[target.suffix](recording, source, partial)


@contextlib.contextmanager
def _made_whole(target: Path) -> Iterator[Path]:
    """Give the file its name when it is whole."""
    if os.path.lexists(target):
        raise FileExistsError(f"{target} exists: choose another name, or delete it")
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}.partial")
    try:
        yield partial
        _name(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _name(partial: Path, target: Path) -> None:
    try:
        os.link(partial, target)  # unlike a rename, it never replaces anything
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):  # FAT and some network shares have no links
            raise
        os.rename(partial, target)
