"""A recording that makes place for a new one: kept in a folder beside until the new one is there.

As long as the folder holds the main file, the old recording is the valid one. So a kill at any moment loses
nothing: the next recorder, or `repair`, brings it back.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from shmring.recording._lock import WriterLock

REPLACED = ".replaced"
DELETED = "deleted"  # a folder that is no longer valid


def folder_of(path: Path) -> Path:
    """Where a recording is while it is replaced."""
    return path.with_name(path.name + REPLACED)


def put_aside(files: tuple[Path, ...]) -> None:
    """Make place. The first of the files is the main one."""
    folder = folder_of(files[0])
    folder.mkdir()
    for file in files:
        if os.path.lexists(file):
            os.rename(file, folder / file.name)


def bring_back(files: tuple[Path, ...]) -> None:
    """Undo `put_aside`, over what was begun in the place."""
    folder = folder_of(files[0])
    if not os.path.lexists(folder / files[0].name):
        discard(files)
        return
    for file in reversed(files):  # the main one last: until then all of this can be done again
        if os.path.lexists(folder / file.name):
            remove(file)
            os.rename(folder / file.name, file)
    folder.rmdir()


def discard(files: tuple[Path, ...]) -> None:
    """Delete what was put aside. It is over at once, with the name of the main file."""
    folder = folder_of(files[0])
    main = folder / files[0].name
    if main.is_dir():
        rest = folder / DELETED
        os.rename(main, rest)
        main = rest
    for file in (main, folder / DELETED, *(folder / file.name for file in files)):
        remove(file)
    folder.rmdir()


def recover(files: tuple[Path, ...]) -> bool:
    """Bring back what a recorder that was killed had put aside; whether there was something."""
    folder = folder_of(files[0])
    if not folder.is_dir():
        return False
    if not {file.name for file in folder.iterdir()} <= {DELETED, *(file.name for file in files)}:
        raise FileExistsError(f"{folder} is in the way, and not made by a recorder: move it away")
    with contextlib.ExitStack() as stack:
        for main in (folder / files[0].name, files[0]):
            if main.exists():
                stack.enter_context(WriterLock(main))  # RecordingBusy: it was not killed
        bring_back(files)
    return True


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def holds_nothing(path: Path) -> bool:
    """Whether there is no such file, or nothing in it: a recorder was killed while it made it."""
    if path.is_dir():
        return all(file.name.endswith(".partial") for file in path.iterdir())
    return not os.path.lexists(path) or (path.is_file() and path.stat().st_size == 0)
