"""The file that is being written, or one after another with a Roll."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt

from shmring.recording import _formats
from shmring.recording._description import Description
from shmring.recording._roll import Roll, number_of, piece, pieces

Mode = Literal["x", "w", "a"]


def existing_files(path: Path, *, several: bool, mode: Mode, appendable: bool = True) -> list[Path]:
    """Return the files that are there already; FileExistsError if there may be none."""
    if mode not in ("x", "w", "a"):
        raise ValueError(f'mode must be "x", "w" or "a", not {mode!r}')
    existing = pieces(path) if several else [path] if path.exists() else []
    if existing and mode == "x":
        append = 'append to it (mode="a") or ' if appendable else "or "
        raise FileExistsError(f'{existing[0]} exists: choose another name, {append}replace it (mode="w")')
    return existing


class FileSeries:
    """Writes frames, each into the file where it belongs."""

    def __init__(
        self, path: Path, description: Description, roll: Roll | None, mode: Mode, sync: float | None
    ) -> None:
        self._path, self._description, self._roll, self._sync = path, description, roll, sync
        existing = existing_files(path, several=roll is not None, mode=mode)
        if mode == "w":
            for file in existing:
                _formats.delete(file)
            existing = []
        self.paths = existing if roll else []
        self._closed_frames = 0  # in files that were closed
        self._writer: _formats.Writer | None = None
        self._open(append=bool(existing) and roll is None)  # at once, so that mistakes show at once

    def _open(self, *, append: bool = False) -> _formats.Writer:
        path = self._path
        if self._roll is not None:
            path = piece(path, number_of(self.paths[-1]) + 1 if self.paths else 1)
        writer = _formats.open_writer(path, self._description, append=append, sync=self._sync)
        self._found_frames = writer.frames  # with append, those from before
        self._given_frames = 0
        self._opened_at = time.monotonic()
        self.paths.append(path)
        self._writer = writer
        while self._roll is not None and self._roll.keep is not None and len(self.paths) > self._roll.keep:
            _formats.delete(self.paths.pop(0))
        return writer

    @property
    def frames(self) -> int:
        """Whole frames in the files, since this recording began."""
        if self._writer is None:
            return self._closed_frames
        return self._closed_frames + self._writer.frames - self._found_frames

    def write(self, array: npt.NDArray[Any], index: npt.NDArray[Any]) -> None:
        """Append frames, going on in a new file where the Roll says so."""
        done = 0
        while done < len(array):
            writer = self._writer or self._open()
            some = slice(done, min(len(array), done + self._room()))
            writer.write(array[some], index[some])
            self._given_frames += some.stop - some.start
            done = some.stop
            if self._roll is not None and (self._room() == 0 or self._is_old(self._roll)):
                # What was lost between its frames stands in the file: no total is needed.
                self.close("rolled", 0)

    def _room(self) -> int:
        """Frames that still fit in the present file."""
        room = 1 << 62
        if self._roll is not None and self._roll.frames is not None:
            room = self._roll.frames
        if self._roll is not None and self._roll.nbytes is not None:
            room = min(room, max(1, self._roll.nbytes // self._description.frame_nbytes))
        return room - self._given_frames

    def _is_old(self, roll: Roll) -> bool:
        return roll.seconds is not None and time.monotonic() - self._opened_at >= roll.seconds

    def flush(self) -> None:
        """Let readers see what is there."""
        if self._writer is not None:
            self._writer.flush()

    def close(self, ended: str, lost: int) -> None:
        """Finish the present file."""
        if self._writer is None:
            return
        try:
            self._writer.close(ended, lost)
        finally:
            self._closed_frames = self.frames
            self._writer = None
