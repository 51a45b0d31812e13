"""Rolling files: FILE-0001.npy, FILE-0002.npy, … of which the last ones are kept."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Roll:
    """When a recording goes on in a new file: as soon as one of the limits is reached.

    Attributes
    ----------
    frames, seconds, nbytes : int, float, int, optional
        Of one file. At least one must be given.
    keep : int, optional
        Delete all but the last files; default: none.
    """

    frames: int | None = None
    seconds: float | None = None
    nbytes: int | None = None
    keep: int | None = None

    def __post_init__(self) -> None:
        """Refuse what would never roll, or roll at once."""
        limits = {"frames": self.frames, "seconds": self.seconds, "nbytes": self.nbytes}
        if all(limit is None for limit in limits.values()):
            raise ValueError("a Roll needs frames, seconds or nbytes: when a new file begins")
        for name, limit in {**limits, "keep": self.keep}.items():
            if limit is not None and not limit > 0:
                raise ValueError(f"{name} must be above 0, not {limit!r}")


def piece(path: Path, number: int) -> Path:
    """Name one file of a rolling recording."""
    return path.with_name(f"{path.stem}-{number:04d}{path.suffix}")


def pieces(path: str | os.PathLike[str]) -> list[Path]:
    """Find the files of a rolling recording.

    Parameters
    ----------
    path : path-like
        The name that was given to `record`, without a number.

    Returns
    -------
    list of Path
        Oldest first.
    """
    path = Path(path)
    pattern = re.compile(re.escape(path.stem) + r"-(\d{4,})" + re.escape(path.suffix))
    found = ((pattern.fullmatch(file.name), file) for file in path.parent.glob("*" + path.suffix))
    return [file for _, file in sorted((int(match[1]), file) for match, file in found if match)]


def number_of(path: Path) -> int:
    """Which piece it is."""
    return int(path.stem.rpartition("-")[2])
