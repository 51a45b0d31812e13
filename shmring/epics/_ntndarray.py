"""NTNDArray, the structure in which EPICS sends images: made of a frame, and read."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from p4p import Value
from p4p.nt import NTNDArray

from shmring._words import count
from shmring.attrs import RingAttrs

MEMBERS = {  # of the union of arrays, by the kind and size of numpy's dtypes
    "b1": "booleanValue", "i1": "byteValue", "i2": "shortValue", "i4": "intValue", "i8": "longValue",
    "u1": "ubyteValue", "u2": "ushortValue", "u4": "uintValue", "u8": "ulongValue",
    "f4": "floatValue", "f8": "doubleValue",
}  # fmt: skip
MONO, BAYER, RGB1, RGB2, RGB3 = range(5)  # areaDetector's ColorMode
CHANNEL_AXIS = {RGB1: 2, RGB2: 1, RGB3: 0}
BAYER_PATTERNS = ("bayer_rggb", "bayer_gbrg", "bayer_grbg", "bayer_bggr")  # in areaDetector's order
IDS = 1 << 32  # uniqueId has 32 bits, with a sign
SECOND = 1_000_000_000

_TYPE = NTNDArray().type


@dataclass(frozen=True)
class Image:
    """What an NTNDArray says."""

    array: npt.NDArray[Any]
    unique_id: int
    data_time_ns: int  # since 1970, when the image was taken; 0 if it does not say
    time_ns: int  # when it was sent
    attributes: Mapping[str, Any]

    @property
    def stamps(self) -> tuple[int, int]:
        """Both times."""
        return self.data_time_ns, self.time_ns


def check_pv(name: str) -> str:
    """Return the name of a PV; p4p serves one without a name, too."""
    if not isinstance(name, str):
        raise TypeError(f"pv must be the name of a PV, not {type(name).__name__}")
    if not name:
        raise ValueError("pv must be the name of a PV, not empty")
    return name


def member_of(dtype: np.dtype[Any], name: str) -> str:
    """Return where the union has arrays of that dtype; TypeError if it has none."""
    try:
        return MEMBERS[dtype.str[1:]]
    except KeyError:
        raise TypeError(
            f"ring {name!r} has frames of {dtype}, which NTNDArray cannot carry: it has booleans, integers "
            f"of 8 to 64 bits and floats of 32 and 64 bits"
        ) from None


def order_of(said: RingAttrs) -> list[int]:
    """Return the axes of a frame with the height before the width, as NTNDArray has them."""
    order = list(range(len(said.axes)))
    if said.sides is not None and said.sides[0] > said.sides[1]:
        down, across = said.sides
        order[across], order[down] = down, across
    return order


def color_axis(said: RingAttrs, color: Any, shape: tuple[int, ...], order: list[int]) -> int | None:
    """Return which axis of a frame, in that order, has red, green and blue; None if there is none."""
    if len(shape) != 3 or color == "gray":
        return None
    candidates = list(CHANNEL_AXIS.values())
    if "axes" not in said.guessed:
        channel = said.axis_of("channel")
        candidates = [] if channel is None else [order.index(channel)]
    return next((axis for axis in candidates if shape[order[axis]] == 3), None)


def color_mode(color: Any, axis: int | None) -> int:
    """Return areaDetector's ColorMode of frames with such a color, and such an axis of it."""
    if color in BAYER_PATTERNS:
        return BAYER
    return next((mode for mode, number in CHANNEL_AXIS.items() if number == axis), MONO)


def encode(
    array: npt.NDArray[Any], member: str, *, seq: int, stamps: tuple[int, int], attributes: Mapping[str, Any]
) -> Value:
    """Return an NTNDArray with a copy of the array; `stamps` are when it was taken, and now."""
    flat = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(-1)
    sizes = array.shape[::-1] or (1,)
    return Value(_TYPE, {
        "value": (member, flat),
        "compressedSize": flat.nbytes,
        "uncompressedSize": flat.nbytes,
        "uniqueId": (seq + IDS // 2) % IDS - IDS // 2,
        "dataTimeStamp": _time(stamps[0]),
        "timeStamp": _time(stamps[1]),
        "dimension": [{"size": size, "fullSize": size, "binning": 1} for size in sizes],
        "attribute": [{"name": name, "value": value} for name, value in attributes.items()],
    })  # fmt: skip


def _time(nanoseconds: int) -> dict[str, int]:
    seconds, rest = divmod(nanoseconds, SECOND)
    return {"secondsPastEpoch": seconds, "nanoseconds": rest}


def since_1970(attrs: Mapping[str, Any]) -> int:
    """Return the nanoseconds from a ring's timestamps to those since 1970."""
    if attrs.get("clock", "monotonic") == "monotonic":
        return time.time_ns() - time.monotonic_ns()
    return 0


def decode(value: Any, pv: str) -> Image | None:
    """Return the image in an update of a PV; None if there is none in it yet."""
    if not value.getID().startswith("epics:nt/NTNDArray"):
        raise TypeError(f"PV {pv!r} is not an NTNDArray but {value.getID()!r}, which has no images")
    flat = value.value
    if flat is None or flat.size == 0:
        return None
    codec = value.get("codec")
    if codec is not None and codec.name:
        raise ValueError(
            f"PV {pv!r} sends images that are compressed with {codec.name!r}: let it send them as they are "
            f"(in areaDetector, without the codec plugin)"
        )
    shape = tuple(dimension.size for dimension in value.dimension)[::-1] or (1,)
    if math.prod(shape) != flat.size:
        raise ValueError(f"PV {pv!r} sent {count(flat.size, 'value')} as an image of shape {shape}")
    return Image(
        flat.reshape(shape), value.uniqueId, _nanoseconds(value.get("dataTimeStamp")),
        _nanoseconds(value.get("timeStamp")), {item.name: item.value for item in value.get("attribute", [])},
    )  # fmt: skip


def _nanoseconds(stamp: Any) -> int:
    return 0 if stamp is None else max(0, stamp.secondsPastEpoch * SECOND + stamp.nanoseconds)


def attrs_of(image: Image, pv: str) -> dict[str, Any]:
    """Return what a ring can say about such images."""
    mode = image.attributes.get("ColorMode", MONO)
    axes = [{"name": name, "type": "space"} for name in ("z", "y", "x")[-image.array.ndim :]]
    attrs: dict[str, Any] = {"source": f"pva://{pv}", "clock": "realtime"}
    if image.array.ndim == 2:
        pattern = image.attributes.get("BayerPattern", 0)
        is_bayer = mode == BAYER and pattern in range(len(BAYER_PATTERNS))
        attrs["color"] = BAYER_PATTERNS[pattern] if is_bayer else "gray"
    elif image.array.ndim == 3 and mode in CHANNEL_AXIS:
        axes = axes[1:]
        axes.insert(CHANNEL_AXIS[mode], {"name": "c", "type": "channel"})
        attrs["color"] = "rgb"
    if len(axes) == image.array.ndim:
        attrs["axes"] = axes
    return attrs
