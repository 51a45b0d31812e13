"""Recordings that pages start: into one folder, and never over a file that is there."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

from shmring._alone import alone
from shmring._words import clean
from shmring.recording import Recorder
from shmring.recording._destination import is_recording_name
from shmring.recording.formats import SUFFIXES

__all__ = ["Recordings"]


class Recordings:
    """What is recorded for pages: at most one file of each ring at a time."""

    def __init__(self, folder: Path | None) -> None:
        if folder is not None and not folder.is_dir():
            raise NotADirectoryError(f"pages cannot record into {str(folder)!r}, which is not a folder")
        self.folder = folder
        self._lock = threading.RLock()
        self._running: dict[str, tuple[Recorder, threading.Thread]] = {}
        self._ended: dict[str, dict[str, Any]] = {}

    def start(self, ring: str, file: Any) -> None:
        """Begin to record a ring. Lossy, as everything that a page does: the producer never waits for it.

        Raises
        ------
        ValueError, OSError, ImportError, ShmringError
            Why not.
        """
        path = self._path(file)
        alone(self._lock, lambda: self._start(ring, path))

    def _start(self, ring: str, path: Path) -> None:
        if ring in self._running:
            raise ValueError(f"ring {clean(ring)!r} is being recorded already")
        try:
            recorder = Recorder(ring, path, lossless=False, start="newest")
        except FileExistsError:
            raise ValueError(f"{path.name} exists: choose another name") from None
        thread = threading.Thread(
            target=self._record, args=(ring, recorder), name=f"record {ring}", daemon=True
        )
        self._running[ring] = recorder, thread
        thread.start()

    def _path(self, file: Any) -> Path:
        """Return the path of a plain file name in the folder."""
        if self.folder is None:
            raise ValueError("this server records nothing: start it with --allow-record FOLDER")
        if not isinstance(file, str) or not file.isprintable() or file.startswith(".") or "/" in file:
            raise ValueError("a recording has a plain file name, without folders")
        if not is_recording_name(file):
            raise ValueError(f"{file!r} does not say the format: end it with {', '.join(sorted(SUFFIXES))}")
        return self.folder / file

    def _record(self, ring: str, recorder: Recorder) -> None:
        message = None
        try:
            recorder.run()
        except Exception as error:
            message = clean(str(error))
        with self._lock:
            del self._running[ring]
            summary = recorder.summary
            self._ended[ring] = {
                "type": "recording",
                "path": Path(recorder.path).name,
                "frames": recorder.frames if summary is None else summary.frames,
                "lost": recorder.lost if summary is None else summary.lost,
                "state": summary.ended if summary is not None else "write failed",
                "message": message or (clean(summary.failure) or None if summary is not None else None),
            }

    def stop(self, ring: str) -> None:
        """End the recording of a ring, if there is one."""
        running = alone(self._lock, lambda: self._running.get(ring))
        if running is not None:
            running[0].stop()

    def status(self, ring: str) -> dict[str, Any] | None:
        """Return what a page is told of the recording of a ring; None if there never was one."""
        return alone(self._lock, lambda: self._status(ring))

    def _status(self, ring: str) -> dict[str, Any] | None:
        running = self._running.get(ring)
        if running is None:
            return self._ended.get(ring)
        recorder = running[0]
        return {
            "type": "recording",
            "path": Path(recorder.path).name,
            "frames": recorder.frames,
            "lost": recorder.lost,
            "state": "recording",
            "message": None,
        }

    def close(self) -> None:
        """End all recordings, and wait until their files are whole."""
        running = alone(self._lock, lambda: list(self._running.values()))
        for recorder, _ in running:
            recorder.stop()
        for _, thread in running:
            with contextlib.suppress(RuntimeError):
                thread.join()
