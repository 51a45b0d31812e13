"""A recording, opened for reading."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from shmring._words import count
from shmring.recording import formats
from shmring.recording._roll import name_of_series, pieces
from shmring.recording.formats._description import Part, realtime_offset
from shmring.recording.formats._interface import Frames, Stored

__all__ = ["RecordedFrame", "Recording", "open_recording"]


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """One frame of a Recording.

    Attributes
    ----------
    array : ndarray
        Of the ring's shape and dtype (first axis: `rows`), read-only.
    seq, timestamp_ns, lost, meta, rows
        As those of the `Frame` that was recorded.
    """

    array: npt.NDArray[Any]
    seq: int
    timestamp_ns: int
    lost: int
    meta: Any
    rows: int | None


class Recording:
    """The frames of a recording and everything that was known about them: from `open_recording`.

    It is a sequence of `RecordedFrame`, whose slices are lists, and a context manager that closes the file at
    the end. A recording that is still being written shows what was there when it was opened.

    Attributes
    ----------
    array : array_like
        The frames, of shape ``(n, *shape)``: a read-only ndarray on the file for .npy, else an object that is
        indexed like an ndarray and reads what the index selects. With variable_rows, what lies behind the
        rows of a frame is zero.
    seqs, timestamps_ns, rows, metas : ndarray
        One for each frame, as in a `Batch`; `rows` and `metas` may be None.
    lost_before : ndarray
        Frames lost just before each frame.
    """

    def __init__(self, stored: Stored) -> None:
        index = stored.index
        self._description, self._close, self._closed = stored.description, stored.close, False
        self.array: Frames = stored.frames
        self.seqs: npt.NDArray[np.uint64] = index["seq"]
        self.timestamps_ns: npt.NDArray[np.int64] = index["timestamp_ns"]
        self.lost_before: npt.NDArray[np.uint64] = index["lost"]
        names = index.dtype.names or ()
        self.rows: npt.NDArray[np.uint64] | None = index["rows"] if "rows" in names else None
        self.metas: npt.NDArray[Any] | None = index["meta"] if "meta" in names else None

    def __len__(self) -> int:
        return len(self.seqs)

    @overload
    def __getitem__(self, number: SupportsIndex) -> RecordedFrame: ...
    @overload
    def __getitem__(self, number: slice) -> list[RecordedFrame]: ...
    def __getitem__(self, number: SupportsIndex | slice) -> RecordedFrame | list[RecordedFrame]:
        """Return one frame, or a list of those in a slice."""
        if self._closed:
            raise ValueError(f"this recording of ring {self.ring!r} was closed; open it again to read it")
        numbers = range(len(self))
        if isinstance(number, slice):
            return [self._frame(one) for one in numbers[number]]
        try:
            return self._frame(numbers[number])
        except IndexError:
            raise IndexError(f"there is no frame {number}: the recording has {len(self)}") from None

    def _frame(self, number: int) -> RecordedFrame:
        array = np.asarray(self.array[number])
        rows = None if self.rows is None else int(self.rows[number])
        array = array if rows is None else array[:rows]
        array.flags.writeable = False
        return RecordedFrame(
            array=array,
            seq=int(self.seqs[number]),
            timestamp_ns=int(self.timestamps_ns[number]),
            lost=int(self.lost_before[number]),
            meta=None if self.metas is None else self.metas[number],
            rows=rows,
        )

    def __iter__(self) -> Iterator[RecordedFrame]:
        """Read frame after frame."""
        return (self[number] for number in range(len(self)))

    def __enter__(self) -> Recording:
        """Return self."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        """Summarise the recording for an interactive prompt."""
        said = self._description
        return (
            f"<shmring.recording.Recording of ring {said.ring!r}, {count(len(self), 'frame')} of shape "
            f"{self.shape}, dtype {self.dtype}, {self.lost} lost, "
            f"{self.ended or 'not ended'}{', closed' * self._closed}>"
        )

    def close(self) -> None:
        """Close the file. May be called twice. What was read stays valid, as does `array` of a .npy file."""
        self._closed = True
        self._close()

    @property
    def ring(self) -> str:
        """Name of the ring that was recorded."""
        return self._description.ring

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of one frame."""
        return self._description.frame_format.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one frame."""
        return self._description.frame_format.shape

    @property
    def meta_dtype(self) -> np.dtype[Any] | None:
        """Dtype of the value that goes along with each frame."""
        return self._description.frame_format.meta_dtype

    @property
    def variable_rows(self) -> bool:
        """Whether frames may be shorter along the first axis."""
        return self._description.frame_format.variable_rows

    @property
    def attrs(self) -> Mapping[str, Any]:
        """What the ring's creator said about it; of the last part, where it was appended to."""
        return self._description.attrs

    @property
    def lost(self) -> int:
        """Frames that the recorder did not get, those after the last recorded one included."""
        return sum(
            max(int(self.lost_before[part.first : part.first + part.frames].sum()), part.lost or 0)
            for part in self.parts
        )

    @property
    def parts(self) -> tuple[Part, ...]:
        """What was recorded in one go each: several after appends, with `attrs` and clocks of their own."""
        return self._description.parts(len(self))

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """For each frame, whether its index row was found.

        False: the frame is whole, but the rest about it was lost, in a power failure. Its seq counts on from
        the one before, its time is the one before, and meta and losses are zero.
        """
        known = np.ones(len(self), np.bool_)
        for first, end in self._description.unknown:
            known[first:end] = False
        return known

    @property
    def realtimes_ns(self) -> npt.NDArray[np.int64]:
        """For each frame, its timestamp in nanoseconds since 1970, if the producer gave no other ones.

        If it did, the attrs can say so: with ``clock="realtime"`` they are that already.

        The clocks are those at the start of each part. So these times are right even after an append on
        another day or after a reboot, where ``timestamps_ns + realtime_offset_ns`` is right only for the last
        part.
        """
        times = np.array(self.timestamps_ns)
        for part in self.parts:
            times[part.first : part.first + part.frames] += part.realtime_offset_ns
        return times

    @property
    def ended(self) -> str | None:
        """Why the recording ended, as `Summary.ended`.

        None: it is still being written, or its recorder was killed (``"killed"`` after `repair`).
        ``"rolled"``: it continues in the next file.
        """
        return self._description.ended

    @property
    def realtime_offset_ns(self) -> int:
        """What to add to a timestamp to get nanoseconds since 1970, when it was recorded.

        Timestamps are taken for CLOCK_MONOTONIC, unless the attrs say ``clock="realtime"``: then it is 0.
        After an append this is right for the last part; see `realtimes_ns`.
        """
        return realtime_offset(self._description)


def open_recording(path: str | os.PathLike[str]) -> Recording:
    """Open a recording: finished, still being written, or left by a recorder that was killed.

    Parameters
    ----------
    path : path-like
        A file that `record` or `capture` made; of a rolling recording, one of its files.

    Returns
    -------
    Recording

    Raises
    ------
    FileNotFoundError
        There is no such file.
    RecordingCorrupt
        It is not a recording, or parts of it are missing.
    ValueError
        The suffix is not one of these.
    """
    found = formats.as_path(path)
    if not found.exists():
        raise FileNotFoundError(f"there is no file {found}{_about_pieces(found)}")
    return Recording(formats.read(found))


def _about_pieces(absent: Path) -> str:
    """Name the pieces of the rolling recording that is asked for, or that the file was one of."""
    there = pieces(absent) or pieces(name_of_series(absent))
    if not there:
        return ""
    several = f" to {there[-1].name}" if len(there) > 1 else ""
    return f", but of a rolling recording there are {there[0].name}{several}: open one of these"
