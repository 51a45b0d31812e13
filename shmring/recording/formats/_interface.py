"""What a format provides: a writer, and what it hands over when it reads a recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from shmring.recording.formats._description import Description


class Frames(Protocol):
    """An ndarray, or what reads one from a file when it is indexed."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def ndim(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def itemsize(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    def __len__(self) -> int: ...
    def __getitem__(self, key: Any, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __array__(self) -> npt.NDArray[Any]: ...


@dataclass(frozen=True)
class Stored:
    """A recording as it was found: as many frames as index rows."""

    description: Description
    frames: Frames
    index: npt.NDArray[Any]
    close: Callable[[], None]


class Writer(Protocol):
    """Appends frames to one file."""

    description: Description

    @property
    def frames(self) -> int:
        """Whole frames in the file."""
        ...

    def write(self, array: npt.NDArray[Any], index: npt.NDArray[Any]) -> None:
        """Append frames and their index rows; OSError where they do not fit. `wait` before they change."""

    def wait(self, most: int) -> int:
        """Wait until at most so many of the frames that were given must stay as they are; how many."""
        ...

    def flush(self) -> None:
        """Let readers see what is there."""

    def close(self, ended: str, lost: int) -> None:
        """Write the totals and close the file."""
