"""`shmring.gstreamer`: pictures come out of GStreamer, and go into it, as they are."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import numpy as np
import pytest

from shmring.video import PixelLayout, layout_of
from support.waiting import PATIENCE

pytest.importorskip("gi")
pytest.importorskip("shmring.gstreamer")

from gi.repository import Gst, GstVideo

from shmring import gstreamer

SIZES = [(33, 17), (32, 18)]


class Pipeline:
    """A pipeline that is stopped at the end."""

    def __init__(self, text: str) -> None:
        self.pipeline = Gst.parse_launch(text)

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.pipeline.set_state(Gst.State.NULL)

    def start(self) -> None:
        self.pipeline.set_state(Gst.State.PLAYING)

    def __getitem__(self, name: str) -> Gst.Element:
        return self.pipeline.get_by_name(name)

    def samples(self) -> list[Gst.Sample]:
        """All that comes until the end."""
        self.start()
        return list(gstreamer.samples(self["sink"], PATIENCE))


ORANGE = 0xF0, 0x80, 0x10
NOT_FROM_FFMPEG = ["nv16", "p012le", "p012be"]  # 5.1 of Debian cannot convert to these


@pytest.fixture(scope="module")
def orange(tmp_path_factory) -> Callable[[PixelLayout], np.ndarray]:
    """A picture of one color, made by ffmpeg."""
    folder = tmp_path_factory.mktemp("orange")
    for width, height in SIZES:
        source = f"color=c=0xF08010:s=64x64:r=1,crop={width}:{height}:0:0:exact=1"
        outputs: list[str] = []
        for pix_fmt in {*gstreamer.NAMES}.difference(NOT_FROM_FFMPEG):
            file = folder / f"{pix_fmt}-{width}"
            outputs += ["-frames:v", "1", "-pix_fmt", pix_fmt, "-f", "rawvideo", str(file)]
        subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, *outputs], check=True)
    return lambda layout: np.fromfile(folder / f"{layout.pix_fmt}-{layout.width}", layout.dtype)


@pytest.mark.parametrize("size", SIZES, ids=["odd", "even"])
@pytest.mark.parametrize("pix_fmt", sorted({*gstreamer.NAMES}.difference(NOT_FROM_FFMPEG)))
def test_a_format_of_ffmpeg_is_that_of_gstreamer(orange, pix_fmt, size):
    """Through GStreamer's converter: names, orders of planes and of samples fit, and the padding, too."""
    layout = PixelLayout(pix_fmt, *size)
    array = orange(layout).reshape(layout.shape)
    if pix_fmt in ("p010le", "p016le"):  # ffmpeg leaves the last colors of an odd row out
        layout.planes(array)[1][...] = layout.planes(array)[1][0, 0]
    text = "appsrc name=source format=time ! videoconvert ! video/x-raw,format=RGB ! appsink name=sink"
    with Pipeline(text) as one:
        one["source"].set_caps(gstreamer.caps_of(layout, 1))
        buffer = gstreamer.buffer_of(layout, array)
        buffer.pts = 0
        one.start()
        one["source"].push_buffer(buffer)
        one["source"].end_of_stream()
        [sample] = one.samples()
    came = np.empty((size[1], size[0], 3), "u1")
    gstreamer.load(PixelLayout("rgb24", *size), came, sample)
    expected = [came[0, 0, 0]] * 3 if pix_fmt.startswith("gray") else ORANGE
    assert (abs(came.astype(int) - expected) <= 8).all(), came[0, 0]


@pytest.mark.parametrize("size", SIZES, ids=["odd", "even"])
@pytest.mark.parametrize("name", [*gstreamer.FORMATS, "bayer rggb"])
def test_there_and_back(make, name, size):
    """A test picture through a ring and again through GStreamer: byte for byte, padding apart."""
    kind = f"video/x-bayer,format={name[6:]}" if " " in name else f"video/x-raw,format={name}"
    text = (
        f"videotestsrc num-buffers=3 ! {kind},width={size[0]},height={size[1]} ! appsink name=sink sync=false"
    )
    with Pipeline(text) as source:
        samples = source.samples()
    layout = gstreamer.layout_of_caps(samples[0].get_caps())
    ring = make(shape=layout.shape, dtype=layout.dtype, slots=4, attrs=layout.attrs)
    with ring.producer() as out, ring.consumer() as frames:
        for sample in samples:
            with out.claim() as slot:
                gstreamer.load(layout, slot, sample)
        for sample in samples:
            back = gstreamer.buffer_of(layout_of(ring), frames.get(PATIENCE))
            assert back.get_size() == sample.get_buffer().get_size()
            again = np.empty(layout.shape, layout.dtype)
            gstreamer.load(layout, again, Gst.Sample.new(back, gstreamer.caps_of(layout), None, None))
            first = np.empty(layout.shape, layout.dtype)
            gstreamer.load(layout, first, sample)
            assert np.array_equal(first, again)
            assert first.any()


def test_buffers_that_say_how_they_are_padded():
    """As those of decoders and devices do, by GstVideoMeta."""
    layout = PixelLayout("gray", 5, 3)
    buffer = Gst.Buffer.new_wrapped(bytes(range(100)))
    GstVideo.buffer_add_video_meta_full(
        buffer,
        GstVideo.VideoFrameFlags.NONE,
        GstVideo.VideoFormat.GRAY8,
        5,
        3,
        1,
        [7, 0, 0, 0],
        [20, 0, 0, 0],
    )
    array = np.zeros((3, 5), "u1")
    gstreamer.load(layout, array, Gst.Sample.new(buffer, gstreamer.caps_of(layout), None, None))
    assert array[:, 0].tolist() == [7, 27, 47]


def test_another_size_in_the_middle_of_a_stream_is_an_error():
    """Also where both have as many bytes."""
    layout, other = PixelLayout("yuv420p", 33, 17), PixelLayout("yuv420p", 17, 33)
    assert layout.shape == other.shape
    array = np.zeros(layout.shape, layout.dtype)
    sample = Gst.Sample.new(gstreamer.buffer_of(other, array), gstreamer.caps_of(other), None, None)
    with pytest.raises(ValueError, match=r"are now .*17, 33.* no longer"):
        gstreamer.load(layout, array, sample)


@pytest.mark.parametrize(
    ("caps", "said"),
    [
        ("video/x-raw,format=v210,width=4,height=4", "videoconvert"),
        ("video/x-raw,width=4,height=4", "format None"),
        ("video/x-raw,format={RGB,BGR},width=4,height=4", "do not say"),
        ("audio/x-raw,format=S16LE", "audio/x-raw"),
        ("video/x-bayer,format=rggb16le,width=4,height=4", "rggb16le"),
        ("video/x-raw,format=RGB", "width"),
        ("ANY", "do not say"),
        ("EMPTY", "do not say"),
    ],
)
def test_caps_of_no_pictures(caps, said):
    with pytest.raises(ValueError, match=said):
        gstreamer.layout_of_caps(Gst.Caps.from_string(caps))


@pytest.mark.parametrize(
    ("rate", "said"),
    [(0, "0/1"), (30, "30/1"), (30000 / 1001, "30000/1001"), (0.5, "1/2"), (29.97, "2997/100")],
)
def test_frame_rates(rate, said):
    assert f"framerate=(fraction){said}" in gstreamer.caps_of(PixelLayout("gray", 4, 4), rate).to_string()


@pytest.mark.parametrize("rate", [-1, 2**31, float("nan"), float("inf")])
def test_no_frame_rates(rate):
    with pytest.raises(ValueError, match="frame_rate must be frames per second, 0 to 2147483647, not"):
        gstreamer.caps_of(PixelLayout("gray", 4, 4), rate)


def test_formats_that_gstreamer_has_not():
    with pytest.raises(ValueError, match="no format that is yuv410p"):
        gstreamer.caps_of(PixelLayout("yuv410p", 4, 4))


# ---- the end of a stream


def test_a_pipeline_that_fails_says_why():
    with Pipeline("videotestsrc ! identity error-after=3 ! appsink name=sink") as one:
        one.start()
        came = gstreamer.samples(one["sink"])
        assert len([next(came), next(came)]) == 2
        with pytest.raises(RuntimeError, match=r"identity0: .*after"):
            next(came)


def test_a_source_that_sends_nothing():
    with Pipeline("appsrc ! appsink name=sink") as one:
        one.start()
        with pytest.raises(TimeoutError, match=r"'sink' got nothing in 0\.01 s"):
            next(gstreamer.samples(one["sink"], 0.01))


def test_a_pipeline_that_does_not_play():
    """Its appsink says that the stream has ended: consumers would take it for a clean end."""
    with Pipeline("videotestsrc ! appsink name=sink") as one:
        with pytest.raises(RuntimeError, match="'sink' was not set to play, or was stopped"):
            next(gstreamer.samples(one["sink"], PATIENCE))
        one.start()
        came = gstreamer.samples(one["sink"], PATIENCE)
        next(came)
        one.pipeline.set_state(Gst.State.NULL)
        with pytest.raises(RuntimeError, match="'sink' was not set to play, or was stopped"):
            for _ in came:
                pass


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_wrong_timeouts(timeout):
    with Pipeline("appsrc name=source ! appsink name=sink") as one:
        with pytest.raises(ValueError, match="timeout"):
            next(gstreamer.samples(one["sink"], timeout))
        with pytest.raises(ValueError, match="timeout"):
            push_some(one, timeout)


# ---- into an appsrc


def push_some(pipeline: Pipeline, timeout: float) -> None:
    layout = PixelLayout("gray", 4, 4)
    pipeline["source"].set_caps(gstreamer.caps_of(layout))
    for _ in range(20):
        buffer = gstreamer.buffer_of(layout, np.zeros((4, 4), "u1"))
        gstreamer.push(pipeline["source"], buffer, timeout)


def test_all_that_is_pushed_arrives_in_order():
    layout = PixelLayout("gray", 5, 3)
    with Pipeline("appsrc name=source format=time max-buffers=2 ! queue ! appsink name=sink") as one:
        one["source"].set_caps(gstreamer.caps_of(layout))
        one.start()
        for number in range(50):
            buffer = gstreamer.buffer_of(layout, np.full((3, 5), number, "u1"))
            buffer.pts = number
            gstreamer.push(one["source"], buffer, PATIENCE)
        one["source"].end_of_stream()
        array, came = np.empty((3, 5), "u1"), []
        for sample in gstreamer.samples(one["sink"], PATIENCE):
            gstreamer.load(layout, array, sample)
            came.append(int(array[2, 4]))
    assert came == [*range(50)]


@pytest.mark.parametrize("limit", ["", "max-buffers=1"])
def test_a_failed_pipeline_takes_no_more(limit):
    with Pipeline(f"appsrc name=source format=time {limit} ! identity error-after=3 ! fakesink") as one:
        one.start()
        with pytest.raises(RuntimeError, match=r"identity.*: .*after"):
            push_some(one, PATIENCE)


def test_a_pipeline_that_takes_nothing():
    with Pipeline("appsrc name=source format=time max-buffers=3 ! fakesink") as one:
        one.pipeline.set_state(Gst.State.PAUSED)
        with pytest.raises(TimeoutError, match=r"'source' had no space in 0\.01 s"):
            push_some(one, 0.01)
        assert one["source"].props.current_level_buffers == 3


def test_a_pipeline_that_was_stopped():
    with Pipeline("appsrc name=source ! fakesink") as one:
        one.start()
        one.pipeline.set_state(Gst.State.NULL)
        with pytest.raises(RuntimeError, match="takes no buffers: flushing"):
            push_some(one, PATIENCE)


@pytest.mark.parametrize(
    ("caps", "said"),
    [
        ("image/jpeg,width=8,height=8", "compressed.*`decodebin ! videoconvert ! "),
        ("video/x-h264,width=8,height=8", "compressed.*`decodebin ! videoconvert ! "),
        ("audio/x-raw,format=S16LE,rate=48000,channels=2", "audio/x-raw, which is no picture"),
    ],
)
def test_what_no_conversion_of_pictures_can_convert(caps, said):
    with pytest.raises(ValueError, match=said):
        gstreamer.layout_of_caps(Gst.Caps.from_string(caps))


def test_elements_of_another_kind():
    """A name that is not in the pipeline gives None, and the pipeline itself is near at hand."""
    pipeline = Gst.parse_launch("appsrc name=source ! fakesink")
    for wrong in (None, pipeline):
        with pytest.raises(TypeError, match="an appsink is needed, as"):
            next(gstreamer.samples(wrong))
        with pytest.raises(TypeError, match="an appsrc is needed, as"):
            gstreamer.push(wrong, Gst.Buffer())
