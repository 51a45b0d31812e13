"""Recordings in Zarr v3: a group with the array `frames` and one for each column of the index."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from shmring.recording._columns import ColumnWriter, create_datasets, read_columns
from shmring.recording._description import Description, parse
from shmring.recording._errors import RecordingCorrupt, damage_is_told
from shmring.recording._stored import Stored

ATTRIBUTE = "shmring"


class ZarrWriter(ColumnWriter):
    """Writes whole chunks, each a file, uncompressed."""

    def __init__(self, path: Path, description: Description, *, append: bool) -> None:
        import zarr

        if append:
            self._group = zarr.open_group(path, mode="r+")
            datasets = {name: self._group[name] for name in self._group.array_keys()}
        else:
            if path.exists():
                raise FileExistsError(f"{path} exists")
            self._group = zarr.create_group(path, zarr_format=3)
            try:
                datasets = create_datasets(description, self._create)
            except BaseException:
                shutil.rmtree(path)
                raise
        self._group.attrs[ATTRIBUTE] = description.to_json()
        super().__init__(path, description, datasets, lambda name: None)

    def _create(
        self, name: str, shape: tuple[int, ...], chunk: tuple[int, ...], dtype: np.dtype[Any], fill: int
    ) -> Any:
        with warnings.catch_warnings():
            # Zarr warns where a dtype has no specification yet. The bytes along an axis have one.
            warnings.simplefilter("error")
            try:
                made = self._group.create_array(
                    name, shape=(0, *shape), chunks=chunk, dtype=dtype, compressors=None,
                    fill_value=fill if dtype == "u8" else None,
                )  # fmt: skip
            except Warning as warning:
                raise TypeError(str(warning)) from None
        if made.dtype != dtype:
            del self._group[name]
            raise TypeError(f"{dtype} would become {made.dtype}")
        return made

    def close(self, ended: str, lost: int) -> None:
        """Write what is left, and the totals."""
        try:
            if ended != "write failed":
                self.flush()
        finally:
            self._group.attrs[ATTRIBUTE] = self.description.finished(ended, self.frames, lost).to_json()


def read(path: Path) -> Stored:
    """Open a recording for reading, as far as it got."""
    import zarr

    with damage_is_told(path):
        try:
            group = zarr.open_group(path, mode="r")
        except FileNotFoundError:
            raise RecordingCorrupt(f"{path} is no recording of shmring: it is no Zarr group") from None
        description = parse(str(group.attrs[ATTRIBUTE]), str(path))
        return read_columns(path, description, group, lambda: None)


def read_description(path: Path) -> Description:
    """Read what the group says about its frames."""
    return read(path).description
