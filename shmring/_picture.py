"""Pictures of frames: arrays of any kind as 8-bit gray or RGB, and as PNG."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from shmring.attrs import RingAttrs

__all__ = ["picture", "png"]

DARKEST, BRIGHTEST = 0.5, 99.5  # percentiles: a few hot pixels do not make the rest black
SIGNATURE = b"\x89PNG\r\n\x1a\n"
GRAY, RGB = 0, 2  # PNG's words


def picture(
    array: npt.NDArray[Any],
    said: RingAttrs,
    most: int,
    *,
    levels: tuple[float, float] | None = None,
    colors: npt.NDArray[np.uint8] | None = None,
) -> npt.NDArray[np.uint8] | None:
    """Make a picture of a frame; None if it is empty.

    Parameters
    ----------
    array : ndarray
    said : RingAttrs
        Of its ring, whose kind is "image".
    most : int
        Pixels of the longer side, at most: of larger frames every second pixel is shown, or every third, …
    levels : pair of float, optional
        What becomes black, and what white. Default: everything of bool and uint8; of other dtypes all but
        the darkest and the brightest pixels.
    colors : ndarray, optional
        256 colors for gray pictures, of shape (256, 3).

    Returns
    -------
    ndarray, optional
        Its own memory, of shape (height, width) or (height, width, 3).
    """
    pixels = _in_order(array, said)
    if 0 in pixels.shape:
        return None
    if said.color is not None and said.color.startswith("bayer") and min(pixels.shape) > 1:
        pixels = _without_mosaic(pixels, said.color, most)
    step = _step(pixels, most)
    shown = _as_bytes(pixels[::step, ::step], levels)
    if shown.ndim == 2:
        return shown if colors is None else colors[shown]
    return np.ascontiguousarray(shown[..., ::-1] if said.color in ("bgr", "bgra") else shown)


def _step(pixels: npt.NDArray[Any], most: int) -> int:
    longer: int = max(pixels.shape[:2])
    return -(-longer // most)


def _in_order(array: npt.NDArray[Any], said: RingAttrs) -> npt.NDArray[Any]:
    """View a frame as (height, width), or as (height, width, 3) if it has colors, without alpha."""
    assert said.sides is not None
    order = list(said.sides)
    has_colors = said.color in ("rgb", "bgr", "rgba", "bgra")
    if has_colors:
        order += [number for number, axis in enumerate(said.axes) if axis.type == "channel"][:1]
    others = [number for number in range(array.ndim) if number not in order]
    array = array.transpose(*others, *order)
    for _ in others:  # of a stack the first picture
        array = array[0]
    return array[..., :3] if has_colors else array


def _without_mosaic(pixels: npt.NDArray[Any], color: str, most: int) -> npt.NDArray[Any]:
    """Take one pixel of each color out of each square of four."""
    step = 2 * _step(pixels, 2 * most)
    height, width = (length - length % 2 for length in pixels.shape)
    corners = [pixels[row:height:step, column:width:step] for row in (0, 1) for column in (0, 1)]
    letters = color.removeprefix("bayer_")
    return np.stack([corners[letters.index(letter)] for letter in "rgb"], axis=-1)


def _as_bytes(pixels: npt.NDArray[Any], levels: tuple[float, float] | None) -> npt.NDArray[np.uint8]:
    """Map the values between the levels to 0 to 255; what is no number becomes black."""
    if levels is None and pixels.dtype == np.uint8:
        return np.array(pixels)
    if levels is None and pixels.dtype.kind == "b":
        levels = (0.0, 1.0)
    with np.errstate(all="ignore"):
        values = (np.abs(pixels) if pixels.dtype.kind == "c" else pixels).astype(np.float64)
        low, high = levels if levels is not None else _levels_of(values, pixels.dtype)
        # By halves: the distance between the largest numbers is infinite.
        scaled = (values / 2 - low / 2) / (high / 2 - low / 2 if high > low else 1) * 255
        octets: npt.NDArray[np.uint8] = np.nan_to_num(np.clip(np.round(scaled), 0, 255)).astype(np.uint8)
        return octets


def _levels_of(values: npt.NDArray[np.float64], dtype: np.dtype[Any]) -> tuple[float, float]:
    numbers = values[np.isfinite(values)]
    if not numbers.size:
        return 0.0, 1.0
    low, high = np.percentile(numbers / 2, [DARKEST, BRIGHTEST])
    if low == high:  # some spots, say
        low, high = numbers.min() / 2, numbers.max() / 2
    if low == high and dtype.kind == "u" and dtype.itemsize == 2:
        return 0.0, 65535.0  # a saturated camera is white
    return 2 * float(low), 2 * float(high)


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Write pixels of shape (height, width) or (height, width, 3) as a PNG file."""
    height, width = pixels.shape[:2]
    kind = GRAY if pixels.ndim == 2 else RGB
    rows = np.zeros((height, 1 + pixels[0].size), np.uint8)  # each begins with how it is filtered: not at all
    rows[:, 1:] = pixels.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b"")]
    return SIGNATURE + b"".join(map(_chunk, chunks))


def _chunk(named: tuple[bytes, bytes]) -> bytes:
    name, data = named
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
