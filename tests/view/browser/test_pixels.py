"""What the canvas shows, pixel by pixel, for each dtype and order of colours."""

from __future__ import annotations

import re
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest

import shmring

STATIC = Path(shmring.__file__).parent / "view" / "static"
HEIGHT, WIDTH = 24, 40
GENERATOR = np.random.default_rng(1)


def colour_map(name: str) -> np.ndarray:
    text = re.search(rf'{name}: "([^"]+)"', (STATIC / "colormaps.js").read_text())[1]
    return np.frombuffer(b64decode(text), "u1").reshape(256, 3)


def coloured(values: np.ndarray, low: float, high: float, name: str = "gray", tie: float = 0.5) -> np.ndarray:
    """What values look like between these levels."""
    places = np.clip((values.astype("f8") - low) * 255 / (high - low), 0, 255)
    return colour_map(name)[np.floor(places + tie).astype(int)]


def is_coloured(shown: np.ndarray, *arguments) -> bool:
    """Whether that is what values look like; a value half way between two colours has either."""
    return all(
        (pixel == one).all() or (pixel == other).all()
        for pixel, one, other in zip(
            shown.reshape(-1, 3),
            coloured(*arguments, tie=0.4999).reshape(-1, 3),
            coloured(*arguments, tie=0.5001).reshape(-1, 3),
            strict=True,
        )
    )


def grid(low: int, high: int, dtype: str) -> np.ndarray:
    return GENERATOR.integers(low, high, (HEIGHT, WIDTH), endpoint=True).astype(dtype)


def test_bytes_are_shown_as_they_are(stream, show):
    frame = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype("u1")
    ring, _ = stream(frame)
    shown = show(ring.name).shows(0).pixels()
    assert np.array_equal(shown, np.repeat(frame[..., None], 3, 2))


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("u1", 10, 244),
        ("i1", -100, 100),
        ("u2", 3, 4098),
        (">u2", 0, 65535),
        ("i2", -30000, 30000),
        ("u4", 5, 70005),
    ],
)
def test_whole_numbers(stream, show, dtype, low, high):
    frame = grid(low, high, dtype)
    ring, _ = stream(frame)
    shown = show(ring.name, levels=f"{low - 3},{high + 2}", map="viridis").shows(0).pixels()
    assert is_coloured(shown, frame, low - 3, high + 2, "viridis")


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4"])
def test_floating_point(stream, show, dtype):
    frame = (grid(0, 255, "f8") * 0.25 - 20).astype(dtype)
    ring, _ = stream(frame)
    shown = show(ring.name, levels="-20,43.75", map="magma").shows(0).pixels()
    assert np.array_equal(shown, coloured(frame, -20, 43.75, "magma"))


@pytest.mark.parametrize("unit", [1e300, 1e39, 1e-39, 1e-300])
def test_numbers_beyond_float32(stream, show, unit):
    frame = grid(0, 255, "f8")
    frame[0, :2] = 0, 255
    ring, _ = stream(frame * unit)
    page = show(ring.name, levels="auto", map="viridis").shows(0)
    assert page.view("range") == [0, 255 * unit]
    assert is_coloured(page.pixels(), frame, 0, 255, "viridis")


def test_x_before_y(stream, show):
    frame = grid(0, 255, "u1")
    ring, _ = stream(frame, attrs={"axes": ["x", "y"]})
    shown = show(ring.name).shows(0).pixels()
    assert np.array_equal(shown, np.repeat(frame.T[..., None], 3, 2))


def test_complex_by_magnitude(stream, show):
    angles = GENERATOR.uniform(0, 6.28, (HEIGHT, WIDTH))
    sizes = grid(0, 255, "f8")
    ring, _ = stream((sizes * np.exp(1j * angles)).astype("c8"))
    shown = show(ring.name, levels="0,255").shows(0).pixels()
    assert np.array_equal(shown, coloured(sizes, 0, 255))


def test_bool(stream, show):
    frame = grid(0, 1, "?")
    ring, _ = stream(frame)
    shown = show(ring.name).shows(0).pixels()
    assert np.array_equal(shown, np.repeat(frame[..., None] * np.uint8(255), 3, 2))


def test_what_is_no_number_is_left_out(stream, show):
    frame = grid(0, 255, "f4")
    frame[3, 5], frame[4, 6], frame[5, 7] = np.nan, np.inf, -np.inf
    ring, _ = stream(frame)
    shown = show(ring.name, levels="0,255").shows(0).pixels()
    expected = coloured(np.nan_to_num(frame, posinf=255, neginf=0), 0, 255)
    expected[3, 5] = (0x07, 0x09, 0x0C)  # the ground of the panel
    assert np.array_equal(shown, expected)


@pytest.mark.parametrize("low", [0, 1000, 65535 - 255])
def test_contrast_of_16_bits_is_exact(stream, show, low):
    frame = np.arange(65536).reshape(256, 256).astype("u2")
    ring, _ = stream(frame)
    shown = show(ring.name, levels=f"{low},{low + 255}").shows(0).pixels()
    expected = np.clip(frame.astype(int) - low, 0, 255)
    assert np.array_equal(shown, np.repeat(expected[..., None], 3, 2))


def test_levels_by_themselves(stream, show):
    frame = grid(0, 0, "u2") + 500
    frame[0, 0], frame[0, 1], frame[0, 2] = 100, 868, 1123
    frame[2:] = 700
    ring, _ = stream(frame)
    page = show(ring.name, levels="auto").shows(0)
    assert page.view("range") == [100, 1123]
    assert page.pixels()[0, :3, 0].tolist() == [0, 191, 255]
    page.view("setMode('full')")
    assert page.view("range") == [0, 65535]
    page.view("setMode('percentile')")
    assert page.view("range") == pytest.approx(np.percentile(frame, (1, 99)))


@pytest.mark.parametrize(
    ("values", "dtype", "mode", "expected"),
    [
        ([65535], "u2", "percentile", [0, 65535]), ([65535], "u2", "auto", [0, 65535]),
        ([7], "u1", "auto", [0, 255]), ([5, 900], "u2", "percentile", [5, 900]),
        ([5, 900], "f4", "percentile", [5, 900]), ([1.5], "f4", "percentile", [1.5, 1.5]),
    ],
)  # fmt: skip
def test_levels_without_a_span(stream, show, values, dtype, mode, expected):
    """A saturated camera is not black, and a few bright spots are not all that is seen of a picture."""
    frame = np.full((HEIGHT, WIDTH), values[0], dtype)
    frame[0, 0] = values[-1]
    ring, _ = stream(frame)
    assert show(ring.name, levels=mode).shows(0).view("range") == expected


def test_range_of_the_attrs(stream, show):
    frame = grid(0, 4095, "u2")
    frame[0, 0] = 4095
    ring, _ = stream(frame, attrs={"range": [0, 4095]})
    page = show(ring.name).shows(0)
    assert page.view("range") == [0, 4095]
    assert page.pixels()[0, 0].tolist() == [255] * 3


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("order", ["rgb", "bgr", "rgba", "bgra"])
def test_orders_of_colours(stream, show, order, dtype):
    frame = GENERATOR.integers(0, 256, (HEIGHT, WIDTH, len(order))).astype(dtype)
    if len(order) == 4:
        frame[..., 3] = 0  # the fourth byte of most cameras: it makes nothing transparent
    ring, _ = stream(frame, attrs={"color": order})
    shown = show(ring.name, levels="0,255").shows(0).pixels()
    assert np.array_equal(shown, frame[..., [order.index(colour) for colour in "rgb"]].astype("u1"))


def demosaiced(mosaic: np.ndarray, pattern: str) -> np.ndarray:
    """Bilinear: each colour is the mean of its sites around, a pixel's own colour its own value."""
    height, width = mosaic.shape
    sites = np.array(
        [["rgb".index(pattern[2 * (y % 2) + x % 2]) for x in range(width)] for y in range(height)]
    )
    result = np.empty((height, width, 3))
    for y in range(height):
        for x in range(width):
            around = np.s_[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
            for colour in range(3):
                found = mosaic[around][sites[around] == colour]
                result[y, x, colour] = mosaic[y, x] if sites[y, x] == colour else found.mean()
    return result


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "grbg", "gbrg"])
def test_bayer(stream, show, pattern):
    mosaic = GENERATOR.integers(0, 64, (16, 20)).astype("u2") * 4  # quarters of four values are whole
    ring, _ = stream(mosaic, attrs={"color": f"bayer_{pattern}"})
    shown = show(ring.name, levels="0,255").shows(0).pixels()
    inside = np.s_[1:-1, 1:-1]
    assert np.array_equal(shown[inside], demosaiced(mosaic, pattern)[inside].astype("u1"))
    assert np.abs(shown - demosaiced(mosaic, pattern)).max() <= 1  # thirds and halves at the edge


def test_planes_before_rows(stream, show):
    frame = GENERATOR.integers(0, 256, (3, HEIGHT, WIDTH)).astype("u1")
    axes = [{"name": "c", "type": "channel"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    ring, _ = stream(frame, attrs={"axes": axes, "color": "rgb"})
    assert np.array_equal(show(ring.name).shows(0).pixels(), np.moveaxis(frame, 0, 2))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("r", lambda frame: np.rot90(frame, -1)),
        ("rr", lambda frame: np.rot90(frame, 2)),
        ("rrr", lambda frame: np.rot90(frame, 1)),
        ("h", lambda frame: frame[:, ::-1]),
        ("v", lambda frame: frame[::-1]),
        ("rh", lambda frame: np.rot90(frame, -1)[:, ::-1]),
        ("hr", lambda frame: np.rot90(frame[:, ::-1], -1)),
        ("vrh", lambda frame: np.rot90(frame[::-1], -1)[:, ::-1]),
    ],
)
def test_turned_and_mirrored(stream, show, keys, expected):
    frame = grid(0, 255, "u1")
    ring, _ = stream(frame)
    page = show(ring.name).shows(0)
    page.press(*keys)
    assert np.array_equal(page.pixels()[..., 0], expected(frame))


def test_zoomed_in(stream, show):
    """Every pixel is a square of equal pixels; the server sends only the part that is seen."""
    frame = GENERATOR.integers(0, 256, (900, 1600)).astype("u1")
    ring, _ = stream(frame)
    page = show(ring.name).shows(0)
    page.view("zoomTo(8)")
    page.wait("shmring.panels[0].last.region[1] < 900 && shmring.panels[0].last.step[0] === 1")
    (a, _, _, d, e, f), shown = page.view("viewport.toPanel"), page.canvas()
    height, width, _ = shown.shape
    assert (a, d) == (8, 8)
    x = ((np.arange(width) + 0.5 - e) // 8).astype(int)
    y = ((np.arange(height) + 0.5 - f) // 8).astype(int)
    assert np.array_equal(shown[..., 0], frame[np.ix_(y, x)])


def test_a_tiny_picture_can_be_enlarged(stream, show):
    """One that fits the panel at a larger scale than pictures otherwise have."""
    ring, _ = stream(np.zeros((2, 2), "u1"))
    page = show(ring.name).shows(0)
    scale = page.view("viewport.scaleNow")
    assert scale > 64
    page.press("+")
    assert page.view("viewport.scaleNow") == pytest.approx(1.5 * scale)
    page.press("-")
    page.press("-")
    assert page.view("viewport.scaleNow") == pytest.approx(scale / 1.5)


def test_larger_than_a_texture(stream, show):
    """Parts beside each other, where a frame is larger than one texture may be."""
    frame = grid(0, 255, "u1")
    ring, _ = stream(frame)
    page = show(ring.name).shows(0)
    page.run(
        """() => {
            const { view } = shmring.panels[0];
            Object.assign(view.picture, { largest: 16, layout: null });
            view.picture.load(view.frame.values, view.frame.header.shape);
        }"""
    )
    assert page.view("picture.tiles.length") == 2 * 3
    assert np.array_equal(page.pixels()[..., 0], frame)


def test_png_is_the_picture(stream, show, tmp_path):
    image = pytest.importorskip("PIL.Image")
    frame = grid(0, 255, "u1")
    ring, _ = stream(frame)
    page = show(ring.name, map="viridis", view="1").shows(0)
    page.pixels()
    with page.page.expect_download() as download:
        page.press("s")
    download.value.save_as(tmp_path / "shot.png")
    assert download.value.suggested_filename.endswith("-0.png")
    with image.open(tmp_path / "shot.png") as shot:
        saved = np.asarray(shot.convert("RGB"))
    assert np.array_equal(saved, np.rot90(colour_map("viridis")[frame], -1))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_png_of_a_signal_has_the_ground_of_its_theme(stream, open_page, tmp_path, scheme):
    image = pytest.importorskip("PIL.Image")
    ring, _ = stream(np.arange(100, dtype="f4"))
    page = open_page(ring.name, options={"color_scheme": scheme}).shows(0)
    with page.page.expect_download() as download:
        page.press("s")
    download.value.save_as(tmp_path / "shot.png")
    with image.open(tmp_path / "shot.png") as shot:
        assert shot.convert("RGBA").getpixel((1, 1)) == {
            "light": (255, 255, 255, 255), "dark": (0x14, 0x1A, 0x21, 255)
        }[scheme]  # fmt: skip


def test_npy_has_the_number_of_its_frame(stream, show):
    """Which the server sent, while the page has not drawn it yet."""
    ring, out = stream(np.zeros((HEIGHT, WIDTH), "u1"))
    page = show(ring.name).shows(0)
    page.run(
        """() => {
            const [panel] = shmring.panels, draw = panel.draw.bind(panel);
            panel.draw = () => panel.next.header.seq === 0 && draw();
        }"""
    )
    out.put(np.ones((HEIGHT, WIDTH), "u1"))
    page.wait("shmring.panels[0].next.header.seq === 1")
    with page.page.expect_download() as download:
        page.press("n")
    assert download.value.suggested_filename.endswith("-1.npy")
    assert np.load(download.value.path())[0, 0] == 1


def test_npy_is_the_frame(stream, show, tmp_path):
    frame = grid(-9, 9, "i4")
    ring, _ = stream(frame)
    page = show(ring.name).shows(0)
    with page.page.expect_download() as download:
        page.press("n")
    download.value.save_as(tmp_path / "frame.npy")
    saved = np.load(tmp_path / "frame.npy")
    assert saved.dtype == frame.dtype
    assert np.array_equal(saved, frame)
