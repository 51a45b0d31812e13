"""A recording that a run makes: one file, of which asyncio awaits the progress."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ophyd_async.core import SignalR, StreamResourceInfo, soft_signal_r_and_setter

from shmring import Ring
from shmring._words import count
from shmring.recording import Recorder, Summary
from shmring.recording.formats._columns import CHUNK, INDEX_CHUNK, chunk_frames, column_name
from shmring.recording.formats._description import describe

COLUMNS = ("seq", "timestamp_ns", "lost")  # of the index, which documents describe, too
NUMBERS = "biufc"  # kinds of dtypes that a document can name
TOO_LONG = ("f16", "c32")


class Take:
    """Records frames of a ring into a file, once or several times, in a thread."""

    written: SignalR[int]
    """Frames that readers of the file can see."""

    def __init__(self, ring: Ring, path: Path, *, lossless: bool) -> None:
        check_dtype(ring)
        self.path = path
        self._ring, self._lossless = ring, lossless
        self.written, self._set_written = soft_signal_r_and_setter(int)
        self._loop = asyncio.get_running_loop()
        self._before = 0  # frames of earlier recordings
        self._exists = False
        self._recorder: Recorder | None = None
        self._task: asyncio.Task[None] | None = None

    def resources(self, data_key: str) -> list[StreamResourceInfo]:
        """Return what documents say of the datasets."""
        description = describe(self._ring)
        found = [
            StreamResourceInfo(
                data_key=data_key,
                shape=self._ring.shape,
                chunk_shape=(chunk_frames(description), *self._ring.shape),
                dtype_numpy=self._ring.dtype.str,
                parameters={"dataset": "/frames"},
            )
        ]
        for field in COLUMNS:
            dtype, name = description.index_dtype[field], column_name(field)
            found.append(
                StreamResourceInfo(
                    data_key=f"{data_key}-{name}",
                    shape=(),
                    chunk_shape=(max(1, min(INDEX_CHUNK, CHUNK // dtype.itemsize)),),
                    dtype_numpy=dtype.str,
                    parameters={"dataset": f"/{name}"},
                )
            )
        return found

    async def record(self, frames: int | None) -> None:
        """Begin with the next frame; it ends after as many frames, or with `wait` or `stop`."""
        if self._task is not None and not self._task.done():
            return
        await self.wait()
        self._recorder = await asyncio.to_thread(
            Recorder, self._ring, self.path, frames=frames, mode="a" if self._exists else "x",
            lossless=self._lossless, start="next", progress=self._show,
        )  # fmt: skip
        self._exists = True
        self._task = asyncio.create_task(self._run(self._recorder, frames))

    def _show(self, recorder: Recorder) -> None:
        """Say how far it is; in the recording's thread."""
        self._loop.call_soon_threadsafe(self._set_written, self._before + recorder.written)

    async def _run(self, recorder: Recorder, frames: int | None) -> None:
        summary = await asyncio.to_thread(recorder.run)
        self._before += summary.frames
        self._set_written(self._before)
        regular = ("limit", "stopped") if frames is not None else ("producer closed", "stopped")
        if summary.ended not in regular:
            raise RuntimeError(self._ended(summary, frames))

    def _ended(self, summary: Summary, frames: int | None) -> str:
        wanted = f" of {frames}" if frames is not None else ""
        return (
            f"ring {self._ring.name!r} ended ({summary.ended}) after {count(summary.frames, 'frame')}"
            f"{wanted}: see {self.path}"
        )

    async def wait(self) -> None:
        """Return when the frames that were asked for are in the file; raise what went wrong with that."""
        task, self._task = self._task, None
        if task is not None:
            await task

    async def stop(self) -> None:
        """End it after the frames that it is writing."""
        if self._recorder is not None:
            self._recorder.stop()
        await self.wait()


def check_dtype(ring: Ring) -> None:
    """Raise unless documents can describe the frames."""
    if ring.dtype.kind not in NUMBERS or ring.dtype.str[1:] in TOO_LONG:
        raise TypeError(
            f"ring {ring.name!r} has frames of {ring.dtype}, which a StreamResource cannot describe: it has "
            f"booleans, integers, floats and complex numbers of up to 64 bits"
        )
    if ring.variable_rows:
        raise TypeError(f"ring {ring.name!r} has frames of varying length, which documents cannot describe")
