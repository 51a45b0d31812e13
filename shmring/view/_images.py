"""Pictures as a page takes them: a region of a frame, thinned out to what a panel shows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shmring.view._kinds import Layout

if TYPE_CHECKING:
    from shmring.view._wants import Want

__all__ = ["Picture", "cut", "picture_of", "pixel", "profile"]

SAMPLE = 1 << 16  # pixels that the histogram is made of
BINS = 256
PERCENTILES = (1, 99)
MOST = 8192  # pixels on each side: the tiles of a browser
EXACT_FLOAT = 1 << 24  # whole numbers that a float32 holds
SMALLEST, LARGEST = 2.0**-100, 2.0**100  # between them, a shader can add and divide float32 numbers
MOST_POWER = 1021  # of two, both ways: beyond it, float64 has fewer digits, or ends
PROFILE_POINTS = 4096


@dataclass(frozen=True, slots=True)
class Picture:
    """What is sent of one frame."""

    header: dict[str, Any]
    payload: np.ndarray[Any, Any] | bytes


def planes(array: np.ndarray[Any, Any], layout: Layout, channel: int | None) -> np.ndarray[Any, Any]:
    """Return a frame as (height, width) or (height, width, colours), without a copy."""
    whole = _with_channels(array, layout)
    if whole.ndim == 2 or (channel is None and layout.has_colours):
        return whole
    return whole[:, :, min(channel or 0, whole.shape[2] - 1)]


def _with_channels(array: np.ndarray[Any, Any], layout: Layout) -> np.ndarray[Any, Any]:
    """Return a frame as (height, width) or (height, width, channels or planes), without a copy."""
    columns = layout.spaces[1] if layout.kind == "image" else -1
    if not array.size:  # of no rows, say
        return np.empty((0, array.shape[columns]), array.dtype)
    if layout.kind != "image":
        return array.reshape(-1, array.shape[-1] if array.ndim else 1)
    if array.ndim == 2:
        return np.moveaxis(array, layout.spaces, (0, 1))
    if layout.channel_axis is None:
        array = np.moveaxis(array, layout.spaces, (0, 1))
        return array.reshape(*array.shape[:2], -1)
    if not layout.has_colours:
        array = np.moveaxis(array, (*layout.spaces, layout.channel_axis), (0, 1, -1))
        return array.reshape(*array.shape[:2], -1)
    array = np.moveaxis(array, (*layout.spaces, layout.channel_axis), (-3, -2, -1))
    while array.ndim > 3:
        array = array[0]
    return array


def picture_of(array: np.ndarray[Any, Any], layout: Layout, want: Want) -> Picture:
    """Make a picture of a frame."""
    whole = planes(array, layout, want.channel)
    bayer = layout.is_mosaic
    part, region, step = cut(whole, want, bayer)
    shown = _magnitudes(part)
    sample = _sample(shown)
    scale = _scale(sample)
    payload = _numbers(shown, scale)
    is_same = scale == 1 and shown.dtype.itemsize <= 4  # and contiguous, which is quicker
    levels, percentiles, histogram, limits = _statistics(payload if is_same else shown, sample)
    header: dict[str, Any] = {
        "kind": "image",
        "shape": list(payload.shape),
        "dtype": payload.dtype.str,
        "exact": _is_exact(part),
        "scale": scale,
        "step": step,
        "region": region,
        "full": list(whole.shape[:2]),
        "planes": array.size // max(whole.size, 1) if whole.ndim > 2 else 1,
        "colour": layout.colour if payload.ndim == 3 or bayer else "gray",
        "encoding": "raw",
        "levels": levels,
        "percentiles": percentiles,
        "histogram": histogram,
        "range": limits,
    }
    if want.quality is not None and not bayer and (encoded := _jpeg(payload, layout, want.quality)):
        header["encoding"] = "jpeg"
        return Picture(header, encoded)
    return Picture(header, payload)


def cut(
    whole: np.ndarray[Any, Any], want: Want, bayer: bool
) -> tuple[np.ndarray[Any, Any], list[int], list[int]]:
    """Return the part of a picture that is asked for, thinned out; which one; and the step of each axis."""
    height, width = whole.shape[:2]
    y0, y1, x0, x1 = want.region or (0, height, 0, width)
    y0, x0 = min(y0, max(height - 1, 0)), min(x0, max(width - 1, 0))
    y1, x1 = min(max(y1, y0 + 1), height), min(max(x1, x0 + 1), width)
    if bayer:
        y0, x0 = y0 & ~1, x0 & ~1
    panel = (want.width, want.height) if want.rotate % 180 else (want.height, want.width)
    lengths = (y1 - y0, x1 - x0)
    step = [
        max(1, length // max(1, wanted), -(-length // MOST))
        for length, wanted in zip(lengths, panel, strict=True)
    ]
    part = whole[y0:y1, x0:x1]
    if not bayer:
        return part[:: step[0], :: step[1]], [y0, y1, x0, x1], step
    step = [max(step)] * 2
    return _thin_cells(part, step[0]), [y0, y1, x0, x1], step


def _thin_cells(part: np.ndarray[Any, Any], step: int) -> np.ndarray[Any, Any]:
    """Keep every n-th cell of 2 by 2 pixels, each of which has all colours of a Bayer pattern."""
    if step == 1:
        return part
    cells = [len(range(0, length - 1, 2 * step)) for length in part.shape]
    thin = np.empty((2 * cells[0], 2 * cells[1]), part.dtype)
    for a in (0, 1):
        for b in (0, 1):
            some = part[a :: 2 * step, b :: 2 * step]
            thin[a::2, b::2] = some[: cells[0], : cells[1]]
    return thin


def _magnitudes(part: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the numbers that are shown: of complex ones how large they are, and none beyond float64."""
    with np.errstate(all="ignore"):
        shown: np.ndarray[Any, Any] = np.abs(part) if part.dtype.kind == "c" else part
        return shown.astype("f8") if shown.dtype.kind == "f" and shown.dtype.itemsize > 8 else shown


def _numbers(shown: np.ndarray[Any, Any], scale: float) -> np.ndarray[Any, Any]:
    """Return what a browser draws: u1, u2 or f4, little-endian; the last ones divided by `scale`."""
    if shown.dtype.kind == "b":
        return np.ascontiguousarray(shown).view("u1")
    if shown.dtype.kind == "u" and shown.dtype.itemsize <= 2:
        return np.ascontiguousarray(shown, shown.dtype.newbyteorder("<"))
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(shown if scale == 1 else shown / scale, "<f4")


def _is_exact(part: np.ndarray[Any, Any]) -> bool:
    """Whether the numbers that are drawn are those of the frame."""
    kind, size = part.dtype.kind, part.dtype.itemsize
    if kind in "cf":
        return bool(kind == "f" and size <= 4)
    if size <= 2 or not part.size:
        return True
    return int(part.min()) >= -EXACT_FLOAT and int(part.max()) <= EXACT_FLOAT


def _sample(shown: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return some of the numbers, without those that are none."""
    every = 1
    while shown[::every, ::every].size > SAMPLE:
        every += 1
    sample = shown[::every, ::every].reshape(-1)
    return sample[np.isfinite(sample)] if shown.dtype.kind == "f" else sample


def _scale(sample: np.ndarray[Any, Any]) -> float:
    """Return the power of two by which to divide numbers that are too large or too small for a shader.

    It is 1 for all others. A few that are much larger than the rest do not count: they are drawn as infinite.
    """
    if sample.dtype.kind != "f" or not sample.size:
        return 1.0
    if SMALLEST <= max(-float(sample.min()), float(sample.max())) <= LARGEST:
        return 1.0
    large = float(np.percentile(np.abs(sample), 99, method="lower"))
    if large == 0 or SMALLEST <= large <= LARGEST:
        return 1.0
    return math.ldexp(1.0, min(max(math.frexp(large)[1], -MOST_POWER), MOST_POWER))


Statistics = tuple[list[float] | None, list[float] | None, list[int] | None, list[float] | None]


def _statistics(shown: np.ndarray[Any, Any], sample: np.ndarray[Any, Any]) -> Statistics:
    """Return the levels, the percentiles, the histogram and its limits; None of what has no number."""
    if not shown.size:
        return None, None, None, None
    if shown.dtype.kind == "f":
        levels = _finite_levels(shown)
        if levels is None or not sample.size:
            return levels, None, None, None
    else:
        levels = [int(shown.min()), int(shown.max())]
    if sample.dtype.kind == "b":
        histogram = np.bincount(sample, minlength=2)
        return levels, _percentiles_of(histogram), histogram.tolist(), [0, 1]
    if shown.dtype == "u1":
        histogram = np.bincount(sample, minlength=BINS)
        return levels, _percentiles_of(histogram), histogram.tolist(), [0, BINS - 1]
    low, high = levels
    span = float(high) / 2 - float(low) / 2  # of the largest numbers, the whole would be infinite
    sample = sample.astype("f8") / 2
    with np.errstate(all="ignore"):
        places = (sample - low / 2) / (span or 0.5) * (BINS - 1e-3)
    histogram = np.bincount(np.clip(places, 0, BINS - 1).astype(np.intp), minlength=BINS)
    percentiles = [float(value) * 2 for value in np.percentile(sample, PERCENTILES)]
    return levels, percentiles, histogram.tolist(), [low, high]


def _percentiles_of(histogram: np.ndarray[Any, Any]) -> list[float]:
    """Return what np.percentile would of the bytes counted here, which need not be sorted for that."""
    up_to = np.cumsum(histogram)
    ranks = np.array(PERCENTILES) / 100 * (up_to[-1] - 1)
    below, above = (np.searchsorted(up_to, rank, side="right") for rank in (np.floor(ranks), np.ceil(ranks)))
    return [float(value) for value in below + (above - below) * (ranks - np.floor(ranks))]


def _finite_levels(shown: np.ndarray[Any, Any]) -> list[float] | None:
    with np.errstate(all="ignore"):
        low, high = float(shown.min()), float(shown.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            finite = shown[np.isfinite(shown)]
            if not finite.size:
                return None
            low, high = float(finite.min()), float(finite.max())
    return [low, high]


def _jpeg(payload: np.ndarray[Any, Any], layout: Layout, quality: int) -> bytes | None:
    """Encode for a slow link; None where it takes more than 8 bits, other colours, or simplejpeg."""
    if payload.dtype != "u1" or not payload.size or payload.shape[2:] not in ((), (3,)):
        return None
    try:
        import simplejpeg
    except ModuleNotFoundError:
        return None
    colours = "GRAY" if payload.ndim == 2 else (layout.colour or "rgb").upper()
    pixels = payload if payload.ndim == 3 else payload[:, :, None]
    encoded: bytes = simplejpeg.encode_jpeg(pixels, quality=quality, colorspace=colours)
    return encoded


def pixel(array: np.ndarray[Any, Any], layout: Layout, y: int, x: int) -> list[Any] | None:
    """Return every channel of one pixel of a whole frame; None where there is no such pixel."""
    whole = _with_channels(array, layout)
    if not (0 <= y < whole.shape[0] and 0 <= x < whole.shape[1]):
        return None
    return list(np.atleast_1d(whole[y, x]))


def profile(
    array: np.ndarray[Any, Any], layout: Layout, begin: tuple[float, float], end: tuple[float, float]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the distances along a line, and the values of each channel there, of the nearest pixels."""
    whole = _with_channels(array, layout)
    length = float(np.hypot(end[0] - begin[0], end[1] - begin[1]))
    points = int(min(max(np.ceil(length), 1) + 1, PROFILE_POINTS))
    ys = np.rint(np.linspace(begin[0], end[0], points)).astype(int).clip(0, max(whole.shape[0] - 1, 0))
    xs = np.rint(np.linspace(begin[1], end[1], points)).astype(int).clip(0, max(whole.shape[1] - 1, 0))
    values = whole[ys, xs]
    if values.dtype.kind == "c":
        values = np.abs(values)
    return np.linspace(0, length, points), values.reshape(points, -1).T
