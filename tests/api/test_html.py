"""What rings, statistics and frames show in a notebook; the pictures, pixel by pixel."""

import base64
import re
import struct
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest

import shmring
from shmring import attrs
from shmring._picture import picture, png

COLORS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [9, 8, 7]]], "u1")


def decoded(data: bytes) -> np.ndarray:
    """Read a PNG as the standard has it, without a library."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(name + body)
        chunks[name] = body
        at += 12 + length
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    width, height, depth, kind, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, rest) == (8, [0, 0, 0])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), "u1").reshape(height, -1)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape((height, width) if kind == 0 else (height, width, 3))


def pictures(html: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/png;base64,([^"]*)"', html)
    return [decoded(base64.b64decode(one)) for one in found]


class Tags(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.text, self.open = set(), "", []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def show(frame, said=None, most=256, **options):
    frame = np.asarray(frame)
    return picture(frame, attrs.read_attrs(said or {}, frame.shape, frame.dtype), most, **options)


# ---- pictures


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (7, 2, 3), (1, 300)])
def test_png_is_what_the_standard_says(shape):
    pixels = np.random.default_rng(1).integers(0, 256, shape, "u1")
    assert np.array_equal(decoded(png(pixels)), pixels)
    assert np.array_equal(decoded(png(pixels[::-1, ::-1])), pixels[::-1, ::-1])


@pytest.mark.parametrize(
    ("color", "frame"),
    [
        ("rgb", COLORS),
        ("bgr", COLORS[..., ::-1]),
        ("rgba", np.dstack([COLORS, np.zeros((2, 2), "u1")])),
        ("bgra", np.dstack([COLORS[..., ::-1], np.zeros((2, 2), "u1")])),
        ("rgb", np.moveaxis(COLORS, -1, 0)),
    ],
)
def test_orders_of_colors(color, frame):
    axes = ["y", "x", "c"] if frame.shape[0] == 2 else ["c", "y", "x"]
    assert np.array_equal(show(frame, {"color": color, "axes": axes}), COLORS)


@pytest.mark.parametrize(
    ("axes", "upright"), [("xy", (1, 0)), ("xyc", (1, 0, 2)), ("cxy", (2, 1, 0)), ("ycx", (0, 2, 1))]
)
def test_x_runs_to_the_right(axes, upright):
    sizes = [3 if axis == "c" else 5 if axis == "x" else 4 for axis in axes]
    frame = np.arange(np.prod(sizes), dtype="u1").reshape(sizes)
    assert np.array_equal(show(frame, {"axes": list(axes)}), frame.transpose(upright))


@pytest.mark.parametrize("unit", [1e-300, 1e39, 1e300, np.finfo("f8").max / 2])
def test_any_float(unit):
    frame = np.array([[-2.0, 0.0], [1.0, 2.0]]) * unit
    assert show(frame, levels=(frame.min(), frame.max())).tolist() == [[0, 128], [191, 255]]
    assert show(frame)[0, 0] == 0
    assert show(frame)[1, 1] == 255


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "grbg", "gbrg"])
def test_bayer_patterns(pattern):
    square = np.array(["rgb".index(letter) for letter in pattern]).reshape(2, 2)
    mosaic = np.tile(np.array([250, 120, 30], "u1")[square], (3, 4))
    found = show(mosaic, {"color": f"bayer_{pattern}"})
    assert found.shape == (3, 4, 3)
    assert (found == (250, 120, 30)).all()
    odd = show(np.pad(mosaic, ((0, 1), (0, 1))), {"color": f"bayer_{pattern}"})
    assert np.array_equal(odd, found)
    assert show(mosaic, {"color": f"bayer_{pattern}"}, most=2).shape == (2, 2, 3)
    assert show(mosaic[:1], {"color": f"bayer_{pattern}"}).ndim == 2


@pytest.mark.parametrize(
    ("frame", "levels", "wanted"),
    [
        (np.array([[0, 7], [100, 255]], "u1"), None, [[0, 7], [100, 255]]),
        (np.array([[0, 1], [1, 0]], "?"), None, [[0, 255], [255, 0]]),
        (np.array([[0, 100], [200, 300]], ">u2"), (100, 200), [[0, 0], [255, 255]]),
        (np.array([[-1, 0], [1, 2]], "i4"), (-1, 1), [[0, 128], [255, 255]]),
        (np.array([[0, 0.5], [np.nan, np.inf]], "f2"), (0, 1), [[0, 128], [0, 255]]),
        (np.array([[3 + 4j, 0], [5j, 10]], "c8"), (0, 10), [[128, 0], [128, 255]]),
        (np.array([[0, 128], [255, 51]], "u1"), (0, 51), [[0, 255], [255, 255]]),
        (np.full((2, 2), 5, "u2"), None, [[0, 0], [0, 0]]),
        (np.full((2, 2), np.nan), None, [[0, 0], [0, 0]]),
        (np.array([[-1.7e308, 1.7e308]]), (-1.7e308, 1.7e308), [[0, 255]]),  # their difference is no number
        (np.array([[1 << 62, (1 << 62) + (1 << 20)]], "u8"), None, [[0, 255]]),
    ],
    ids=str,
)
def test_values_and_levels(frame, levels, wanted):
    with np.errstate(all="raise"):
        found = show(frame, {"axes": ["y", "x"]}, levels=levels)
    assert found.dtype == np.uint8
    assert found.tolist() == wanted


def test_a_few_hot_pixels_do_not_make_the_rest_black():
    frame = np.arange(10_000, dtype="u2").reshape(100, 100)
    frame[5, 5] = 65535
    found = show(frame)
    assert found[0, 0] == 0
    assert found[50, 0] in range(126, 130)
    assert found[5, 5] == 255


@pytest.mark.parametrize(("value", "gray"), [(65535, 255), (0, 0), (32768, 128)])
def test_a_saturated_camera_is_not_black(value, gray):
    assert (show(np.full((20, 30), value, "u2")) == gray).all()


def test_a_few_spots_leave_each_other_their_brightness():
    """Where all but the few are alike, they span the levels."""
    frame = np.zeros((40, 50), "f4")
    frame[3, 4], frame[5, 6] = 50, 100
    found = show(frame)
    assert [found[0, 0], found[3, 4], found[5, 6]] == [0, 128, 255]


def test_large_frames_are_made_smaller_and_stacks_show_their_first():
    assert show(np.zeros((480, 640), "u1")).shape == (160, 214)
    assert show(np.zeros((3, 5), "u1")).shape == (3, 5)
    stack = np.stack([np.full((6, 7), n, "u1") for n in range(5)])
    assert (show(stack, {"axes": ["z", "y", "x"]}) == 0).all()
    assert show(np.zeros((0, 5, 3), "u1"), {"axes": ["y", "x", "c"]}) is None


def test_a_picture_is_its_own_memory():
    for frame in (np.zeros((4, 4), "u1"), np.zeros((4, 4, 3), "u1"), np.zeros((4, 4), "u2")):
        assert not np.shares_memory(show(frame), frame)


def test_a_color_map():
    colors = np.stack([np.arange(256), np.zeros(256), np.full(256, 9)], axis=-1).astype("u1")
    assert show([[0, 255]], {"axes": ["y", "x"]}, levels=(0, 255), colors=colors).tolist() == [
        [[0, 0, 9], [255, 0, 9]]
    ]


# ---- in a notebook


def frames(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 4, 6, 3), "u1")


def test_a_frame_is_shown_as_it_is_and_not_held(make):
    ring = make(shape=(4, 6, 3), dtype="u1", slots=8, attrs=attrs.describe(color="bgr"))
    sent = frames(3)
    with ring.producer() as out, ring.consumer() as consumer, ring.observer() as observer:
        out.put_many(sent)
        frame = consumer.get()
        html = frame._repr_html_()
        assert np.array_equal(pictures(html)[0], sent[0][..., ::-1])
        assert "seq 0" in Tags(html).text
        frame.release()
        assert consumer.held == 0
        assert frame._repr_html_() is None
        copy = observer.latest(0)
        assert np.array_equal(pictures(copy._repr_html_())[0], sent[2][..., ::-1])
        with consumer.batch(2) as batch:
            shown = pictures(batch._repr_html_())
            assert [np.array_equal(one, frame[..., ::-1]) for one, frame in zip(shown, sent[1:], strict=True)]
        assert consumer.held == 0
        assert batch._repr_html_() is None


def test_a_batch_shows_some(make):
    ring = make(shape=(4, 6, 3), dtype="u1", slots=32)
    with ring.producer() as out, ring.consumer() as consumer:
        out.put_many(frames(20))
        with consumer.batch(20) as batch:
            assert len(pictures(batch._repr_html_())) == 8


def test_a_ring_shows_its_newest_frame_and_who_takes_part(make):
    ring = make(shape=(4, 6, 3), dtype="u1", slots=8)
    assert pictures(ring._repr_html_()) == []
    with ring.producer() as out, ring.consumer(label="disk", lossless=False):
        out.put_many(frames(3))
        html = ring._repr_html_()
        assert np.array_equal(pictures(html)[0], frames(3)[-1])
        assert {"disk", "lossy"} <= set(re.findall(r"<td>(\w*)</td>", html))
        assert "producer live" in html
        assert pictures(ring.stats()._repr_html_()) == []
        assert "<td>disk</td>" in ring.stats()._repr_html_()
    with shmring.Ring.attach(ring.name, readonly=True) as other:
        assert len(pictures(other._repr_html_())) == 1
        assert "producer closed" in other._repr_html_()
    assert "closed&gt;" in other._repr_html_()


def test_what_is_no_image_has_no_picture(make):
    for options in ({"shape": (100,), "dtype": "f4"}, {"shape": (4, 6), "dtype": "u1,f4"}):
        ring = make(slots=4, **options)
        with ring.producer() as out, ring.consumer() as consumer:
            out.put(np.zeros(ring.shape, ring.dtype))
            assert pictures(ring._repr_html_()) == []
            with consumer.get() as frame:
                assert pictures(frame._repr_html_()) == []
                assert "seq 0" in frame._repr_html_()


def test_a_frame_without_rows(make):
    ring = make(shape=(4, 6, 3), dtype="u1", slots=4, variable_rows=True)
    with ring.producer() as out, ring.consumer() as consumer:
        out.put(frames(1)[0][:0])
        out.put(frames(1)[0][:2])
        with consumer.get() as empty, consumer.get() as half:
            assert pictures(empty._repr_html_()) == []
            assert pictures(half._repr_html_())[0].shape == (2, 6, 3)


EVIL = '<img src=x onerror="alert(1)">&\x1b[31m'


def test_words_of_others_stay_words(make, name):
    with shmring.Ring.create(f"{name}<b>&", shape=(4, 6), dtype="u1", slots=4, attrs={"axes": EVIL}) as ring:
        with ring.producer() as out, ring.consumer(label=EVIL) as consumer:
            out.put(np.zeros((4, 6), "u1"))
            shown = [ring._repr_html_(), ring.stats()._repr_html_()]
            with consumer.get() as frame:
                shown.append(frame._repr_html_())
        for html in shown:
            page = Tags(html)
            assert page.tags <= {"div", "img", "table", "tr", "th", "td"}
            assert "onerror" not in re.sub(r"&lt;img.*?&amp;", "", html)
            assert "\x1b" not in html
            assert f"{name}<b>&" in page.text


def test_a_repr_never_raises(make, monkeypatch):
    ring = make(shape=(4, 6, 3), dtype="u1", slots=4)
    with ring.producer() as out, ring.consumer() as consumer:
        out.put(frames(1)[0])
        with consumer.get() as frame:
            monkeypatch.setattr("shmring._picture.png", lambda pixels: 1 / 0)
            assert frame._repr_html_() is None
            assert ring._repr_html_() is None


def test_a_look_leaves_nothing_behind(make):
    """No place in the ring, no open handle, and the warning for a ring that nobody closes stays."""
    ring = make(shape=(4, 6, 3), dtype="u1", slots=4)
    with shmring.Ring.attach(ring.name) as other:
        other._repr_html_()
        assert not other._had_handles
        assert not list(other._children)
        assert not ring.stats().consumers
