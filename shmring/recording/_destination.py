"""What can be known about a file before the first frame is recorded into it."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path

from shmring._core import check_word
from shmring._words import count
from shmring.recording import formats
from shmring.recording._roll import free_piece, number_of
from shmring.recording._series import Mode, existing_files
from shmring.recording.formats._codec import CODECS, LARGEST
from shmring.recording.formats._description import Description
from shmring.recording.formats._npy_header import NpyHeader
from shmring.recording.formats._ome_files import order_of


def is_recording_name(name: str) -> bool:
    """Whether a file of that name would be a recording, by its suffix."""
    return formats.suffix_of(Path(name)) in formats.SUFFIXES


def check_destination(
    path: str | os.PathLike[str],
    *,
    several: bool,
    mode: Mode,
    sync: float | None = None,
    codec: str | None = None,
    appendable: bool = True,
) -> Path:
    """Refuse a file that cannot be recorded into, before you wait for a ring or for a trigger.

    This also imports the library for the format, which may take longer than the ring keeps its frames.
    """
    file = formats.as_path(path)
    if formats.is_ome(file) and (several or mode == "a"):
        raise ValueError(
            f"{file} is written in one go: an OME file has no pieces, and nothing is appended to it"
        )
    if sync is not None and file.suffix != ".npy":
        raise ValueError(f"sync is for .npy files: the library that writes {file} has no such thing")
    formats.load_library(file)
    if codec is not None:
        _check_codec(file, codec)
    appendable = appendable and not formats.is_ome(file)
    existing = existing_files(file, several=several, mode=mode, appendable=appendable)
    if mode == "a" and existing and not several:
        _check_appendable(file)
        return file
    _check_folder(file.parent)
    number = number_of(existing[-1]) + 1 if existing and mode == "a" else 1
    _check_name(free_piece(file, number) if several else file)
    return file


def check_frames(file: Path, description: Description) -> None:
    """Refuse frames that the format cannot hold, before the ring is joined."""
    if formats.is_ome(file):
        order_of(file, description)
    if file.suffix == ".npy":
        NpyHeader(description.frame_format.dtype, description.frame_format.shape)
        NpyHeader(description.index_dtype, ())
    nbytes = description.frame_format.frame_bytes
    if description.codec is not None and nbytes > LARGEST:
        raise ValueError(
            f"frames of {count(nbytes, 'byte')} are too large for codec={description.codec!r}: record them "
            f"without one"
        )


def _check_codec(file: Path, codec: str) -> None:
    check_word("codec", codec, CODECS)
    if file.suffix in (".npy", ".tiff"):
        raise ValueError(f"codec is for .zarr, .h5 and .hdf5 files: {file} has plain frames")
    formats.load_codec(file)


def _check_appendable(file: Path) -> None:
    formats.read_description(file)
    for part in formats.files(file):
        if part.exists() and not os.access(part, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, f"you may not change {part}: record into another file")


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"there is no folder {folder}: make it first")
    try:
        # A file without a name: nothing is left, whatever happens. Permission bits alone do not know of
        # read-only file systems, quotas and network shares.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        said = f"no file can be made in the folder {folder}: {error.strerror}"
        raise OSError(error.errno, said) from None


def _check_name(file: Path) -> None:
    """Refuse what is too long, for example; whether something is there was looked at before."""
    for part in formats.files(file):
        with contextlib.suppress(FileNotFoundError):
            os.lstat(part)
