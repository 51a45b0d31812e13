"""Recordings in HDF5: the dataset `frames` and one for each column of the index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from shmring.recording._columns import ColumnWriter, create_datasets, read_columns
from shmring.recording._description import Description, parse
from shmring.recording._errors import RecordingCorrupt
from shmring.recording._stored import Stored

ATTRIBUTE = "shmring"


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
    import h5py

    try:
        file = h5py.File(path, "r", libver="latest", swmr=True)  # also opens what a killed recorder left
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RecordingCorrupt(f"{path} cannot be read: {error}") from None
    try:
        return read_columns(parse(str(file.attrs[ATTRIBUTE]), str(path)), file, file.close)
    except KeyError as error:
        file.close()
        raise RecordingCorrupt(f"{path} is no recording of shmring: {error}") from None
    except BaseException:
        file.close()
        raise


def read_description(path: Path) -> Description:
    """Read what the file says about its frames."""
    stored = read(path)
    stored.close()
    return stored.description
