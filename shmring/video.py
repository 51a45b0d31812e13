"""Pixel formats of video: the shape, the dtype and the planes of a frame, by the names that FFmpeg uses.

`PixelLayout` describes them for one format and size, `layout_of` reads what a ring says about its frames.
"""

from __future__ import annotations

import copy
import difflib
import functools
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from shmring._words import count

__all__ = ["PixelLayout", "layout_of"]

Pixels = npt.NDArray[Any]
NATIVE = "le" if sys.byteorder == "little" else "be"


class Plane(NamedTuple):
    """How one plane lies in a frame: a value for so many pixels across and down, of so many samples."""

    across: int = 1
    down: int = 1
    samples: int = 1

    def shape(self, width: int, height: int) -> tuple[int, ...]:
        """Return its shape: rounded up, as the edge of a picture has colours, too."""
        rows, columns = -(-height // self.down), -(-width // self.across)
        return (rows, columns) if self.samples == 1 else (rows, columns, self.samples)


class EvenRows(Plane):
    """Two pixels of a row share their colours, so that each row has an even number of them."""

    def shape(self, width: int, height: int) -> tuple[int, ...]:
        """Return its shape: as wide as the picture, or a pixel wider."""
        return (height, width + width % 2, 2)


class Format(NamedTuple):
    """The type of one sample, and how the planes follow each other."""

    dtype: str
    planes: tuple[Plane, ...]
    attrs: dict[str, Any]  # what can be said of such frames in the convention of attrs


ONE = (Plane(),)
YUV410, YUV411, YUV420, YUV422, YUV440, YUV444 = (
    (Plane(), Plane(across, down), Plane(across, down))
    for across, down in [(4, 4), (4, 1), (2, 2), (2, 1), (1, 2), (1, 1)]
)
NV420, NV422, NV444 = ((Plane(), Plane(across, down, 2)) for across, down in [(2, 2), (2, 1), (1, 1)])
TWO, THREE, FOUR = ((Plane(samples=samples),) for samples in (2, 3, 4))
EVEN = (EvenRows(),)
UP_TO_16 = (8, 9, 10, 12, 14, 16)

# Name, bits of a sample, planes. {} is the number of bits, which is left out if it is 8.
FAMILIES: list[tuple[str, tuple[int, ...], tuple[Plane, ...]]] = [
    ("gray{}", (*UP_TO_16, 32), ONE),
    ("grayf{}", (16, 32), ONE),
    ("ya8", (8,), TWO),
    ("ya16", (16,), TWO),
    ("yaf{}", (16, 32), TWO),
    ("rgb24", (8,), THREE),
    ("bgr24", (8,), THREE),
    ("vyu444", (8,), THREE),
    ("rgb48", (16,), THREE),
    ("bgr48", (16,), THREE),
    ("rgb96", (32,), THREE),
    ("rgbf{}", (16, 32), THREE),
    ("xyz12", (12,), THREE),
    *((name, (8,), FOUR) for name in (
        "rgba", "bgra", "argb", "abgr", "rgb0", "bgr0", "0rgb", "0bgr", "ayuv", "uyva", "vuya", "vuyx",
    )),
    *((name, (16,), FOUR) for name in ("rgba64", "bgra64", "ayuv64", "xv36", "xv48")),
    ("rgba128", (32,), FOUR),
    ("rgbaf{}", (16, 32), FOUR),
    *((name, (8,), ONE) for name in ("rgb8", "bgr8", "rgb4_byte", "bgr4_byte")),
    *((name, (16,), ONE) for name in ("rgb444", "rgb555", "rgb565", "bgr444", "bgr555", "bgr565")),
    *((name, (32,), ONE) for name in ("x2rgb10", "x2bgr10", "xv30", "v30x")),
    *((f"bayer_{order}8", (8,), ONE) for order in ("rggb", "bggr", "grbg", "gbrg")),
    *((f"bayer_{order}16", (16,), ONE) for order in ("rggb", "bggr", "grbg", "gbrg")),
    ("monow", (8,), (Plane(across=8),)),
    ("monob", (8,), (Plane(across=8),)),
    *((name, (8,), EVEN) for name in ("yuyv422", "uyvy422", "yvyu422")),
    *((name, (16,), EVEN) for name in ("y210", "y212", "y216")),
    ("yuv410p", (8,), YUV410),
    ("yuv411p", (8,), YUV411),
    ("yuv420p{}", UP_TO_16, YUV420),
    ("yuv422p{}", UP_TO_16, YUV422),
    ("yuv440p{}", (8, 10, 12), YUV440),
    ("yuv444p{}", UP_TO_16, YUV444),
    ("yuv444p{}msb", (10, 12), YUV444),
    ("yuvj411p", (8,), YUV411),
    ("yuvj420p", (8,), YUV420),
    ("yuvj422p", (8,), YUV422),
    ("yuvj440p", (8,), YUV440),
    ("yuvj444p", (8,), YUV444),
    ("yuva420p{}", (8, 9, 10, 16), YUV420 + ONE),
    ("yuva422p{}", (8, 9, 10, 12, 16), YUV422 + ONE),
    ("yuva444p{}", (8, 9, 10, 12, 16), YUV444 + ONE),
    ("nv12", (8,), NV420),
    ("nv21", (8,), NV420),
    ("nv16", (8,), NV422),
    ("nv20", (10,), NV422),
    ("nv24", (8,), NV444),
    ("nv42", (8,), NV444),
    ("p0{}", (10, 12, 16), NV420),
    ("p2{}", (10, 12, 16), NV422),
    ("p4{}", (10, 12, 16), NV444),
    ("gbrp{}", UP_TO_16, ONE * 3),
    ("gbrp{}msb", (10, 12), ONE * 3),
    ("gbrpf{}", (16, 32), ONE * 3),
    ("gbrap{}", (8, 10, 12, 14, 16, 32), ONE * 4),
    ("gbrapf{}", (16, 32), ONE * 4),
]  # fmt: skip

# Formats whose samples are what the convention of attrs calls a color.
COLORS = {
    r"gray.*": "gray",
    r"(rgb|bgr)(24|48|96|f.*)": r"\1",
    r"(rgba|bgra)(64|128|f.*)?": r"\1",
    r"(bayer_.{4})(8|16)": r"\1",
}


def _formats() -> dict[str, Format]:
    """Write out the families: more than a byte comes in both byte orders."""
    found = {}
    for name, depths, planes in FAMILIES:
        for bits in depths:
            full, sample = name.format("" if bits == 8 else bits), _sample(name, bits)
            attrs = _attrs(full, bits)
            if bits == 8:
                found[full] = Format(sample, planes, attrs)
            else:
                found[full + "le"] = Format("<" + sample, planes, attrs)
                found[full + "be"] = Format(">" + sample, planes, attrs)
    return found


def _sample(name: str, bits: int) -> str:
    kind = "f" if "f{}" in name else "u"
    return f"{kind}{next(nbytes for nbytes in (1, 2, 4) if 8 * nbytes >= bits)}"


def _attrs(name: str, bits: int) -> dict[str, Any]:
    for pattern, color in COLORS.items():
        if found := re.fullmatch(pattern, name):
            attrs: dict[str, Any] = {"color": found.expand(color)}
            return attrs if bits in (8, 16, 32) else {**attrs, "range": [0, 2**bits - 1]}
    return {}


FORMATS = _formats()


# Other names that FFmpeg takes, and its names for an int with four samples.
ALIASES = {
    "gray8": "gray",
    "y8": "gray",
    "gray8a": "ya8",
    "rgb32": "bgra" if NATIVE == "le" else "argb",
    "bgr32": "rgba" if NATIVE == "le" else "abgr",
}

# What others call them, for hints.
OTHERS = {
    "rgb": "rgb24",
    "bgr": "bgr24",
    "rgb4": "rgb4_byte",
    "bgr4": "bgr4_byte",
    "i420": "yuv420p",
    "iyuv": "yuv420p",
    "yuv420": "yuv420p",
    "yuyv": "yuyv422",
    "yuy2": "yuyv422",
    "uyvy": "uyvy422",
    "y16": "gray16le",
    "mono8": "gray",
    "mono16": "gray16le",
    "grey": "gray",
}
COMPRESSED = {"mjpg", "mjpeg", "jpeg", "h264", "avc1", "hevc", "h265", "vp8", "vp9", "av1", "prores", "ffv1"}
ON_A_CARD = {
    *("cuda", "d3d11", "d3d11va_vld", "d3d12", "drm_prime", "dxva2_vld", "mediacodec", "mmal", "opencl"),
    *("qsv", "vaapi", "vdpau", "videotoolbox_vld", "vulkan", "xvmc"),
}


class Described(Protocol):
    """A ring, a recording: whatever has attrs."""

    @property
    def attrs(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, repr=False)
class PixelLayout:
    """How the pixels of one format and size lie in a frame.

    A frame has the bytes that FFmpeg calls ``rawvideo``: plane after plane, rows without padding, and the
    size of subsampled planes rounded up. Its shape depends on the format:

    - (height, width) or (height, width, samples), if there is one plane;
    - (planes, height, width), if they are all of the same size: ``gbrp``, ``yuv444p``;
    - (rows, width), as OpenCV has it, if the planes fill whole rows: ``yuv420p``, ``nv12``;
    - (samples,) otherwise: with odd widths, above all.

    `planes` returns the planes in each case.

    Parameters
    ----------
    pix_fmt : str
        A name that ``ffmpeg -pix_fmts`` lists: ``"yuv420p"``, ``"gray10le"``. Names without ``le`` or ``be``
        mean the byte order of this machine.
    width, height : int
        Of the picture, in pixels.

    Raises
    ------
    ValueError
        There is no such format, or its frames are not made of bytes alone (``pal8`` has a palette).

    Examples
    --------
    >>> from shmring.video import PixelLayout
    >>> layout = PixelLayout("yuv420p", 640, 480)
    >>> layout.shape, str(layout.dtype)
    ((720, 640), 'uint8')
    >>> PixelLayout("p010le", 33, 17)
    PixelLayout('p010le', 33, 17): 867 values, uint16, in 2 planes
    """

    pix_fmt: str
    width: int
    height: int

    def __post_init__(self) -> None:
        """Check what was given, and complete the name."""
        object.__setattr__(self, "pix_fmt", _known(self.pix_fmt))
        for side in ("width", "height"):
            object.__setattr__(self, side, _length(side, getattr(self, side)))

    @functools.cached_property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of a frame."""
        return np.dtype(FORMATS[self.pix_fmt].dtype)

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of a frame."""
        first, *others = self._shapes
        if not others:
            return first
        if all(one == first for one in others):
            return (len(self._shapes), *first)
        values = sum(map(math.prod, self._shapes))
        steps = max(plane.across for plane in FORMATS[self.pix_fmt].planes)
        whole_rows = self.width % steps == 0 and values % self.width == 0
        return (values // self.width, self.width) if whole_rows else (values,)

    @property
    def nbytes(self) -> int:
        """Bytes of a frame."""
        return math.prod(self.shape) * self.dtype.itemsize

    @functools.cached_property
    def _shapes(self) -> list[tuple[int, ...]]:
        """Of the planes."""
        return [plane.shape(self.width, self.height) for plane in FORMATS[self.pix_fmt].planes]

    @property
    def attrs(self) -> dict[str, Any]:
        """Attrs for a ring: what `layout_of` reads, and what viewers understand, such as ``color``."""
        said = copy.deepcopy(FORMATS[self.pix_fmt].attrs)
        return {"pix_fmt": self.pix_fmt, "size": [self.width, self.height], **said}

    def planes(self, array: Any) -> tuple[Pixels, ...]:
        """Return each plane of a frame, as a view: what you write there is in the frame.

        Parameters
        ----------
        array : Frame, Batch, Slot or ndarray
            Of this layout's shape and dtype; with further axes in front, the planes have these, too.

        Returns
        -------
        tuple of ndarray
            (rows, columns), or (rows, columns, samples) where samples alternate: red, green and blue, or
            the two colours of ``nv12``.
        """
        array = self._checked(getattr(array, "array", array))
        before = array.shape[: array.ndim - len(self.shape)]
        flat = array.reshape(*before, math.prod(self.shape))
        if not np.may_share_memory(flat, array):
            raise ValueError("the pixels of each frame must lie together: this array has gaps between them")
        return self._split(flat, before)

    def _checked(self, array: Any) -> Pixels:
        if not isinstance(array, np.ndarray):
            raise TypeError(f"a frame or an array of numpy is needed, not {type(array).__name__}")
        if array.shape[-len(self.shape) :] != self.shape or array.dtype != self.dtype:
            raise ValueError(
                f"the array has shape {array.shape} dtype {array.dtype}; a frame of {self.pix_fmt} "
                f"with {self.width}x{self.height} pixels has shape {self.shape} dtype {self.dtype}"
            )
        return array

    def _split(self, flat: Pixels, before: tuple[int, ...]) -> tuple[Pixels, ...]:
        found, begin = [], 0
        for shape in self._shapes:
            end = begin + math.prod(shape)
            found.append(flat[..., begin:end].reshape(*before, *shape))
            begin = end
        return tuple(found)

    def load(self, array: Any, buffers: Sequence[Any], strides: Sequence[int]) -> None:
        """Copy a picture whose rows are padded into a frame; the padding is left out.

        Parameters
        ----------
        array : Slot or ndarray
            What to fill, of this layout's shape and dtype.
        buffers : sequence of bytes-like
            One for each plane, beginning with it.
        strides : sequence of int
            Bytes from one row to the next of each plane: ``linesize`` in FFmpeg, ``bytesperline`` in V4L2.
            Negative ones mean that the last row comes first.
        """
        for plane, rows in zip(self.planes(array), self._rows(buffers, strides), strict=True):
            plane[...] = rows

    def store(self, array: Any, buffers: Sequence[Any], strides: Sequence[int]) -> None:
        """Copy a frame to where rows are padded; the padding is left as it is.

        Parameters
        ----------
        array : Frame or ndarray
            Of this layout's shape and dtype.
        buffers, strides : sequence
            As for `load`; the buffers must be writable.
        """
        for plane, rows in zip(self.planes(array), self._rows(buffers, strides), strict=True):
            rows[...] = plane

    def _rows(self, buffers: Sequence[Any], strides: Sequence[int]) -> list[Pixels]:
        """View the planes in other memory."""
        wanted = count(len(self._shapes), "plane")
        if len(buffers) != len(self._shapes) or len(strides) != len(self._shapes):
            raise ValueError(
                f"{self.pix_fmt} has {wanted}, not {count(len(buffers), 'buffer')} and "
                f"{count(len(strides), 'stride')}"
            )
        return list(map(self._rows_of, range(len(buffers)), self._shapes, buffers, strides))

    def _rows_of(self, number: int, shape: tuple[int, ...], buffer: Any, stride: int) -> Pixels:
        rows, inside = shape[0], math.prod(shape[1:]) * self.dtype.itemsize
        data = np.frombuffer(buffer, np.uint8)
        needed = (rows - 1) * abs(stride) + inside
        if abs(stride) < inside or len(data) < needed:
            raise ValueError(
                f"plane {number} of {self.pix_fmt} has {count(rows, 'row')} of {inside} bytes: with "
                f"{abs(stride)} from row to row they take {needed}, and the buffer has {len(data)}"
            )
        found = np.lib.stride_tricks.as_strided(data, (rows, inside), (abs(stride), 1))
        found = found.view(self.dtype).reshape(shape)
        return found if stride >= 0 else found[::-1]

    def __repr__(self) -> str:
        return (
            f"PixelLayout({self.pix_fmt!r}, {self.width}, {self.height}): "
            f"{count(math.prod(self.shape), 'value')}, {self.dtype}, in {count(len(self._shapes), 'plane')}"
        )


def layout_of(ring: Described) -> PixelLayout:
    """Return the layout that a ring or a recording names in its attrs.

    ``shmring write --pix-fmt`` puts ``pix_fmt`` and ``size`` there, and so does who passes
    ``attrs=layout.attrs`` to ``Ring.create``.

    Parameters
    ----------
    ring : Ring or Recording
        Anything with `attrs`.

    Raises
    ------
    ValueError
        The attrs name no pixel format and size, or wrong ones.
    """
    said = ring.attrs
    pix_fmt, size = said.get("pix_fmt"), said.get("size")
    if not isinstance(pix_fmt, str) or not isinstance(size, list | tuple) or len(size) != 2:
        raise ValueError(
            f"the attrs say pix_fmt={pix_fmt!r:.40} and size={size!r:.40}: create the ring with "
            f'attrs=PixelLayout(...).attrs, or use PixelLayout("yuv420p", width, height) yourself'
        )
    return PixelLayout(pix_fmt, *size)


def _known(name: str) -> str:
    """Return the full name of a format."""
    if not isinstance(name, str):
        raise TypeError(f"pix_fmt must be a str, not {name!r}")
    for alias in (name, name + NATIVE, ALIASES.get(name)):
        if alias in FORMATS:
            return alias
    if name == "pal8":
        raise ValueError("pal8 frames have a palette beside their pixels: let ffmpeg make rgb24 of them")
    if name in ON_A_CARD:
        raise ValueError(
            f"{name} means the memory of a graphics card: let ffmpeg fetch the frames (-vf hwdownload)"
        )
    if name.lower() in COMPRESSED:
        raise ValueError(f"{name} is compressed: let ffmpeg decode it (-f rawvideo -pix_fmt yuv420p)")
    raise ValueError(
        f"{name!r:.60} is not a pixel format of whole bytes that ffmpeg -pix_fmts lists (yuv420p, nv12, "
        f"gray10le, p010le, rgb48le, ...){_hint(name.lower())}"
    )


def _hint(name: str) -> str:
    """Return which format was probably meant."""
    plain = name.replace("_", "")
    near = [OTHERS[name]] if name in OTHERS else [plain] if plain in FORMATS else []
    near = near or difflib.get_close_matches(name, FORMATS, 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _length(what: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 1 <= value < 2**31:
        raise ValueError(f"{what} must be a whole number of pixels, 1 or more, not {value!r}")
    return int(value)
