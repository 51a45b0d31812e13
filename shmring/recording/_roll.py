"""Rolling files: FILE-0001.npy, FILE-0002.npy, … of which the last ones are kept."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from shmring._schema import check_above_zero
from shmring.recording import formats
from shmring.recording._replacing import REPLACED
from shmring.recording.formats._description import UNMARKED


@dataclass(frozen=True, slots=True)
class Roll:
    """When a recording continues in a new file: as soon as one of the limits is reached.

    Attributes
    ----------
    frames, seconds, nbytes : int, float, int, optional
        Of one file. At least one must be given.
    keep : int, optional
        How many pieces of this recording to keep: older ones are deleted. Default: all.
    """

    frames: int | None = None
    seconds: float | None = None
    nbytes: int | None = None
    keep: int | None = None

    def __post_init__(self) -> None:
        """Refuse limits that are never reached, or at once."""
        limits = {"frames": self.frames, "seconds": self.seconds, "nbytes": self.nbytes}
        if all(limit is None for limit in limits.values()):
            raise ValueError("a Roll needs frames, seconds or nbytes: when a new file begins")
        for name, limit in {**limits, "keep": self.keep}.items():
            if limit is not None:
                check_above_zero(name, limit)


def piece(path: Path, number: int) -> Path:
    """Name one file of a rolling recording."""
    return path.with_name(f"{path.stem}-{number:04d}{path.suffix}")


def name_of_series(file: Path) -> Path:
    """Return the name of the rolling recording of which a file could be a piece."""
    return file.with_name(re.sub(r"-\d{4,}$", "", file.stem) + file.suffix)


def pieces(path: str | os.PathLike[str]) -> list[Path]:
    """Find the files of a rolling recording.

    Parameters
    ----------
    path : path-like
        The name that was given to `record`, without a number.

    Returns
    -------
    list of Path
        Oldest first. A piece says in its description that it is one: other files with such a name are left
        out.
    """
    path = Path(path)
    return [file for file in _numbered(path) if _piece_of(file) in (path.name, UNMARKED)]


def own_pieces(path: Path) -> list[Path]:
    """Find the pieces that may be deleted to make room: files that certainly are pieces."""
    return [file for file in _numbered(path) if is_own_piece(file, path.name)]


def is_own_piece(file: Path, name: str) -> bool:
    """Whether a file is certainly a piece of the rolling recording of that name."""
    description = formats.description_of(file)
    if description is None:
        return False
    unmarked = description.piece_of == UNMARKED and description.ended == "rolled"
    return description.piece_of == name or unmarked


def _piece_of(file: Path) -> str | None:
    description = formats.description_of(file)
    return None if description is None else description.piece_of


def _numbered(path: Path) -> list[Path]:
    found = ((_name_of(path).fullmatch(file.name), file) for file in path.parent.glob("*" + path.suffix))
    return [file for _, file in sorted((int(match[1]), file) for match, file in found if match)]


def _name_of(path: Path) -> re.Pattern[str]:
    return re.compile(re.escape(path.stem) + r"-(\d{4,})" + re.escape(path.suffix))


def unfinished(path: Path) -> list[Path]:
    """Find the pieces whose replacement was interrupted."""
    folders = path.parent.glob("*" + REPLACED)
    files = (folder.with_name(folder.name.removesuffix(REPLACED)) for folder in folders)
    return [file for file in files if _name_of(path).fullmatch(file.name)]


def number_of(path: Path) -> int:
    """Which piece it is."""
    return int(path.stem.rpartition("-")[2])


def free_piece(path: Path, number: int, replaceable: Collection[Path] = ()) -> Path:
    """Name the next piece: the first, starting with this number, whose names are free."""
    while True:
        file = piece(path, number)
        if file in replaceable or not any(map(os.path.lexists, formats.files(file))):
            return file
        number += 1
