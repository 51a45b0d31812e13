"""What makes an HDF5 recording a NeXus file: a group with links to the datasets, and the meaning of each."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from shmring.recording.formats._description import Description

ENTRY = "entry"
SIGNAL, TIMES = "frames", "timestamp_ns"  # the datasets
UNNAMED = "."  # an axis without coordinates
LONGEST = 1 << 16  # an axis that gets coordinates, which are written out
NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.]*[A-Za-z0-9_])?")
COLORED = {"rgb": "rgb-image", "rgba": "rgba-image"}


def add_nexus(file: Any, description: Description) -> None:
    """Say in the words of NeXus what the datasets of a new file are."""
    if description.frame_format.dtype.kind not in "biufc":
        return  # nothing that NeXus can plot
    file.attrs["NX_class"], file.attrs["default"] = "NXroot", ENTRY
    entry = _group(file, ENTRY, "NXentry")
    entry.attrs["default"] = "data"
    data = _group(entry, "data", "NXdata")
    for name in (SIGNAL, TIMES):
        file[name].attrs["target"] = f"/{name}"  # NeXus knows links by it
        data[name] = file[name]
    file[TIMES].attrs["units"] = "ns"
    data.attrs["signal"] = SIGNAL
    data.attrs["axes"] = [TIMES, *_add_axes(data, description)]
    said = description.convention
    if said.unit:
        file[SIGNAL].attrs["units"] = said.unit
    if "kind" not in said.guessed and (interpretation := _interpretation(description)):
        file[SIGNAL].attrs["interpretation"] = interpretation


def _group(parent: Any, name: str, kind: str) -> Any:
    group = parent.create_group(name)
    group.attrs["NX_class"] = kind
    return group


def _add_axes(data: Any, description: Description) -> list[str]:
    """Write the coordinates of the axes that the attrs name; their names."""
    said, names = description.convention, []
    for axis, length in zip(said.axes, description.frame_format.shape, strict=True):
        if "axes" in said.guessed or not NAME.fullmatch(axis.name) or axis.name in data or length > LONGEST:
            names.append(UNNAMED)
            continue
        names.append(axis.name)
        data[axis.name] = np.arange(length) * axis.scale
        if axis.unit:
            data[axis.name].attrs["units"] = axis.unit
    return names


def _interpretation(description: Description) -> str | None:
    """Say how the last axes of a frame belong together."""
    said = description.convention
    if said.kind == "signal":
        return "spectrum" if said.axes and said.axes[-1].type != "channel" else None
    number = len(said.axes)
    if said.sides == (number - 2, number - 1):
        return "image"
    is_colored = said.sides == (number - 3, number - 2) and said.axis_of("channel") == number - 1
    is_colored = is_colored and "color" not in said.guessed
    return COLORED.get(said.color or "") if is_colored else None
