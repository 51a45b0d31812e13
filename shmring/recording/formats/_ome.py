"""What makes a Zarr recording an image of OME-NGFF 0.5, for the programs of microscopy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shmring.attrs import RingAttrs
from shmring.recording.formats._description import Description

VERSION = "0.5"
FRAMES = "frames"  # the array
SPACE_AXES = (2, 3)


def ome_attributes(description: Description, names: Sequence[str]) -> dict[str, Any]:
    """Return the attributes of the group, where OME has a place for such frames; `names` are of the array."""
    said = description.convention
    if not _is_image(said) or len(names) != 1 + len(said.axes):  # else stored as bytes, along one axis more
        return {}
    time: dict[str, Any] = {"name": names[0], "type": "time"}
    if said.frame_rate:
        time["unit"] = "second"
    axes = [time]
    for name, axis in zip(names[1:], said.axes, strict=True):
        said_of_it = {"name": name, "type": axis.type, "unit": axis.unit}
        axes.append({key: value for key, value in said_of_it.items() if value})
    scale = [1 / said.frame_rate if said.frame_rate else 1.0, *(axis.scale for axis in said.axes)]
    transformations = [{"type": "scale", "scale": scale}]
    dataset = {"path": FRAMES, "coordinateTransformations": transformations}
    image = {"name": description.ring, "axes": axes, "datasets": [dataset]}
    return {"ome": {"version": VERSION, "multiscales": [image]}}


def _is_image(said: RingAttrs) -> bool:
    """Whether the attrs say so, and OME allows the axes: time, then one of another kind, then space."""
    types = [axis.type for axis in said.axes]
    space = types.count("space")
    first = types[: len(types) - space]
    return (
        said.kind == "image"
        and not {"kind", "axes"} & said.guessed
        and space in SPACE_AXES
        and types == [*first, *["space"] * space]
        and len(first) <= 1
        and "time" not in first
    )
