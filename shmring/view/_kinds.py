"""What a page shows of a ring: a picture, traces or a table, by its format and its attrs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shmring import attrs

if TYPE_CHECKING:
    from shmring.attrs import Described, RingAttrs

__all__ = ["TABLE", "Layout", "layout_of"]

SECONDS = {
    "picosecond": 1e-12,
    "nanosecond": 1e-9,
    "microsecond": 1e-6,
    "millisecond": 1e-3,
    "second": 1.0,
    "minute": 60.0,
    "hour": 3600.0,
}
SLOWEST, FASTEST = 1e-9, 1e15  # samples per second: what others say is no rate


@dataclass(frozen=True, slots=True)
class Layout:
    """How the frames of a ring are shown.

    Attributes
    ----------
    kind : {"image", "signal", "table"}
    spaces : pair of int
        The axes of a picture that are its height and its width.
    channel_axis : int or None
        The axis that has the colours of a picture, or the channels of a signal.
    colour : str or None
        Order of the colours of a picture; None: one channel or plane is shown at a time.
    sample_rate : float or None
        Samples of a signal per second, if known.
    names : tuple of str
        Of the channels.
    """

    kind: Literal["image", "signal", "table"]
    spaces: tuple[int, int] = (0, 1)
    channel_axis: int | None = None
    colour: str | None = None
    sample_rate: float | None = None
    names: tuple[str, ...] = ()

    @property
    def has_colours(self) -> bool:
        """Whether each pixel of a picture has all its colours."""
        return self.colour is not None and not self.is_mosaic

    @property
    def is_mosaic(self) -> bool:
        """Whether a picture has one colour in each pixel, by a Bayer pattern."""
        return self.colour is not None and self.colour.startswith("bayer")


TABLE = Layout("table")


def layout_of(ring: Described, said: RingAttrs | None = None) -> Layout:
    """Choose how to show the frames of a ring."""
    said = said or attrs.read(ring)
    channel_axis = said.axis_of("channel")
    names = said.axes[channel_axis].labels if channel_axis is not None else ()
    if said.kind == "table":
        return TABLE
    if said.kind == "signal":
        return Layout("signal", (0, 1), channel_axis, None, _sample_rate(ring, said, channel_axis), names)
    assert said.sides is not None
    colour = said.color
    if colour == "gray" and len(ring.shape) > 2:
        colour = None
    return Layout("image", said.sides, channel_axis, colour, None, names)


def _sample_rate(ring: Described, said: RingAttrs, channel_axis: int | None) -> float | None:
    time_axis = said.axis_of("time")
    if time_axis is not None and said.axes[time_axis].unit in SECONDS:
        axis = said.axes[time_axis]
        seconds = axis.scale * SECONDS[axis.unit]
        rate = 1 / seconds if seconds else math.inf
    elif said.frame_rate is not None:
        samples = math.prod(length for number, length in enumerate(ring.shape) if number != channel_axis)
        rate = said.frame_rate * samples
    else:
        return None
    return rate if SLOWEST <= rate <= FASTEST else None
