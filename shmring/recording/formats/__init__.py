"""The formats of recordings: a file's suffix chooses one.

Here is what the rest of `shmring.recording` uses of them. Each format is a module: `_npy` (with `_growing`
and `_npy_header`), `_zarr` and `_hdf5` (both with `_columns` and `_frames`; HDF5 also with `_superblock`).
What a format provides is in `_interface`, what every format says about its frames in `_description`.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from shmring.recording._errors import RecordingCorrupt
from shmring.recording._lock import WriterLock
from shmring.recording._replacing import discard, holds_nothing, put_aside, recover
from shmring.recording.formats import _npy, _ome_files
from shmring.recording.formats._description import Description
from shmring.recording.formats._interface import Stored, Writer

SUFFIXES = (".npy", ".zarr", ".h5", ".hdf5", *_ome_files.SUFFIXES)
LIBRARIES = {".zarr": ("zarr", "zarr"), ".h5": ("h5py", "hdf5"), ".hdf5": ("h5py", "hdf5")}


def suffix_of(path: Path) -> str:
    """Return what chooses the format: the last suffix, or an OME file's two."""
    return next((suffix for suffix in _ome_files.SUFFIXES if path.name.endswith(suffix)), path.suffix)


def is_ome(path: Path) -> bool:
    """Whether it is a file for microscopy, which is written once and not read here."""
    return suffix_of(path) in _ome_files.SUFFIXES


def as_path(path: str | os.PathLike[str]) -> Path:
    """Check that the suffix is known."""
    found = Path(path)
    if suffix_of(found) not in SUFFIXES:
        raise ValueError(f"{found} must end in one of {', '.join(SUFFIXES)}: the suffix chooses the format")
    return found


def load_library(path: Path) -> None:
    """Import the library that a format needs; an error that says how to install it."""
    if is_ome(path):
        _ome_files.load()
        return
    library, extra = LIBRARIES.get(path.suffix, (None, ""))
    if library is None:
        return
    try:
        importlib.import_module(library)
    except ImportError as error:
        raise type(error)(
            f'{path.suffix} files need {library}: pip install "shmring[{extra}]" ({error})', name=library
        ) from None


def load_codec(path: Path) -> None:
    """Import the library that compresses; an error that says how to install it."""
    if path.suffix in (".h5", ".hdf5"):
        from shmring.recording.formats import _hdf5_codec

        _hdf5_codec.bitshuffle()


def open_writer(
    path: Path, description: Description, *, append: bool, sync: float | None
) -> tuple[Writer, WriterLock]:
    """Begin a recording, or continue one; no other recorder writes it until the lock is closed."""
    if append:
        lock = WriterLock(path)
        try:
            stored = _npy.read(path, alone=True) if path.suffix == ".npy" else read(path)
            stored.close()
            description.check_same(stored.description, str(path))
            description = description.after(stored.description, len(stored.index))
            return _make_writer(path, description, append=True, sync=sync), lock
        except BaseException:
            lock.close()
            raise
    check_own(path)
    writer = _make_writer(path, description, append=False, sync=sync)
    try:
        return writer, WriterLock(path)
    except BaseException:
        writer.close("write failed", 0)
        raise


def _make_writer(path: Path, description: Description, *, append: bool, sync: float | None) -> Writer:
    if is_ome(path):
        return _ome_files.OmeWriter(path, description)
    if path.suffix == ".npy":
        return _npy.NpyWriter(path, description, append=append, sync=sync)
    if path.suffix == ".zarr":
        from shmring.recording.formats._zarr import ZarrWriter

        return ZarrWriter(path, description, append=append)
    from shmring.recording.formats._hdf5 import Hdf5Writer

    return Hdf5Writer(path, description, append=append)


def _reader(path: Path) -> Any:
    load_library(path)
    if is_ome(path):
        return _ome_files
    if path.suffix == ".npy":
        return _npy
    if path.suffix == ".zarr":
        from shmring.recording.formats import _zarr

        return _zarr
    from shmring.recording.formats import _hdf5

    return _hdf5


def read(path: Path) -> Stored:
    """Open a recording for reading."""
    stored: Stored = _reader(path).read(path)
    return stored


def read_description(path: Path) -> Description:
    """Read what a recording says about its frames."""
    description: Description = _reader(path).read_description(path)
    return description


def description_of(path: Path) -> Description | None:
    """Return what a recording says about its frames; None if it is not a recording, or cannot be read."""
    try:
        return read_description(path)
    except (RecordingCorrupt, OSError):
        return None


def files(path: Path) -> tuple[Path, ...]:
    """All that belongs to a recording, the main file first."""
    return _npy.files(path) if path.suffix == ".npy" else (path,)


def delete(path: Path) -> None:
    """Remove a recording with all that belongs to it: a kill leaves it whole, or gone."""
    put_aside(files(path))
    discard(files(path))


def check_own(path: Path) -> None:
    """Refuse to replace what no recorder has made: FileExistsError if any of these files is foreign."""
    try:
        if path.suffix == ".npy":
            _npy.check_own(path)
        elif not holds_nothing(path):
            read_description(path)
    except RecordingCorrupt as error:
        raise FileExistsError(
            f"{error}. It is not overwritten: move or delete it, or take another name"
        ) from None


def repair(path: str | os.PathLike[str]) -> int:
    """Make a recording whole after its recorder was killed, the disk was full or the power failed.

    This works for every format, and you never need it for `open_recording` or to append: it is for other
    programs, and for a recording whose replacement (``mode="w"``) was interrupted, which comes back.
    No whole frame is lost. Frames of a .npy recording whose index rows were lost get rows that
    continue the count, see ``Recording.known``.

    Parameters
    ----------
    path : path-like
        A file that a recorder made; of a rolling recording, one of its files.

    Returns
    -------
    int
        Frames that other programs did not see before.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    RecordingBusy
        It is being recorded.
    RecordingCorrupt
        It is not a recording, or parts of it are missing.
    """
    path = as_path(path)
    recover(files(path))
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    with WriterLock(path):
        repaired: int = _reader(path).repair(path)
        return repaired
