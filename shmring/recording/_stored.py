"""What the formats hand over when they read a recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from shmring.recording._description import Description


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
