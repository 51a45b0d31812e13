"""Recordings in HDF5: the dataset `frames` and one for each column of the index."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from shmring.recording._columns import ColumnWriter, create_datasets, read_columns
from shmring.recording._description import Description, parse
from shmring.recording._errors import damage_is_told
from shmring.recording._stored import Stored

ATTRIBUTE = "shmring"
SUPERBLOCK = 12  # bytes: signature, version (3 with libver="latest"), two sizes, flags
SWMR_WRITE = 0b100  # the flag of HDF5's single-writer mode


class Hdf5Writer(ColumnWriter):
    """Writes whole chunks in HDF5's single-writer mode: a file that stays readable if this is killed."""

    def __init__(self, path: Path, description: Description, *, append: bool) -> None:
        import h5py

        self._file = h5py.File(path, "r+" if append else "x", libver="latest")
        try:
            if append:
                datasets: dict[str, Any] = {str(name): self._file[name] for name in self._file}
            else:
                datasets = create_datasets(description, self._create)
            self._file.attrs[ATTRIBUTE] = description.to_json()
            super().__init__(path, description, datasets, self._flush_dataset_of)
            self._file.swmr_mode = True
        except BaseException:
            self._file.close()
            if not append:
                path.unlink()
            raise

    def _create(
        self, name: str, shape: tuple[int, ...], chunk: tuple[int, ...], dtype: np.dtype[Any], fill: int
    ) -> Any:
        made = self._file.create_dataset(
            name, shape=(0, *shape), maxshape=(None, *shape), chunks=chunk, dtype=dtype,
            fillvalue=np.uint64(fill) if fill else None,
        )  # fmt: skip
        if made.dtype != dtype:
            del self._file[name]
            raise TypeError(f"{dtype} would become {made.dtype}")
        return made

    def _flush_dataset_of(self, name: str) -> None:
        self._datasets[name].flush()

    def close(self, ended: str, lost: int) -> None:
        """Write what is left, and the totals, for which the file must leave the single-writer mode."""
        import h5py

        try:
            if ended != "write failed":
                self.flush()
        finally:
            self._file.close()
            with h5py.File(self.path, "r+", libver="latest") as file:
                file.attrs[ATTRIBUTE] = self.description.finished(ended, self.frames, lost).to_json()


def read(path: Path) -> Stored:
    """Open a recording for reading, as far as it got."""
    with damage_is_told(path), contextlib.ExitStack() as stack:
        file = stack.enter_context(_open(path))
        stored = read_columns(path, parse(str(file.attrs[ATTRIBUTE]), str(path)), file, file.close)
        stack.pop_all()
        return stored


def _open(path: Path) -> Any:
    import h5py

    with open(path, "rb") as file:
        start = file.read(SUPERBLOCK)
    if len(start) == SUPERBLOCK and start[8] == 3 and start[11] & SWMR_WRITE:
        # Its recorder is at work, or was killed. Not for any other file: this waits very long where
        # something is damaged, for a writer that may be in the middle of it.
        return h5py.File(path, "r", libver="latest", swmr=True)
    # No lock: a recorder that is just ending opens the file once more.
    return h5py.File(path, "r", libver="latest", locking=False)


def read_description(path: Path) -> Description:
    """Read what the file says about its frames."""
    stored = read(path)
    stored.close()
    return stored.description
