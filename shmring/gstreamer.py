"""For GStreamer: frames from an appsink, frames into an appsrc, whatever padding their rows have there."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

try:
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstApp", "1.0")
    gi.require_version("GstVideo", "1.0")
    from gi.repository import Gst, GstApp, GstVideo

    if (
        importlib.util.find_spec("gi.overrides.Gst") is None
    ):  # without it, a buffer's memory is read as a copy
        raise ImportError
except (ImportError, ValueError):  # the second one is what PyGObject raises where a library is missing
    raise ModuleNotFoundError(
        "shmring.gstreamer needs GStreamer with its bindings for Python, which your system has: apt install "
        "python3-gi python3-gst-1.0 gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-base",
        name="gi",
    ) from None

from shmring._core import check_timeout
from shmring.video import PixelLayout

__all__ = ["buffer_of", "caps_of", "layout_of_caps", "load", "push", "samples"]

Gst.init(None)

# What GStreamer calls a format, and FFmpeg.
FORMATS = {
    "GRAY8": "gray",
    "GRAY16_LE": "gray16le",
    "GRAY16_BE": "gray16be",
    "RGB": "rgb24",
    "BGR": "bgr24",
    "RGBA": "rgba",
    "BGRA": "bgra",
    "ARGB": "argb",
    "ABGR": "abgr",
    "RGBx": "rgb0",
    "BGRx": "bgr0",
    "xRGB": "0rgb",
    "xBGR": "0bgr",
    "RGBA64_LE": "rgba64le",
    "RGBA64_BE": "rgba64be",
    "BGRA64_LE": "bgra64le",
    "BGRA64_BE": "bgra64be",
    "GBR": "gbrp",
    "GBR_10LE": "gbrp10le",
    "GBR_10BE": "gbrp10be",
    "GBR_12LE": "gbrp12le",
    "GBR_12BE": "gbrp12be",
    "GBRA": "gbrap",
    "I420": "yuv420p",
    "I420_10LE": "yuv420p10le",
    "I420_10BE": "yuv420p10be",
    "I420_12LE": "yuv420p12le",
    "I420_12BE": "yuv420p12be",
    "Y42B": "yuv422p",
    "I422_10LE": "yuv422p10le",
    "I422_10BE": "yuv422p10be",
    "I422_12LE": "yuv422p12le",
    "I422_12BE": "yuv422p12be",
    "Y444": "yuv444p",
    "Y444_10LE": "yuv444p10le",
    "Y444_10BE": "yuv444p10be",
    "Y444_12LE": "yuv444p12le",
    "Y444_12BE": "yuv444p12be",
    "Y444_16LE": "yuv444p16le",
    "Y444_16BE": "yuv444p16be",
    "Y41B": "yuv411p",
    "A420": "yuva420p",
    "NV12": "nv12",
    "NV21": "nv21",
    "NV16": "nv16",
    "NV24": "nv24",
    "P010_10LE": "p010le",
    "P010_10BE": "p010be",
    "P012_LE": "p012le",
    "P012_BE": "p012be",
    "P016_LE": "p016le",
    "P016_BE": "p016be",
    "YUY2": "yuyv422",
    "UYVY": "uyvy422",
    "YVYU": "yvyu422",
}
LOOK = (
    0.2  # seconds without a picture, or without space for one: then the pipeline is asked what is the matter
)
MOST_RATE = 2**31  # GStreamer keeps it as int
BUFFERS = 4  # in an appsrc that sets no limit
NAMES = {ours: theirs for theirs, ours in FORMATS.items()}
RAW, BAYER = "video/x-raw", "video/x-bayer"


def layout_of_caps(caps: Gst.Caps) -> PixelLayout:
    """Return the layout of the pictures that caps describe.

    Parameters
    ----------
    caps : Gst.Caps
        Of a pad or a sample: ``video/x-raw``, or ``video/x-bayer`` with 8 bits.

    Raises
    ------
    ValueError
        They describe no such pictures, or leave something open. The message has a conversion that works.
    """
    said = caps.get_structure(0) if caps is not None and caps.get_size() else None
    if said is None or not caps.is_fixed():
        raise ValueError(f"the caps do not say what the pictures are: {caps and caps.to_string()!r:.200}")
    kind, name = said.get_name(), said.get_string("format")
    if not kind.startswith(("image/", "video/")):
        raise ValueError(f"the stream is {kind}, which is no picture")
    if kind not in (RAW, BAYER):
        raise ValueError(
            f"the pictures are {kind}, which is compressed: put `decodebin ! videoconvert ! "
            f"video/x-raw,format=I420` in front"
        )
    if kind == BAYER and name in ("rggb", "bggr", "grbg", "gbrg"):
        pix_fmt = f"bayer_{name}8"
    elif kind == RAW and name in FORMATS:
        pix_fmt = FORMATS[name]
    else:
        raise ValueError(
            f"{kind} of format {name} has no name in FFmpeg's list: put `videoconvert ! "
            f"video/x-raw,format=I420` in front (or GRAY8, RGB, GRAY16_LE, ...)"
        )
    return PixelLayout(pix_fmt, said.get_value("width"), said.get_value("height"))


def caps_of(layout: PixelLayout, frame_rate: float = 0) -> Gst.Caps:
    """Return the caps that describe a layout, for an appsrc.

    Parameters
    ----------
    layout : PixelLayout
    frame_rate : float
        Frames per second. The default, 0, means that only the time of each buffer counts.

    Raises
    ------
    ValueError
        GStreamer 1.22 has no such format, or no such frame rate.
    """
    if layout.pix_fmt.startswith("bayer_") and layout.pix_fmt.endswith("8"):
        kind, name = BAYER, layout.pix_fmt[6:-1]
    elif layout.pix_fmt in NAMES:
        kind, name = RAW, NAMES[layout.pix_fmt]
    else:
        raise ValueError(f"GStreamer has no format that is {layout.pix_fmt}: convert to yuv420p, rgb24, ...")
    if not 0 <= float(frame_rate) < MOST_RATE:
        raise ValueError(f"frame_rate must be frames per second, 0 to {MOST_RATE - 1}, not {frame_rate!r}")
    rate = Fraction(frame_rate).limit_denominator(1001)  # 30000/1001 stays what it is
    return Gst.Caps.from_string(
        f"{kind},format=(string){name},width={layout.width},height={layout.height},"
        f"framerate={rate.numerator}/{rate.denominator}"
    )


def samples(sink: GstApp.AppSink, timeout: float | None = None) -> Iterator[Gst.Sample]:
    """Iterate over what an appsink gets, until the stream ends.

    A pipeline that fails looks like one whose stream has ended, or that waits for a picture, if you ask its
    appsink alone. This asks the pipeline, too.

    Parameters
    ----------
    sink : GstApp.AppSink
        In a pipeline that was set to play.
    timeout : float, optional
        Seconds to wait for each sample; default: forever.

    Raises
    ------
    RuntimeError
        An element of the pipeline has failed; the message is its own. Or the pipeline does not play.
    TimeoutError
        Nothing came in time.
    """
    _check_kind(sink, GstApp.AppSink, "appsink")
    check_timeout(timeout)
    came = time.monotonic()
    while True:
        left = LOOK if timeout is None else came + timeout - time.monotonic()
        sample = sink.try_pull_sample(int(max(0, min(left, LOOK)) * Gst.SECOND))
        if sample is not None:
            yield sample
            came = time.monotonic()
        elif failure := _failure(sink):  # sources that fail send the end of the stream, too
            raise RuntimeError(failure)
        elif sink.is_eos():
            _check_plays(sink)  # one that does not play says the same
            return
        elif left <= 0:
            raise TimeoutError(f"the appsink {sink.get_name()!r} got nothing in {timeout} s")


def push(source: GstApp.AppSrc, buffer: Gst.Buffer, timeout: float | None = None) -> None:
    """Push a buffer into an appsrc; wait while it has ``max-buffers`` of them (4, if it sets no limit).

    An appsrc takes buffers without end although its pipeline has failed, or waits forever with
    ``block=true``. This asks the pipeline, too.

    Parameters
    ----------
    source : GstApp.AppSrc
        In a pipeline that was set to play; without ``block=true``.
    buffer : Gst.Buffer
        From `buffer_of`.
    timeout : float, optional
        Seconds to wait for space; default: forever.

    Raises
    ------
    RuntimeError
        An element of the pipeline has failed; the message is its own. Or the pipeline was stopped.
    TimeoutError
        There was no space in time.
    """
    _check_kind(source, GstApp.AppSrc, "appsrc")
    check_timeout(timeout)
    wanted = threading.Event()
    handler = source.connect("need-data", lambda *_: wanted.set())
    end = None if timeout is None else time.monotonic() + timeout
    try:
        while _is_full(source):
            if failure := _failure(source):
                raise RuntimeError(failure)
            left = LOOK if end is None else end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"the appsrc {source.get_name()!r} had no space in {timeout} s")
            wanted.wait(min(left, LOOK))
            wanted.clear()
    finally:
        source.disconnect(handler)
    result = source.push_buffer(buffer)
    if result != Gst.FlowReturn.OK:
        raise RuntimeError(_failure(source) or f"the pipeline takes no buffers: {result.value_nick}")


def _check_kind(element: Any, kind: type, name: str) -> None:
    if not isinstance(element, kind):
        raise TypeError(
            f"an {name} is needed, as pipeline.get_by_name(...) returns it, not {type(element).__name__}"
        )


def _check_plays(sink: GstApp.AppSink) -> None:
    _, state, pending = sink.get_state(0)
    if max(state, pending) <= Gst.State.READY:
        raise RuntimeError(f"the pipeline of appsink {sink.get_name()!r} was not set to play, or was stopped")


def _is_full(source: GstApp.AppSrc) -> bool:
    return bool(source.props.current_level_buffers >= (source.props.max_buffers or BUFFERS))


def _failure(element: Gst.Element) -> str:
    """Return what the pipeline of an element says of its failure."""
    while (parent := element.get_parent()) is not None:
        element = parent
    bus = element.get_bus()
    message = None if bus is None else bus.pop_filtered(Gst.MessageType.ERROR)
    if message is None:
        return ""
    error, details = message.parse_error()
    return f"{message.src.get_name()}: {error.message} {details or ''}".strip()


def load(layout: PixelLayout, array: Any, sample: Gst.Sample) -> None:
    """Copy a picture from an appsink into a frame, without the padding of its rows.

    Parameters
    ----------
    layout : PixelLayout
        Of the ring.
    array : Slot or ndarray
        What to fill.
    sample : Gst.Sample
        From `samples`, or pulled from an appsink.

    Raises
    ------
    ValueError
        The picture has another size or format, as cameras and files change them in the middle of a stream.
    """
    caps = sample.get_caps()
    found = layout_of_caps(caps)
    if found != layout:
        raise ValueError(f"the pictures are now {found}, no longer {layout}: start another ring for them")
    buffer = sample.get_buffer()
    offsets, strides = _padding(buffer, _video_info(layout, caps))
    with buffer.map(Gst.MapFlags.READ) as memory:
        layout.load(array, [memory.data[offset:] for offset in offsets], strides)


def buffer_of(layout: PixelLayout, array: Any) -> Gst.Buffer:
    """Return a buffer for an appsrc: a copy of a frame, with rows padded as GStreamer expects it.

    Parameters
    ----------
    layout : PixelLayout
        Of the ring.
    array : Frame or ndarray

    Returns
    -------
    Gst.Buffer
        Give it ``pts`` and ``duration``, unless the appsrc does (``do-timestamp=true``).
    """
    info = _video_info(layout, caps_of(layout))
    buffer = Gst.Buffer.new_allocate(None, info.size, None)
    offsets, strides = _padding(buffer, info)
    with buffer.map(Gst.MapFlags.WRITE) as memory:
        layout.store(array, [memory.data[offset:] for offset in offsets], strides)
    return buffer


def _padding(buffer: Gst.Buffer, info: GstVideo.VideoInfo) -> tuple[list[int], list[int]]:
    """Return where each plane begins, and how far apart its rows are."""
    said = GstVideo.buffer_get_video_meta(buffer) or info
    planes = info.finfo.n_planes
    return list(said.offset)[:planes], list(said.stride)[:planes]


def _video_info(layout: PixelLayout, caps: Gst.Caps) -> GstVideo.VideoInfo:
    """Return what is taken for granted of a buffer that does not say how it is padded."""
    if caps.get_structure(0).get_name() != BAYER:
        return GstVideo.VideoInfo.new_from_caps(caps)
    info = GstVideo.VideoInfo()
    info.set_format(GstVideo.VideoFormat.GRAY8, layout.width, layout.height)
    return info
