"""Recordings as datasets of Ray Data: each task reads a range of frames."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import ray.data
from ray.data.block import BlockAccessor, BlockMetadata

from shmring.recording import Recording, open_recording, pieces

__all__ = ["Frames", "read_recording"]

BLOCK_NBYTES = 32 << 20  # of frames, at least one


def read_recording(path: str | os.PathLike[str], **options: Any) -> Any:
    """Read a recording into a dataset of Ray Data, a range of frames in each task.

    Parameters
    ----------
    path : path-like
        A file that `record` or `capture` made, which every node must be able to open; of a rolling recording,
        the path that it was given. What is recorded after this call is not in the dataset.
    **options
        For ``ray.data.read_datasource``: ``override_num_blocks=...`` says how many ranges there are.

    Returns
    -------
    ray.data.Dataset
        Columns ``frame``, ``seq``, ``timestamp_ns`` and ``lost_before``; with variable rows ``rows``, behind
        which a frame is zero; with meta ``meta``, or ``meta.FIELD`` for each of its fields. Values have the
        machine's own byte order.

    Raises
    ------
    FileNotFoundError, RecordingCorrupt
        As `open_recording`.
    ValueError
        The frames or metas have a dtype that Arrow cannot hold as a tensor: structures, dates, complex
        numbers and bytes.
    """
    return ray.data.read_datasource(Frames(path), **options)


class Frames(ray.data.Datasource):  # type: ignore[misc]
    """The frames of a recording, as Ray Data asks for them."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._files: list[tuple[str, int]] = []
        whole = Path(path)
        for file in [whole] if whole.exists() else pieces(whole) or [whole]:
            with open_recording(file) as recording:
                check_dtypes(recording)
                self._files.append((os.path.abspath(file), len(recording)))
                self._row_nbytes = row_nbytes(recording)

    def estimate_inmemory_data_size(self) -> int:
        """Return how many bytes all of it takes."""
        return self._row_nbytes * sum(count for _, count in self._files)

    def get_read_tasks(self, parallelism: int, *_more: Any, **_options: Any) -> list[Any]:
        """Return about so many tasks, each of which reads a range of one file."""
        frames = sum(count for _, count in self._files)
        most = max(1, -(-frames // max(1, parallelism)))
        tasks = []
        for file, count in self._files:
            for begin in range(0, count, most):
                end = min(begin + most, count)
                size = (end - begin) * self._row_nbytes
                known = BlockMetadata(
                    num_rows=end - begin, size_bytes=size, input_files=[file], exec_stats=None
                )
                tasks.append(ray.data.ReadTask(functools.partial(read, file, begin, end), known))
        return tasks


def read(file: str, begin: int, end: int) -> Iterator[Any]:
    """Read frames, in blocks that are not too large."""
    with open_recording(file) as recording:
        step = max(1, BLOCK_NBYTES // row_nbytes(recording))
        for first in range(begin, end, step):
            some = slice(first, min(first + step, end))
            yield BlockAccessor.batch_to_block(columns(recording, some))


def columns(recording: Recording, some: slice) -> dict[str, npt.NDArray[Any]]:
    """Return frames, and what belongs to them."""
    found = {
        "frame": native(np.asarray(recording.array[some])),
        "seq": np.array(recording.seqs[some]),
        "timestamp_ns": np.array(recording.timestamps_ns[some]),
        "lost_before": np.array(recording.lost_before[some]),
    }
    if recording.rows is not None:
        found["rows"] = np.array(recording.rows[some])
    if recording.metas is not None:
        for field in recording.metas.dtype.names or ():
            found[f"meta.{field}"] = native(recording.metas[field][some])
        if not recording.metas.dtype.names:
            found["meta"] = native(recording.metas[some])
    return found


def native(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return values in the machine's own byte order, which is all that Arrow knows, one after another."""
    return np.ascontiguousarray(values, values.dtype.newbyteorder("="))


def row_nbytes(recording: Recording) -> int:
    """Return the bytes of a frame and what belongs to it."""
    meta = 0 if recording.meta_dtype is None else recording.meta_dtype.itemsize
    return recording.dtype.itemsize * int(np.prod(recording.shape)) + meta + 24


def check_dtypes(recording: Recording) -> None:
    """Refuse what Arrow would turn into something else, or would refuse in every task."""
    meta = recording.meta_dtype
    checked = [("frame", recording.dtype)]
    if meta is not None:
        checked += [(f"meta {field}", meta[field]) for field in meta.names or ()] or [("meta", meta)]
    for what, dtype in checked:
        if dtype.base.kind not in "biuf":
            raise ValueError(
                f"the {what} of the recording of ring {recording.ring!r} has dtype {dtype}: Ray Data's "
                f"tensors hold numbers and bools. Read it with shmring.recording.open_recording in your own "
                f"tasks"
            )
