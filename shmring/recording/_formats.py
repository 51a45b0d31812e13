"""Which format a file has: by its suffix."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from shmring.recording import _npy
from shmring.recording._description import Description
from shmring.recording._stored import Stored

SUFFIXES = (".npy", ".zarr", ".h5", ".hdf5")
LIBRARIES = {".zarr": ("zarr", "zarr"), ".h5": ("h5py", "hdf5"), ".hdf5": ("h5py", "hdf5")}


class Writer(Protocol):
    """Appends frames to one file."""

    @property
    def frames(self) -> int:
        """Whole frames in the file."""
        ...

    def write(self, array: npt.NDArray[Any], index: npt.NDArray[Any]) -> None:
        """Append frames and their index rows; OSError where they do not fit."""

    def flush(self) -> None:
        """Let readers see what is there."""

    def close(self, ended: str, lost: int) -> None:
        """Write the totals and close the file."""


def as_path(path: str | os.PathLike[str]) -> Path:
    """Check that the suffix is one that is known."""
    found = Path(path)
    if found.suffix not in SUFFIXES:
        raise ValueError(f"{found} must end in one of {', '.join(SUFFIXES)}: the suffix chooses the format")
    return found


def load_library(path: Path) -> None:
    """Import the library that a format needs; an error that says how to install it."""
    library, extra = LIBRARIES.get(path.suffix, (None, ""))
    if library is None:
        return
    try:
        importlib.import_module(library)
    except ImportError as error:
        raise type(error)(
            f'{path.suffix} files need {library}: pip install "shmring[{extra}]" ({error})', name=library
        ) from None


def open_writer(path: Path, description: Description, *, append: bool, sync: float | None) -> Writer:
    """Begin a recording, or go on with one."""
    if append:
        description.check_same(read_description(path), str(path))
    if path.suffix == ".npy":
        return _npy.NpyWriter(path, description, append=append, sync=sync)
    if path.suffix == ".zarr":
        from shmring.recording._zarr import ZarrWriter

        return ZarrWriter(path, description, append=append)
    from shmring.recording._hdf5 import Hdf5Writer

    return Hdf5Writer(path, description, append=append)


def _reader(path: Path) -> Any:
    load_library(path)
    if path.suffix == ".npy":
        return _npy
    if path.suffix == ".zarr":
        from shmring.recording import _zarr

        return _zarr
    from shmring.recording import _hdf5

    return _hdf5


def read(path: Path) -> Stored:
    """Open a recording for reading."""
    stored: Stored = _reader(path).read(path)
    return stored


def read_description(path: Path) -> Description:
    """Read what a recording says about its frames."""
    description: Description = _reader(path).read_description(path)
    return description


def delete(path: Path) -> None:
    """Remove a recording with all that belongs to it."""
    if path.suffix == ".zarr":
        shutil.rmtree(path, ignore_errors=True)
    for file in _npy.files(path) if path.suffix == ".npy" else (path,):
        if path.suffix != ".zarr":
            file.unlink(missing_ok=True)
