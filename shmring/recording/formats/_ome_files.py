"""Recordings for microscopy, .ome.zarr and .ome.tiff, by ome-writers: for other programs to read."""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import time
from pathlib import Path
from typing import Any, NoReturn
from xml.etree import ElementTree as ET

import numpy as np
import numpy.typing as npt

from shmring.attrs import Axis
from shmring.recording._errors import RecordingCorrupt, as_corrupt
from shmring.recording.formats._description import Description
from shmring.recording.formats._frames import plain

SUFFIXES = (".ome.zarr", ".ome.tiff")
NAMESPACE = "shmring"  # of what is said about the whole recording
INTEGERS = ("u1", "u2", "u4", "i1", "i2", "i4")
FLOATS = ("f4", "f8")  # ome-writers 0.3.2 cannot write them to TIFF files
UNITS = {"space": "micrometer", "time": "second"}
NUMBERS = ("exposure_time", "position_x", "position_y", "position_z")  # of a plane, for which OME has places
MOST_EMPTY = 10_000  # frames in a row that were lost and get empty ones
WAITING = 64 << 20  # bytes that may wait for the thread that writes a TIFF file
STALLED = 30.0  # seconds without a byte more in the file
PAUSE = 0.002  # seconds between two looks at it


def load() -> None:
    """Import ome-writers, and what it needs for both formats; an error that says how to install it."""
    try:
        for library in ("ome_writers", "tifffile", "ome_types", "zarr"):
            importlib.import_module(library)
    except ImportError as error:
        raise type(error)(
            f'OME files need ome-writers: pip install "shmring[ome]" ({error})', name="ome_writers"
        ) from None


class OmeWriter:
    """Writes frames plane by plane, the lost ones as empty planes: each frame is where its seq says."""

    def __init__(self, path: Path, description: Description) -> None:
        from ome_writers import create_stream

        self.path, self.description = path, description
        self._order = order_of(path, description)
        self._dtype = description.frame_format.dtype.newbyteorder("=")
        self.frames = 0  # in the file
        self._planes = 0
        self._lost: list[tuple[int, int]] = []  # frame before which some were lost, and how many
        self._first_ns: int | None = None
        self._stream = create_stream(_settings(path, description, self._order))
        self._say()

    def _say(self) -> None:
        said = {"description": json.loads(self.description.to_json()), "lost": self._lost}
        self._stream.set_global_metadata(NAMESPACE, said)

    def write(self, array: npt.NDArray[Any], index: npt.NDArray[Any]) -> None:
        """Append frames."""
        for frame, row in zip(array, index, strict=True):
            if row["lost"]:
                self._skip(int(row["lost"]))
            # A copy: ome-writers keeps what it is given for its thread.
            planes = np.array(frame.transpose(self._order), self._dtype, order="C")
            said = self._said_of(row)
            for plane in planes.reshape(-1, *planes.shape[-2:]):
                self._stream.append(plane, frame_metadata=said)
                self._planes += 1
            self.frames += 1
            self._keep_up()

    def _skip(self, lost: int) -> None:
        self._lost.append((self.frames, lost))
        if self.frames:
            shape = self.description.frame_format.shape
            planes = int(np.prod([shape[axis] for axis in self._order[:-2]], dtype=int))
            for _ in range(min(lost, MOST_EMPTY)):
                self._stream.skip(frames=planes)
                self._planes += planes
                self._keep_up()

    def _said_of(self, row: npt.NDArray[Any]) -> dict[str, Any]:
        """Return the time of a frame and its meta, as JSON has it."""
        if self._first_ns is None:
            self._first_ns = int(row["timestamp_ns"])
        said = {"delta_t": (int(row["timestamp_ns"]) - self._first_ns) / 1e9, "seq": int(row["seq"])}
        if "meta" in (row.dtype.names or ()):
            meta = row["meta"]
            fields = {name: meta[name] for name in meta.dtype.names} if meta.dtype.names else {"meta": meta}
            for name, value in fields.items():
                field = plain(value)
                is_place = name not in NUMBERS or type(field) in (int, float)
                said.setdefault(name if is_place else f"meta_{name}", field)
        return said

    def _keep_up(self, most: int = WAITING) -> None:
        """Wait until few bytes are left to write: a TIFF file's thread takes all, and says nothing."""
        if self.path.is_dir():
            return
        planes = self._planes * self._plane_nbytes
        size, since = -1, time.monotonic()
        while planes - (found := self.path.stat().st_size) > most:
            if found != size:
                size, since = found, time.monotonic()
            elif time.monotonic() - since > STALLED:
                self.frames = min(self.frames, size // self.description.frame_format.frame_bytes)
                raise OSError(errno.EIO, "no more was written for a long time: the disk may be full")
            time.sleep(PAUSE)

    @property
    def _plane_nbytes(self) -> int:
        shape = self.description.frame_format.shape
        return shape[self._order[-2]] * shape[self._order[-1]] * self._dtype.itemsize

    def wait(self, most: int) -> int:
        """Return that no frame is needed any more once it is written."""
        return 0

    def flush(self) -> None:
        """Zarr files have what was written; TIFF files are readable in the end."""

    def _check_not_empty(self) -> None:
        if not self._planes and not self.path.is_dir():
            raise OSError(errno.ENODATA, "no frame came, and an OME-TIFF file needs one")

    def close(self, ended: str, lost: int) -> None:
        """Write what is said about the whole recording."""
        try:
            if ended != "write failed":
                self._check_not_empty()
                self._keep_up(0)  # closing waits for five seconds, and then leaves the rest out
        except OSError:
            ended = "write failed"
            raise
        finally:
            with contextlib.suppress(*[Exception] if ended == "write failed" else []):
                self.description = self.description.finished(ended, self.frames, lost)
                self._say()
                self._stream.close()
            if not self._planes and not self.path.is_dir():
                os.truncate(self.path, 0)  # what has nothing in it can be replaced


def order_of(path: Path, description: Description) -> tuple[int, ...]:
    """Return the axes of a frame in the order of OME: channels, z, y, x; ValueError if it has no place."""
    frames, said = description.frame_format, description.convention
    types = [axis.type for axis in said.axes]
    space = [number for number, kind in enumerate(types) if kind == "space"]
    channels = [number for number, kind in enumerate(types) if kind == "channel"]
    fits = len(space) in (2, 3) and len(channels) <= 1 and len(space) + len(channels) == len(types)
    if said.kind != "image" or said.sides is None or not fits:
        raise ValueError(
            f"an OME file has images of y and x, with z or channels: these frames of shape {frames.shape} "
            f"have axes of the types {types}. Say what they are in the ring's attrs, or record to .zarr"
        )
    if frames.dtype.str[1:] not in (*INTEGERS, *(FLOATS if path.name.endswith(".zarr") else ())):
        raise ValueError(f"{path} has no place for dtype {frames.dtype}: record to .zarr, .h5 or .npy")
    if frames.variable_rows:
        raise ValueError("frames with variable_rows have no place in an OME file: record to .zarr")
    stacked = [number for number in space if number not in said.sides]
    return (*channels, *stacked, *said.sides)


def _settings(path: Path, description: Description, order: tuple[int, ...]) -> Any:
    from ome_writers import AcquisitionSettings, Dimension, OmeTiffFormat, OmeZarrFormat

    said, shape = description.convention, description.frame_format.shape
    rate = said.frame_rate
    dimensions = [
        Dimension(name="t", count=None, type="time", unit="second", scale=1 / rate if rate else None)
    ]
    names = ["c", "z", "y", "x"] if len(order) == 4 else ["y", "x"]
    if len(order) == 3:
        names = ["c" if said.axes[order[0]].type == "channel" else "z", "y", "x"]
    for name, axis in zip(names, order, strict=True):
        dimensions.append(_dimension(name, shape[axis], said.axes[axis]))
    is_zarr = path.name.endswith(".zarr")
    return AcquisitionSettings(
        root_path=str(path),
        dimensions=dimensions,
        dtype=description.frame_format.dtype.newbyteorder("=").name,
        format=OmeZarrFormat(backend="zarr-python") if is_zarr else OmeTiffFormat(),
        compression=f"blosc-{description.codec}" if description.codec else None,
    )


def _dimension(name: str, count: int, axis: Axis) -> Any:
    from ome_writers import Channel, Dimension

    if name == "c":
        labels = axis.labels if axis.labels and len({*axis.labels}) == count else range(count)
        return Dimension(name=name, type="channel", coords=[Channel(name=str(label)) for label in labels])
    said = {"name": name, "count": count, "type": "space", "scale": axis.scale}
    if axis.unit:
        with contextlib.suppress(ValueError):  # OME does not know the unit
            return Dimension(**said, unit=axis.unit)
    return Dimension(**said)


def read(path: Path) -> NoReturn:
    """Say what to read such a file with."""
    raise ValueError(f"{path} is for other programs: read it with zarr or tifffile, or open it in a viewer")


def read_description(path: Path) -> Description:
    """Read what is said about the frames."""
    with as_corrupt(path):
        said = _said_in_zarr(path) if path.is_dir() else _said_in_tiff(path)
        if said is None:
            raise RecordingCorrupt(f"{path} is not a recording of shmring, or was not finished")
        from shmring.recording.formats._description import parse

        return parse(json.dumps(said), str(path))


def _said_in_zarr(path: Path) -> Any:
    attributes = json.loads((path / "zarr.json").read_text())["attributes"]
    return attributes.get(NAMESPACE, {}).get("description")


def _said_in_tiff(path: Path) -> Any:
    import tifffile

    with tifffile.TiffFile(path) as file:
        root = ET.fromstring(file.ome_metadata or "<OME/>")
    for annotation in root.iter():
        if annotation.tag.endswith("}MapAnnotation") and annotation.get("Namespace") == NAMESPACE:
            for one in annotation.iter():
                if one.get("K") == "description":
                    return json.loads(one.text or "null")
    return None


def repair(path: Path) -> int:
    """Refuse: what was not finished by ome-writers stays as it is."""
    read(path)
