"""Recordings in Zarr v3: a group with the array `frames` and one for each column of the index."""

from __future__ import annotations

import contextlib
import functools
import math
import re
import shutil
import uuid
from pathlib import Path
from typing import Any, Literal

import numpy as np

from shmring.recording._errors import RecordingCorrupt, as_corrupt
from shmring.recording.formats._columns import ColumnWriter, column_name, create_datasets, read_columns
from shmring.recording.formats._description import Description, parse
from shmring.recording.formats._frames import Folder
from shmring.recording.formats._interface import Stored
from shmring.recording.formats._ome import ome_attributes
from shmring.recording.formats._shards import ShardWriter, chunks_per_shard, compressor

ATTRIBUTE = "shmring"
FRAME_AXIS = "frame"
PARTIAL = ".partial"  # ends the name of what is still being written, here as in Zarr's own store


class ZarrWriter(ColumnWriter):
    """Writes whole chunks: each a file, or compressed, many in a file."""

    def __init__(self, path: Path, description: Description, *, append: bool) -> None:
        if append:
            remove_partial(path)
            self._begin(path, description)
            return
        _create(path, description)
        try:
            self._begin(path, description)
        except BaseException:
            shutil.rmtree(path)
            raise

    def _begin(self, path: Path, description: Description) -> None:
        import zarr

        self._group = _open(path, "r+")
        # Zarr takes the -0 of complex frames for the fill value, 0, and would leave out a chunk of them.
        with zarr.config.set({"array.write_empty_chunks": True}):
            super().__init__(path, description, self._group, lambda name: None, self._shards)
        # Drops consolidated metadata, too: they would be wrong as soon as the next frame is there.
        self._group.attrs[ATTRIBUTE] = description.to_json()

    def _shards(self, dataset: Any) -> ShardWriter:
        assert self.description.codec is not None
        return ShardWriter(dataset, self.path / "frames" / "c", self.description.codec)

    def close(self, ended: str, lost: int) -> None:
        """Write what is left, and the totals."""
        failed = True
        try:
            if ended != "write failed":
                self.flush(last=True)
                failed = False
        finally:
            if failed:
                ended = "write failed"
                with contextlib.suppress(Exception):
                    self.keep_written()
            self.end_threads()
            if failed:
                self.forget_unfinished()
            self._group.attrs[ATTRIBUTE] = self.description.finished(ended, self.frames, lost).to_json()


def _create(path: Path, description: Description) -> None:
    """Make an empty recording beside its place and move it there: no reader finds half of one."""
    import zarr

    if path.exists():
        raise FileExistsError(f"{path} exists")
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        group = zarr.create_group(partial, zarr_format=3, attributes={ATTRIBUTE: description.to_json()})
        create_datasets(description, functools.partial(_create_array, group, description))
        frames: Any = group["frames"]
        names = _dimension_names(description, "frames", frames.ndim)
        group.attrs.update(ome_attributes(description, names))
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _create_array(
    group: Any,
    description: Description,
    name: str,
    shape: tuple[int, ...],
    chunk: tuple[int, ...],
    dtype: np.dtype[Any],
    fill: int,
) -> Any:
    if not _is_portable(dtype):
        raise TypeError(f"{dtype} is not the same in every version of Zarr")
    layout: dict[str, Any] = {"compressors": None}
    if name == "frames" and description.codec is not None:
        count = chunks_per_shard(math.prod(chunk) * dtype.itemsize)
        layout = {
            "compressors": compressor(description.codec),
            "shards": {"shape": (chunk[0] * count, *shape), "index_location": "start"},
        }
    return group.create_array(
        name, shape=(0, *shape), chunks=chunk, dtype=dtype, **layout,
        fill_value=fill if dtype == "u8" else None,
        dimension_names=_dimension_names(description, name, 1 + len(shape)),
    )  # fmt: skip


def _is_portable(dtype: np.dtype[Any]) -> bool:
    """Whether every version of Zarr 3 stores it in the same way, as numbers of this machine's byte order."""
    if dtype.kind in "mM":
        return dtype.isnative and np.datetime_data(dtype)[0] != "generic"
    return dtype.isnative and (dtype.kind in "biu" or dtype.char in "efdFD")


def _dimension_names(description: Description, name: str, ndim: int) -> list[str]:
    """Name the axes: frames, then as attrs["axes"] says, then the bytes of what Zarr has no dtype for."""
    names = [FRAME_AXIS]
    if name == "frames":
        names += _axis_names(description)
    return names if len(names) == ndim else [*names, f"{name}_bytes"]


def _axis_names(description: Description) -> list[str]:
    """Take the names from the ring's attrs if they are usable."""
    said = description.convention
    names = [axis.name for axis in said.axes]
    # xarray takes no axis with the name of an array, nor two axes with one name.
    taken = {FRAME_AXIS, "frames", "frames_bytes", "meta_bytes"}
    taken.update(column_name(field) for field in description.index_dtype.names or ())
    if "axes" in said.guessed or taken & {*names}:
        return [f"axis_{number}" for number in range(1, len(names) + 1)]
    return names


def _open(path: Path, mode: Literal["r", "r+"]) -> Any:
    import zarr

    # Consolidated metadata are a copy, which keeps the lengths of the moment when it was made.
    return zarr.open_group(path, mode=mode, zarr_format=3, use_consolidated=False)


def read(path: Path) -> Stored:
    """Open a recording for reading, as far as it got."""
    with as_corrupt(path):
        folder = Folder(path)
        group = _open_recording(path)
        return read_columns(path, _description_of(group, path), group, lambda: None, folder)


def read_description(path: Path) -> Description:
    """Read what the group says about its frames."""
    with as_corrupt(path):
        return _description_of(_open_recording(path), path)


def _open_recording(path: Path) -> Any:
    try:
        return _open(path, "r")
    except FileNotFoundError:
        raise RecordingCorrupt(f"{path} is not a recording of shmring: it is not a Zarr group") from None


def _description_of(group: Any, path: Path) -> Description:
    if ATTRIBUTE not in group.attrs:
        raise RecordingCorrupt(
            f"{path} is not a recording of shmring: it is a Zarr group without the attribute {ATTRIBUTE!r}"
        )
    return parse(str(group.attrs[ATTRIBUTE]), str(path))


def repair(path: Path) -> int:
    """Leave only whole rows, for programs that read the arrays themselves.

    Returns the frames that such programs did not see before: none, because rows are made room for before
    they are written.
    """
    description = read_description(path)
    writer = ZarrWriter(path, description, append=True)
    writer.close(description.ended or "killed", description.lost or 0)
    return 0


def remove_partial(path: Path) -> None:
    """Remove what a killed recorder was writing: files in the recording, and folders to become one."""
    for file in path.rglob(f"*{PARTIAL}"):
        file.unlink(missing_ok=True)
    made_here = re.compile(re.escape(path.name) + r"\.[0-9a-f]{32}" + re.escape(PARTIAL))
    for folder in path.parent.iterdir():
        if made_here.fullmatch(folder.name):
            shutil.rmtree(folder, ignore_errors=True)
