"""`shmring.video`: where the planes of a frame lie is where ffmpeg put them, odd sizes included."""

from __future__ import annotations

import copy
import hashlib
import math
import pickle
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import shmring.attrs
from shmring import recording
from shmring.video import FORMATS, PixelLayout, layout_of
from support.waiting import PATIENCE

SIZES = [(33, 17), *(pytest.param(size, marks=pytest.mark.stress) for size in [(34, 17), (1, 1)])]
# They lie in the memory of a device, or have less than a byte for a sample, or a palette beside their pixels.
NOT_OURS = {
    "bgr4", "rgb4", "pal8", "uyyvyy411", "vaapi", "dxva2_vld", "vdpau", "qsv", "mmal", "d3d11va_vld", "cuda",
    "xvmc", "videotoolbox_vld", "mediacodec", "d3d11", "drm_prime", "opencl", "vulkan",
}  # fmt: skip

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")


def ffmpeg(*arguments: str) -> bytes:
    command = ["ffmpeg", "-v", "error", "-y", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=PATIENCE).stdout


def listed() -> dict[str, bool]:
    """The formats of this ffmpeg; whether it can convert to each."""
    lines = ffmpeg("-pix_fmts").decode().partition("-----\n")[2].splitlines()
    return {line.split()[1]: line[1] == "O" for line in lines}


# ---- against ffmpeg


@needs_ffmpeg
def test_every_format_of_ffmpeg_is_known():
    """Debian's; a newer one may have new formats, of which the test with PyAV would hear."""
    version = ffmpeg("-version").split()[2]
    if not version.startswith(b"5."):
        pytest.skip(f"ffmpeg {version.decode()} may have more")
    assert {*listed()} - {*FORMATS} == NOT_OURS


@pytest.mark.slow
@needs_ffmpeg
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_frames_have_the_bytes_of_ffmpeg(make, tmp_path, size):
    """Two pictures in each format; each goes through a ring, and is put together again from its planes."""
    width, height = size
    formats = [name for name, convertible in listed().items() if convertible and name in FORMATS]
    assert len(formats) > 150
    crop = f"testsrc2=size=64x64:rate=1,crop={width}:{height}:0:0:exact=1"
    outputs: list[str] = []
    for name in formats:
        common = ["-frames:v", "2", "-pix_fmt", name]
        outputs += [*common, "-f", "rawvideo", str(tmp_path / f"{name}.raw")]
        outputs += [*common, "-c:v", "rawvideo", "-f", "md5", str(tmp_path / f"{name}.md5")]
    ffmpeg("-f", "lavfi", "-i", crop, *outputs)
    for name in formats:
        layout = PixelLayout(name, width, height)
        raw = (tmp_path / f"{name}.raw").read_bytes()
        assert len(raw) == 2 * layout.nbytes, name
        ring = make(shape=layout.shape, dtype=layout.dtype, slots=2, attrs=layout.attrs)
        summed = hashlib.md5()
        with ring.producer() as out, ring.consumer() as frames:
            for array in np.frombuffer(raw, layout.dtype).reshape(2, *layout.shape):
                out.put(array)
                for plane in layout_of(ring).planes(frames.get(PATIENCE)):
                    summed.update(plane.tobytes())
        assert f"MD5={summed.hexdigest()}" == (tmp_path / f"{name}.md5").read_text().strip(), name
        ring.close()
        ring.unlink()


# ---- against PyAV


@pytest.mark.slow
@pytest.mark.parametrize("size", [(33, 17), (32, 18)], ids=["odd", "even"])
def test_planes_and_padding_are_those_of_pyav(tmp_path, size):
    """FFmpeg's decoder pads the rows of each plane; without the padding it is the file again, and back."""
    av = pytest.importorskip("av")
    random = np.random.default_rng(1)
    for name in sorted({*FORMATS} & {*av.video.format.names}):
        layout = PixelLayout(name, *size)
        raw = random.bytes(layout.nbytes)
        (tmp_path / "raw").write_bytes(raw)
        options = {"video_size": f"{size[0]}x{size[1]}", "pixel_format": name}
        with av.open(str(tmp_path / "raw"), format="rawvideo", options=options) as container:
            [picture] = container.decode(video=0)
        array = np.zeros(layout.shape, layout.dtype)
        strides = [plane.line_size for plane in picture.planes]
        layout.load(array, picture.planes, strides)
        assert array.tobytes() == raw, name
        empty = av.VideoFrame(*size, name)
        layout.store(array, empty.planes, strides := [plane.line_size for plane in empty.planes])
        array[:] = 0
        layout.load(array, empty.planes, strides)
        assert array.tobytes() == raw, name


def test_formats_of_the_library_that_are_not_ours():
    """A newer FFmpeg may have more: add those whose samples are whole bytes."""
    av = pytest.importorskip("av")
    elsewhere = NOT_OURS | {"amf", "d3d12", "ohcodec"}
    assert {*av.video.format.names} - {*FORMATS} - elsewhere == set()


# ---- shapes and planes


@pytest.mark.parametrize(
    ("pix_fmt", "size", "shape", "dtype", "planes"),
    [
        ("yuv420p", (640, 480), (720, 640), "u1", [(480, 640), (240, 320), (240, 320)]),
        ("yuv420p", (33, 17), (867,), "u1", [(17, 33), (9, 17), (9, 17)]),
        ("yuv420p10le", (34, 17), (26, 34), "<u2", [(17, 34), (9, 17), (9, 17)]),
        ("nv12", (640, 480), (720, 640), "u1", [(480, 640), (240, 320, 2)]),
        ("nv12", (33, 17), (867,), "u1", [(17, 33), (9, 17, 2)]),
        ("p010be", (2, 2), (3, 2), ">u2", [(2, 2), (1, 1, 2)]),
        ("yuva420p", (4, 4), (10, 4), "u1", [(4, 4), (2, 2), (2, 2), (4, 4)]),
        ("yuv444p", (5, 3), (3, 3, 5), "u1", [(3, 5)] * 3),
        ("gbrpf32le", (5, 3), (3, 3, 5), "<f4", [(3, 5)] * 3),
        ("gray10le", (5, 3), (3, 5), "<u2", [(3, 5)]),
        ("rgb48be", (5, 3), (3, 5, 3), ">u2", [(3, 5, 3)]),
        ("yuyv422", (5, 3), (3, 6, 2), "u1", [(3, 6, 2)]),
        ("bayer_rggb16le", (5, 3), (3, 5), "<u2", [(3, 5)]),
        ("x2rgb10le", (5, 3), (3, 5), "<u4", [(3, 5)]),
        ("monob", (9, 3), (3, 2), "u1", [(3, 2)]),
    ],
)
def test_shapes(pix_fmt, size, shape, dtype, planes):
    layout = PixelLayout(pix_fmt, *size)
    assert (layout.shape, layout.dtype) == (shape, np.dtype(dtype))
    assert layout.nbytes == math.prod(shape) * np.dtype(dtype).itemsize
    assert [plane.shape for plane in layout.planes(np.zeros(shape, dtype))] == planes


def test_planes_are_views_of_the_slot_and_of_the_frame(make):
    layout = PixelLayout("nv12", 3, 3)
    ring = make(shape=layout.shape, dtype=layout.dtype, slots=4, attrs=layout.attrs)
    with ring.producer() as out, ring.consumer() as frames:
        for number in range(3):
            with out.claim() as slot:
                grey, colours = layout.planes(slot)
                grey[...] = number
                colours[..., 0], colours[..., 1] = 100, 200
        with frames.batch(3) as batch:
            grey, colours = layout.planes(batch)
            assert (grey.shape, colours.shape) == ((3, 3, 3), (3, 2, 2, 2))
            assert grey[:, 2, 2].tolist() == [0, 1, 2]
            assert (colours == [100, 200]).all()
            assert not grey.flags.writeable


def test_what_is_no_frame_of_this_layout():
    layout = PixelLayout("yuv420p", 4, 4)
    with pytest.raises(
        ValueError, match=r"shape \(4, 4\) dtype uint8; a frame of yuv420p with 4x4 .* \(6, 4\)"
    ):
        layout.planes(np.zeros((4, 4), "u1"))
    with pytest.raises(ValueError, match="dtype int8"):
        layout.planes(np.zeros((6, 4), "i1"))
    with pytest.raises(TypeError, match="not list"):
        layout.planes([[0] * 4] * 6)
    with pytest.raises(ValueError, match="gaps"):
        layout.planes(np.zeros((6, 8), "u1")[:, :4])


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (("yuv420q", 4, 4), ValueError, "did you mean 'yuv420p'"),
        (("YUV420P", 4, 4), ValueError, "did you mean 'yuv420p'"),
        (("RGB", 4, 4), ValueError, "did you mean 'rgb24'"),
        (("bgr", 4, 4), ValueError, "did you mean 'bgr24'"),
        (("I420", 4, 4), ValueError, "did you mean 'yuv420p'"),
        (("YUYV", 4, 4), ValueError, "did you mean 'yuyv422'"),
        (("YUY2", 4, 4), ValueError, "did you mean 'yuyv422'"),
        (("GRAY16_LE", 4, 4), ValueError, "did you mean 'gray16le'"),
        (("MJPG", 4, 4), ValueError, "compressed: let ffmpeg decode"),
        (("h264", 4, 4), ValueError, "compressed: let ffmpeg decode"),
        (("vaapi", 4, 4), ValueError, "the memory of a graphics card"),
        (("rgb4", 4, 4), ValueError, "did you mean 'rgb4_byte'"),
        (("", 4, 4), ValueError, "is not a pixel format"),
        (("pal8", 4, 4), ValueError, "palette"),
        ((b"gray", 4, 4), TypeError, "must be a str"),
        (("gray", 0, 4), ValueError, "width must be a whole number"),
        (("gray", 4, -1), ValueError, "height must be"),
        (("gray", 4.0, 4), ValueError, "not 4.0"),
        (("gray", True, 4), ValueError, "not True"),
        (("gray", 4, 2**40), ValueError, "height"),
    ],
)
def test_what_is_no_layout(arguments, error, said):
    with pytest.raises(error, match=said):
        PixelLayout(*arguments)


def test_a_layout_is_a_value():
    layout = PixelLayout("nv12", 33, 17)
    assert layout == pickle.loads(pickle.dumps(layout)) == copy.copy(layout)
    assert {layout: 1}[PixelLayout("nv12", np.int64(33), 17)] == 1
    assert layout != PixelLayout("nv21", 33, 17)
    assert repr(layout) == "PixelLayout('nv12', 33, 17): 867 values, uint8, in 2 planes"
    with pytest.raises(AttributeError):
        layout.width = 34


def test_gstreamer_says_what_it_needs():
    """Where the bindings are missing."""
    program = "import sys; sys.modules['gi'] = None; import shmring.gstreamer"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert said.returncode == 1
    assert "ModuleNotFoundError: shmring.gstreamer needs GStreamer" in said.stderr
    assert "apt install python3-gi python3-gst-1.0" in said.stderr


def test_short_names():
    assert PixelLayout("gray10", 4, 4) == PixelLayout(f"gray10{'le' if np.little_endian else 'be'}", 4, 4)
    assert PixelLayout("gray8", 4, 4) == PixelLayout("gray", 4, 4)


@pytest.mark.parametrize("alias", ["gray8", "y8", "gray8a", "rgb32", "bgr32"])
def test_other_names_that_ffmpeg_takes(alias):
    """They are not in its list."""
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        "testsrc=size=3x5",
        "-frames:v",
        "1",
        "-f",
        "md5",
    ]
    sums = [
        subprocess.run(
            [*command, "-pix_fmt", name, "-c:v", "rawvideo", "-"], capture_output=True, text=True, check=True
        ).stdout
        for name in (alias, PixelLayout(alias, 3, 5).pix_fmt)
    ]
    assert sums[0] == sums[1] != ""


# ---- padded rows


def test_rows_in_reverse_order():
    layout = PixelLayout("gray16le", 3, 2)
    padded = np.zeros((2, 4), "<u2")
    padded[:, :3] = [[4, 5, 6], [1, 2, 3]]
    array = np.empty((2, 3), "<u2")
    layout.load(array, [padded], [-8])
    assert array.tolist() == [[1, 2, 3], [4, 5, 6]]
    layout.store(array[::-1].copy(), [padded], [-8])
    assert padded.tolist() == [[1, 2, 3, 0], [4, 5, 6, 0]]


def test_the_last_row_needs_no_padding_and_odd_strides_work():
    layout = PixelLayout("gray16le", 3, 2)
    array = np.arange(6, dtype="<u2").reshape(2, 3)
    memory = bytearray(7 + 6)
    layout.store(array, [memory], [7])
    back = np.empty_like(array)
    layout.load(back, [bytes(memory)], [7])
    assert np.array_equal(back, array)


@given(st.data())
def test_whatever_the_padding_is(data):
    """What was stored is loaded again, and nothing between the rows has changed."""
    name = data.draw(st.sampled_from(sorted(FORMATS)))
    layout = PixelLayout(name, data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9)))
    random = np.random.default_rng(data.draw(st.integers(0, 9)))
    array = np.frombuffer(random.bytes(layout.nbytes), layout.dtype).reshape(layout.shape)
    buffers, strides, inside = [], [], []
    for plane in layout.planes(array):
        rows, nbytes = len(plane), plane[0].nbytes
        padding = data.draw(st.integers(0, 5))
        buffers.append(np.full(rows * (nbytes + padding), 7, "u1"))
        strides.append((nbytes + padding) * data.draw(st.sampled_from([1, -1])))
        inside.append(buffers[-1].reshape(rows, -1)[:, nbytes:])
    layout.store(array, buffers, strides)
    assert all((padding == 7).all() for padding in inside)
    back = np.zeros_like(array)
    layout.load(back, buffers, strides)
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("buffers", "strides", "said"),
    [
        ([bytes(16), bytes(4)], [4, 4], "3 planes, not 2 buffers and 2 strides"),
        ([bytes(16), bytes(4), bytes(4)], [4, 2], "3 buffers and 2 strides"),
        ([bytes(15), bytes(4), bytes(4)], [4, 2, 2], "plane 0 of yuv420p has 4 rows of 4 bytes: .* has 15"),
        ([bytes(16), bytes(4), bytes(4)], [4, 1, 2], "plane 1 .* 2 rows of 2 bytes: with 1"),
        ([bytes(16), bytes(4), bytes(4)], [4, 2, -3], "plane 2"),
    ],
)
def test_buffers_that_are_too_small(buffers, strides, said):
    layout = PixelLayout("yuv420p", 4, 4)
    with pytest.raises(ValueError, match=said):
        layout.load(np.zeros((6, 4), "u1"), buffers, strides)


def test_what_is_read_only_is_not_written_to():
    layout = PixelLayout("gray", 2, 2)
    array = np.zeros((2, 2), "u1")
    with pytest.raises(ValueError, match="read-only"):
        layout.store(array, [bytes(4)], [2])
    array.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        layout.load(array, [bytes(4)], [2])


# ---- attrs


def test_a_recording_knows_its_planes(make, tmp_path):
    """All frames of it at once, as the array has them."""
    layout = PixelLayout("nv12", 3, 3)
    ring = make(shape=layout.shape, dtype=layout.dtype, slots=8, attrs=layout.attrs)
    with ring.producer() as out:
        for number in range(3):
            out.put(np.full(layout.shape, number, layout.dtype))
        recording.record(ring, tmp_path / "take.npy", frames=3)
    with recording.open_recording(tmp_path / "take.npy") as take:
        gray, colors = layout_of(take).planes(take.array)
        assert (gray.shape, colors.shape) == ((3, 3, 3), (3, 2, 2, 2))
        assert colors[:, 1, 1].tolist() == [[0, 0], [1, 1], [2, 2]]


@pytest.mark.parametrize(
    ("pix_fmt", "more"),
    [
        ("gray", {"color": "gray"}),
        ("gray12be", {"color": "gray", "range": [0, 4095]}),
        ("bgr24", {"color": "bgr"}),
        ("rgb48le", {"color": "rgb"}),
        ("bgra64le", {"color": "bgra"}),
        ("rgba", {"color": "rgba"}),
        ("bayer_grbg16le", {"color": "bayer_grbg"}),
        ("argb", {}),
        ("rgb0", {}),
        ("rgb8", {}),
        ("rgb565le", {}),
        ("nv12", {}),
        ("p010le", {}),
    ],
)
def test_attrs_say_what_the_convention_has_a_word_for(pix_fmt, more):
    layout = PixelLayout(pix_fmt, 5, 3)
    assert layout.attrs == {"pix_fmt": pix_fmt, "size": [5, 3], **more}
    assert layout_of(SimpleNamespace(attrs=layout.attrs)) == layout


@pytest.mark.parametrize("size", [(33, 17), (32, 18), (3, 4)], ids=["odd", "even", "small"])
def test_attrs_are_as_the_convention_has_them(size):
    for name in FORMATS:
        layout = PixelLayout(name, *size)
        shmring.attrs.check(layout.attrs, layout.shape, layout.dtype)


@pytest.mark.parametrize(
    "attrs", [{}, {"pix_fmt": "gray"}, {"pix_fmt": 1, "size": [1, 1]}, {"pix_fmt": "gray", "size": [1]},
              {"pix_fmt": "gray", "size": ["1", 1]}, {"pix_fmt": "grey", "size": [1, 1]}],
)  # fmt: skip
def test_attrs_that_say_no_layout(attrs):
    with pytest.raises(ValueError, match=r"pix_fmt|whole number|pixel format"):
        layout_of(SimpleNamespace(attrs=attrs))
