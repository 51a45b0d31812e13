"""Compression: chunks of frames, compressed by several threads while the frames are still in their slots."""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from shmring._format import FrameFormat
from shmring.recording.formats._description import Codec
from shmring.recording.formats._frames import as_items, as_stored

CODECS: tuple[Codec, ...] = ("lz4", "zstd")
CHUNK = 1 << 20  # bytes of small frames in a chunk
ALONE = 64 << 10  # bytes: a frame of this size is a chunk of its own, so slow streams fill chunks too
TASK = 1 << 20  # bytes that a thread compresses in one go
LARGEST = (1 << 31) - (64 << 10)  # bytes of a chunk that every codec takes


def threads() -> int:
    """Return how many threads compress: one for each core that this process may use."""
    return len(os.sched_getaffinity(0))


def chunk_frames(frame_bytes: int) -> int:
    """Return how many frames are compressed together."""
    return 1 if frame_bytes >= ALONE else CHUNK // frame_bytes


def batch_bytes(frame_bytes: int) -> int:
    """Return how many bytes to take from the ring at once: some tasks for each thread."""
    return 4 * threads() * max(TASK, frame_bytes)


class Scratch(threading.local):
    """Memory that each thread has for itself, for what it compresses, one chunk after another.

    In new memory for each chunk, the kernel would fill page after page with zeros first.
    """

    def __init__(self) -> None:
        self._memory = np.empty(0, "u1")

    def take(self, nbytes: int) -> npt.NDArray[np.uint8]:
        """Return so many bytes, which stay as they are until this thread takes some again."""
        if len(self._memory) < nbytes:
            self._memory = np.empty(nbytes, "u1")
        return self._memory[:nbytes]


class ChunkStore(Protocol):
    """Where a format keeps the chunks of a compressed dataset. Several threads call `encode` and `put`."""

    def make_room(self, rows: int) -> None:
        """Get ready for the chunks of so many frames in all."""

    def encode(self, chunk: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Compress a whole chunk, which is contiguous; the result is there until this thread's next one."""
        ...

    def put(self, number: int, encoded: npt.NDArray[np.uint8]) -> None:
        """Write a compressed chunk."""

    def put_part(self, number: int, chunk: npt.NDArray[Any]) -> None:
        """Write a chunk that gets its frames one after another: as it is, always in the same place."""

    def flush(self, chunks: int) -> None:
        """Let readers find the first so many chunks."""

    def close(self) -> None:
        """Close what the store has opened itself."""


@dataclass(frozen=True)
class _Task:
    """Chunks that a thread compresses and writes."""

    end: int  # number of the chunk behind them
    frames: int  # that are in the ring's memory
    done: Future[None]


class CompressedFrames:
    """The frames of a recording on their way into a ChunkStore.

    Whole chunks are compressed straight from the ring's memory, the others are collected first. Memory holds
    one chunk for each thread, and those that were collected.

    A chunk that takes so long to fill that it is written in parts stays uncompressed: it keeps its place in
    the file, while each new version of a compressed one would take another.
    """

    def __init__(self, frames: FrameFormat, dataset: Any, store: ChunkStore, rows: int) -> None:
        self._frames, self._store = frames, store
        # What as_stored needs to know of the dataset: other threads must not ask the library.
        self._like = np.zeros((0, *dataset.shape[1:]), dataset.dtype)
        self._chunk = chunk_frames(frames.frame_bytes)
        self._number, self._count = divmod(rows, self._chunk)  # of the chunk that is collected
        self._collected = self._new_chunk()
        if self._count:
            found = np.asarray(dataset[rows - self._count : rows])
            as_items(self._collected)[: self._count] = as_items(found)
        self._is_partly_written = False
        self._tasks: deque[_Task] = deque()
        self._pool = ThreadPoolExecutor(threads() + 1, "shmring-compress")  # one writes

    @property
    def rows(self) -> int:
        """Frames taken so far."""
        return self._number * self._chunk + self._count

    def _new_chunk(self) -> npt.NDArray[Any]:
        """Make a chunk of zeros, in the form that is stored."""
        return np.zeros((self._chunk, *self._like.shape[1:]), self._like.dtype)

    def begin(self, array: npt.NDArray[Any], lengths: npt.NDArray[Any] | None) -> None:
        """Start to compress frames, which stay as they are until `wait`; `lengths` of variable_rows."""
        self._store.make_room((self.rows + len(array)) // self._chunk * self._chunk)
        most = max(1, TASK // (self._chunk * self._frames.frame_bytes))
        done = 0
        while done < len(array):
            whole = min(most, (len(array) - done) // self._chunk)
            if whole and lengths is None and self._count == 0:
                some = slice(done, done + whole * self._chunk)
                self._submit(array[some], whole, whole * self._chunk)
            else:
                some = slice(done, min(len(array), done + self._chunk - self._count))
                self._collect(array[some], None if lengths is None else lengths[some])
            done = some.stop

    def _collect(self, array: npt.NDArray[Any], lengths: npt.NDArray[Any] | None) -> None:
        into = self._collected[self._count : self._count + len(array)]
        as_items(into)[...] = as_items(as_stored(array, self._like))
        if lengths is not None:
            for frame, rows in zip(into, lengths.tolist(), strict=True):
                frame[rows:] = np.zeros((), frame.dtype)
        self._count += len(array)
        if self._count == self._chunk:
            if self._is_partly_written:
                self._store.put_part(self._number, self._collected)
                self._number += 1
            else:
                self._submit(self._collected, 1, 0)
            self._collected, self._count, self._is_partly_written = self._new_chunk(), 0, False

    def _submit(self, array: npt.NDArray[Any], chunks: int, frames: int) -> None:
        done = self._pool.submit(self._write_chunks, self._number, array, chunks)
        # First: Ctrl-C in between must not leave frames that count, and that nobody waits for.
        self._tasks.append(_Task(self._number + chunks, frames, done))
        self._number += chunks

    def _write_chunks(self, first: int, array: npt.NDArray[Any], chunks: int) -> None:
        for number, chunk in enumerate(np.split(as_stored(array, self._like), chunks), first):
            self._store.put(number, self._store.encode(chunk))

    def written(self) -> int:
        """Return how many frames are whole in the file."""
        while self._tasks and self._tasks[0].done.done():
            self._tasks[0].done.result()
            self._tasks.popleft()
        return (self._first_of(self._tasks[0]) if self._tasks else self._number) * self._chunk

    def written_before_error(self) -> int:
        """Wait for all that was begun; how many frames are whole, up to those that could not be written."""
        self.finish()
        try:
            return self.written()
        except Exception:
            return self._first_of(self._tasks[0]) * self._chunk

    def flush(self, rows: int) -> None:
        """Let readers find the first so many frames."""
        self._store.flush(rows // self._chunk)

    def _first_of(self, task: _Task) -> int:
        return task.end - max(1, task.frames // self._chunk)

    def write_part(self, *, last: bool) -> None:
        """Write the chunk that is not full yet; more frames may follow unless it is the last."""
        if self._count:
            self._store.make_room(self.rows)
            if last and not self._is_partly_written:
                self._store.put(self._number, self._store.encode(self._collected))
            else:
                self._store.put_part(self._number, self._collected)
                self._is_partly_written = True

    def wait(self, most: int) -> int:
        """Wait until at most so many frames in the ring's memory are still needed; how many are."""
        tasks = [task for task in self._tasks if not task.done.done()]
        needed = sum(task.frames for task in tasks)
        awaited = []  # all at once: each time this thread wakes up, it interrupts one that compresses
        for task in tasks:
            if needed <= most:
                break
            awaited.append(task.done)
            needed -= task.frames
        wait(awaited)
        # Slots are given back in their order: from the first one that is needed.
        first = next((place for place, task in enumerate(self._tasks) if not task.done.done()), None)
        return 0 if first is None else sum(task.frames for task in tuple(self._tasks)[first:])

    def finish(self) -> None:
        """Wait for all that was begun."""
        wait([task.done for task in self._tasks])

    def close(self) -> None:
        """End the threads, and let the store close its files."""
        self._pool.shutdown()
        self._store.close()
