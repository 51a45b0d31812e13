"""Pictures over the WebSocket: every number that a browser draws is the number in the ring."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("starlette", reason="needs the extra view")

import shmring
from shmring import attrs
from shmring.view._images import picture_of
from shmring.view._kinds import layout_of
from shmring.view._wants import Want

NUMBERS = np.arange(48)

# dtype of the ring, dtype on the wire, whether the numbers are the same ones
DTYPES = [
    ("u1", "|u1", True), ("?", "|u1", True), ("u2", "<u2", True), (">u2", "<u2", True),
    ("i1", "<f4", True), ("i2", "<f4", True), (">i2", "<f4", True), ("i4", "<f4", True), ("u4", "<f4", True),
    ("f2", "<f4", True), ("f4", "<f4", True), (">f4", "<f4", True), ("f8", "<f4", False),
    ("longdouble", "<f4", False), ("c8", "<f4", False), ("c16", "<f4", False),
]  # fmt: skip


@pytest.fixture
def shown(serve, make):
    """Publishes a frame; what a page gets of it."""

    def show(array, attrs=None, **want):
        ring = make(shape=array.shape, dtype=array.dtype, attrs=attrs)
        with ring.producer() as out:
            out.put(array)
            return serve([ring.name]).page(ring.name, **{"width": 4096, **want}).frame()

    return show


def drawn(array, said=None, channel=None):
    """The header and the payload of a picture, without the way to a page."""
    ring = SimpleNamespace(shape=array.shape, dtype=array.dtype, attrs=said or {})
    picture = picture_of(array, layout_of(ring), Want(width=4096, height=4096, channel=channel))
    return picture.header, picture.payload


@pytest.mark.parametrize(("dtype", "sent", "exact"), DTYPES)
def test_numbers_arrive_as_they_are(shown, dtype, sent, exact):
    array = (NUMBERS - (20 if np.dtype(dtype).kind in "if" else 0)).reshape(6, 8).astype(dtype)
    header, payload = shown(array, attrs.describe(axes=["y", "x"]))
    assert (header["dtype"], header["exact"]) == (sent, exact)
    right = np.abs(array) if array.dtype.kind == "c" else array
    np.testing.assert_array_equal(payload, right.astype(sent))
    assert (header["step"], header["region"], header["full"]) == ([1, 1], [0, 6, 0, 8], [6, 8])
    assert header["levels"] == [float(right.min()), float(right.max())]
    assert sum(header["histogram"]) == 48


def test_whole_numbers_that_do_not_fit_are_marked(shown):
    header, _ = shown(np.full((20, 20), 2**24 + 1, "u4"))
    assert not header["exact"]


@pytest.mark.parametrize("dtype", ["f8", ">f8", "c16", "longdouble", "f4"])
@pytest.mark.parametrize("unit", [1e300, 1e39, 1e-39, 1e-300, 5e-324])
def test_numbers_that_no_float32_holds_are_scaled(dtype, unit):
    """The levels are those of the frame; what is drawn is divided by a power of two, so that it shows."""
    unit = min(max(unit, 2e-44), 3e35) if dtype == "f4" else unit
    array = (np.linspace(1, 99, 400).round().reshape(20, 20) * unit).astype(dtype)
    header, payload = drawn(array)
    right = np.abs(array).astype("f8")
    assert header["levels"] == [right.min(), right.max()]
    assert header["levels"][0] <= header["percentiles"][0] <= header["percentiles"][1] <= header["levels"][1]
    assert header["scale"] > 1e30 or header["scale"] < 1e-30
    assert np.frexp(header["scale"])[0] == 0.5
    np.testing.assert_array_equal(payload, (right / header["scale"]).astype("f4"))
    assert len(np.unique(payload)) == len(np.unique(right))
    assert sum(header["histogram"]) == 400
    assert sum(map(bool, header["histogram"])) > 20


def test_the_largest_numbers_of_both_signs(shown):
    most = np.finfo("f8").max
    header, payload = shown(np.array([[-most, 0.0], [0.0, most]]).repeat(10, 0).repeat(10, 1))
    assert header["levels"] == [-most, most]
    assert header["percentiles"] == [-most, most]
    assert [header["histogram"][place] for place in (0, 127, 255)] == [100, 200, 100]
    assert np.unique(payload).tolist() == [-8, 0, 8]
    assert header["scale"] == pytest.approx(most / 8)


def test_a_few_hot_pixels_do_not_hide_the_others():
    array = np.arange(400.0).reshape(20, 20)
    array[3, 4] = 1e300
    header, payload = drawn(array)
    assert header["scale"] == 1
    assert header["levels"] == [0, 1e300]
    assert payload[3, 4] == np.inf
    np.testing.assert_array_equal(payload[4:], array[4:])


def test_nan_and_infinity_are_left_out_of_the_levels(shown):
    array = np.linspace(-1, 1, 400, dtype="f4").reshape(20, 20)
    array[0, :3] = np.nan, np.inf, -np.inf
    header, payload = shown(array)
    np.testing.assert_array_equal(payload, array)
    assert header["levels"] == [float(array[0, 3]), 1.0]
    assert sum(header["histogram"]) == 397


def test_nothing_finite_has_no_levels(shown):
    header, _ = shown(np.full((20, 20), np.nan, "f4"))
    assert [header[key] for key in ("levels", "percentiles", "histogram", "range")] == [None] * 4


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("value", [0, 7])
def test_a_flat_picture_has_a_histogram(shown, dtype, value):
    header, _ = shown(np.full((20, 20), value, dtype))
    assert header["levels"] == [value, value]
    assert sum(header["histogram"]) == 400


@pytest.mark.parametrize("values", [1, 2, 30, 256])
def test_percentiles_of_bytes_are_those_of_numpy(shown, values):
    array = np.random.default_rng(values).integers(0, values, (21, 19)).astype("u1")
    header, _ = shown(array, attrs.describe(axes=["y", "x"]))
    assert header["percentiles"] == pytest.approx(np.percentile(array, (1, 99)))


@pytest.mark.parametrize("order", ["rgb", "bgr", "rgba", "bgra"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_colours_keep_their_order(shown, order, dtype):
    array = np.arange(20 * 20 * len(order)).reshape(20, 20, len(order)).astype(dtype)
    header, payload = shown(array, attrs.describe(color=order))
    assert header["colour"] == order
    np.testing.assert_array_equal(payload, array)


def test_planes_of_colours_become_pixels(shown):
    array = np.arange(3 * 20 * 24).reshape(3, 20, 24).astype("u2")
    header, payload = shown(array, attrs.describe(axes=["channel", "y", "x"]))
    assert header["colour"] == "rgb"
    np.testing.assert_array_equal(payload, np.moveaxis(array, 0, 2))


@pytest.mark.parametrize(
    ("axes", "upright"),
    [
        ("x y", (1, 0)), ("column row", (1, 0)), ("width height c", (1, 0, 2)), ("c x y", (2, 1, 0)),
        ("y c x", (0, 2, 1)), ("x c y", (2, 0, 1)), ("row column", (0, 1)),
    ],
)  # fmt: skip
def test_x_runs_to_the_right_and_y_down(axes, upright):
    """In whatever order the shape has them."""
    axes = axes.split()
    array = np.arange(np.prod(sizes := [3 if axis == "c" else 20 + len(axis) for axis in axes]), dtype="u2")
    array = array.reshape(sizes)
    header, payload = drawn(array, attrs.describe(axes=axes))
    np.testing.assert_array_equal(payload, array.transpose(upright))
    assert header["full"] == list(payload.shape[:2])


@pytest.mark.parametrize("channel", [0, 1, 4, 99])
def test_one_plane_of_a_stack_is_shown(shown, channel):
    array = np.arange(5 * 20 * 24).reshape(5, 20, 24).astype("u2")
    header, payload = shown(array, channel=channel)
    assert header["colour"] == "gray"
    np.testing.assert_array_equal(payload, array[min(channel, 4)])


@pytest.mark.parametrize("axes", ["z c y x", "z y x c", "c z y x"])
def test_every_plane_of_every_channel_can_be_shown(axes):
    """Two planes of five channels, neither of which are colours."""
    axes = axes.split()
    sizes = {"z": 2, "c": 5, "y": 20, "x": 24}
    array = np.arange(4800, dtype="u2").reshape([sizes[axis] for axis in axes])
    said = attrs.describe(axes=[attrs.Axis(axis, "channel" if axis == "c" else "space") for axis in axes])
    firsts = set()
    for channel in range(10):
        _, payload = drawn(array, said, channel=channel)
        assert payload.shape == (20, 24)
        firsts.add(int(payload[0, 0]))
    assert len(firsts) == 10


def test_how_many_pictures_of_colours_a_frame_has_is_said(shown):
    several, _ = shown(np.zeros((2, 5, 20, 30, 3), "u1"), {"color": "rgb"})
    single, _ = shown(np.zeros((20, 30, 3), "u1"))
    assert (several["planes"], single["planes"]) == (10, 1)


def test_the_histogram_of_bool_has_two_bars(shown):
    header, _ = shown(np.eye(20, dtype="?"))
    assert (header["histogram"], header["range"], header["levels"]) == ([380, 20], [0, 1], [0, 1])


def test_one_channel_of_a_colour_picture_is_shown(shown):
    array = np.arange(20 * 24 * 3).reshape(20, 24, 3).astype("u2")
    header, payload = shown(array, channel=1)
    assert header["colour"] == "gray"
    np.testing.assert_array_equal(payload, array[:, :, 1])


def test_a_picture_is_thinned_out_to_what_the_panel_shows(shown):
    array = np.arange(100 * 230).reshape(100, 230).astype("u2")
    header, payload = shown(array, width=100, height=30)
    assert header["step"] == [3, 2]
    np.testing.assert_array_equal(payload, array[::3, ::2])


def test_a_panel_that_is_turned_has_its_sides_exchanged(shown):
    array = np.arange(100 * 230).reshape(100, 230).astype("u2")
    assert shown(array, width=30, height=100, rotate=90)[0]["step"] == [3, 2]


def test_a_region_has_its_own_step(shown):
    array = np.arange(100 * 230).reshape(100, 230).astype("u2")
    header, payload = shown(array, width=10, height=10, region=[5, 25, 100, 130])
    assert (header["region"], header["step"]) == ([5, 25, 100, 130], [2, 3])
    np.testing.assert_array_equal(payload, array[5:25:2, 100:130:3])


@pytest.mark.parametrize("region", [[90, 999, 200, 999], [5000, 6000, 5000, 6000], [0, 1, 0, 1]])
def test_a_region_beyond_the_picture_is_cut(shown, region):
    array = np.arange(100 * 230).reshape(100, 230).astype("u2")
    header, payload = shown(array, region=region)
    y0, y1, x0, x1 = header["region"]
    assert 0 <= y0 < y1 <= 100
    assert 0 <= x0 < x1 <= 230
    np.testing.assert_array_equal(payload, array[y0:y1, x0:x1])


@pytest.mark.parametrize("size", [(40, 48), (41, 49)])
@pytest.mark.parametrize("panel", [(100, 100), (16, 12), (3, 3)])
def test_bayer_patterns_are_thinned_out_by_whole_cells(shown, size, panel):
    array = np.arange(size[0] * size[1]).reshape(size).astype("u2")
    region = [3, size[0], 5, size[1]]
    said = attrs.describe(color="bayer_rggb")
    header, payload = shown(array, said, width=panel[0], height=panel[1], region=region)
    n, again = header["step"]
    y0, _, x0, _ = header["region"]
    assert n == again
    assert (y0 % 2, x0 % 2, header["colour"]) == (0, 0, "bayer_rggb")
    for y, x in np.ndindex(payload.shape):
        assert payload[y, x] == array[y0 + 2 * n * (y // 2) + y % 2, x0 + 2 * n * (x // 2) + x % 2]


@pytest.mark.parametrize("axes", ["zyx", "cyx", "yxc"])
@pytest.mark.parametrize("width", [80, 20])
def test_of_several_bayer_patterns_one_is_shown(shown, axes, width):
    first = np.arange(60 * 80).reshape(60, 80).astype("u2")
    array = np.stack([first, first + 1, first + 2] if axes == "zyx" else [first], axis=axes.find("c"))
    array = np.moveaxis(array, -1, 0) if axes == "zyx" else array
    said = attrs.describe(axes=[*axes], color="bayer_rggb")
    header, payload = shown(array, said, width=width, height=width)
    step = header["step"][0]
    cells = first.reshape(30, 2, 40, 2)[::step, :, ::step]
    assert header["colour"] == "bayer_rggb"
    np.testing.assert_array_equal(payload, cells.reshape(payload.shape))


def test_the_largest_pictures_are_tiles_of_a_browser(shown):
    header, payload = shown(np.zeros((16, 20000), "u1"), attrs.describe(axes=["y", "x"]), width=32768)
    assert payload.shape == (16, 6667)
    assert header["step"] == [1, 3]


def test_rows_that_are_not_there_are_an_empty_picture(serve, make):
    ring = make(shape=(20, 20), dtype="f4", variable_rows=True)
    page = serve([ring.name]).page(ring.name, width=100)
    with ring.producer() as out:
        for rows in 0, 7:
            out.put(np.zeros((rows, 20), "f4"))
            header, payload = page.frame()
            assert payload.shape == (rows, 20)
            assert (header["levels"] is None) == (rows == 0)


@pytest.mark.parametrize("order", ["gray", "rgb", "bgr"])
def test_jpeg_has_the_values_of_the_frame(shown, order):
    simplejpeg = pytest.importorskip("simplejpeg")
    array = np.full((40, 40, 3), (200, 100, 50), "u1")
    array = array[:, :, 0] if order == "gray" else array
    header, payload = shown(array, attrs.describe(color=order), quality=95)
    assert header["encoding"] == "jpeg"
    decoded = simplejpeg.decode_jpeg(payload, "GRAY" if order == "gray" else "RGB")
    right = array[:, :, None] if order == "gray" else array[:, :, ::-1] if order == "bgr" else array
    assert np.abs(decoded.astype(int) - right).max() <= 3


@pytest.mark.parametrize("array", [np.zeros((20, 20), "u2"), np.zeros((20, 20, 4), "u1")])
def test_what_jpeg_cannot_hold_is_sent_raw(shown, array):
    assert shown(array, quality=50)[0]["encoding"] == "raw"


# ---- the pixels of the frame on show


def test_a_pixel_is_read_from_the_whole_frame(serve, make):
    array = np.arange(100 * 230 * 3).reshape(100, 230, 3).astype("u2")
    ring = make(shape=array.shape, dtype="u2")
    with ring.producer() as out:
        out.put(array)
        page = serve([ring.name]).page(ring.name, width=10, height=10)
        page.frame()
        page.say("pixel", y=33, x=57)
        answer = page.message("pixel")
        assert answer == {"type": "pixel", "seq": 0, "y": 33, "x": 57, "value": array[33, 57].tolist()}
        page.say("pixel", y=100, x=0)
        assert page.message("pixel")["value"] is None


@pytest.mark.parametrize(
    ("dtype", "value", "said"),
    [
        ("f4", np.nan, "nan"), ("f8", -np.inf, "-inf"), ("u8", 2**53 + 1, "9007199254740993"), ("i8", -5, -5),
        ("c8", 1 + 2j, "(1+2j)"), ("?", True, True), (">f4", 0.5, 0.5), ("longdouble", 0.5, 0.5),
    ],
)  # fmt: skip
def test_a_value_that_json_has_not_is_text(serve, make, dtype, value, said):
    ring = make(shape=(20, 20), dtype=dtype)
    with ring.producer() as out:
        out.put(np.full((20, 20), value, dtype))
        page = serve([ring.name]).page(ring.name, width=10)
        page.frame()
        page.say("pixel", y=0, x=0)
        assert page.message("pixel")["value"] == [said]


def test_a_profile_follows_a_line(serve, make):
    array = np.arange(100 * 230).reshape(100, 230).astype("f4")
    array[0, 2] = np.nan
    ring = make(shape=array.shape, dtype="f4")
    with ring.producer() as out:
        out.put(array)
        page = serve([ring.name]).page(ring.name, width=10)
        page.frame()
        page.say("profile", **{"from": [0, 0], "to": [0, 4]})
        answer = page.message("profile")
        assert answer["distance"] == [0, 1, 2, 3, 4]
        assert answer["values"] == [[0, 1, None, 3, 4]]
        page.say("profile", **{"from": [-50, -50], "to": [1e6, 1e6]})
        assert len(page.message("profile")["distance"]) == 4096


def test_a_profile_of_values_beyond_float64(serve, make):
    ring = make(shape=(20, 20), dtype="longdouble")
    with ring.producer() as out:
        out.put(np.full((20, 20), np.longdouble("1e4000")))
        page = serve([ring.name]).page(ring.name, width=10)
        page.frame()
        page.say("profile", **{"from": [0, 0], "to": [0, 1]})
        assert page.message("profile")["values"] == [[None, None]]


def test_a_snapshot_is_the_frame_on_show(serve, make, tmp_path):
    array = np.arange(100 * 230).reshape(100, 230).astype(">u2")
    ring = make(shape=array.shape, dtype=array.dtype)
    served = serve([ring.name])
    with ring.producer() as out:
        out.put(array)
        page = served.page(ring.name, width=10)
        client = page.message("schema")["client"]
        page.frame()
        page.say("pause")
        page.silent()
        out.put(np.zeros_like(array))
        status, headers, body = served.get(f"/snapshot.npy?name={ring.name}&client={client}", served.bearer)
    assert status == 200
    assert headers["content-disposition"].startswith("attachment")
    (tmp_path / "a.npy").write_bytes(body)
    found = np.load(tmp_path / "a.npy")
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


def test_no_snapshot_of_another_page_or_ring(serve, make):
    ring = make(shape=(20, 20), dtype="u1")
    served = serve([ring.name])
    assert served.get(f"/snapshot.npy?name={ring.name}&client=x", served.bearer)[0] == 404
    assert served.get("/snapshot.npy?name=other", served.bearer)[0] == 404
    assert served.get("/snapshot.npy", served.bearer)[0] == 404


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((10, 30, 5), ["y", "x", "lambda"]),
        ((10, 3, 30, 40), ["stack", "channel", "y", "x"]),
        ((100,), ["time"]),
        ((10, 8), ["channel", "time"]),
        ((10, 30), ["y", "x"]),
    ],
)
def test_questions_about_a_frame_without_rows(serve, make, shape, axes):
    ring = make(shape=shape, dtype="f4", variable_rows=True, attrs={"axes": axes})
    with ring.producer() as out:
        out.put(np.empty((0, *shape[1:]), "f4"))
        page = serve([ring.name]).page(ring.name, width=100, mode="image")
        assert 0 in page.frame()[0]["shape"]
        page.say("pixel", y=0, x=0)
        assert page.message("pixel")["value"] is None
        page.say("profile", **{"from": [0, 0], "to": [0, 4]})
        assert page.message("profile")["values"] == []


def test_a_frame_of_the_ring_before_is_not_shown_as_one_of_the_next(serve, name):
    """A picture as a trace, say, to a page that is paused."""
    page = serve([name]).page(name, width=100)
    page.message("end")  # it is missing
    with shmring.Ring.create(name, shape=(20, 30), dtype="u1", slots=4) as ring, ring.producer() as out:
        out.put(np.full((20, 30), 7, "u1"))
        page.frame()
        page.say("pause")
    page.message("end")
    with shmring.Ring.create(name, shape=(30,), dtype="f4", slots=4) as ring, ring.producer() as out:
        while page.message("schema")["kind"] != "signal":
            pass
        page.want(mode="signal")
        page.say("step")
        out.put(np.zeros(30, "f4"))
        assert page.frame()[0]["samples"] == 30


def test_a_paused_page_keeps_its_frame_when_a_ring_of_others_comes(serve, name):
    page = serve([name]).page(name, width=100)
    page.message("end")  # it is missing
    with shmring.Ring.create(name, shape=(20, 30), dtype="u1", slots=4) as ring, ring.producer() as out:
        out.put(np.full((20, 30), 7, "u1"))
        assert page.frame()[1].shape == (20, 30)
        page.say("pause")
    assert page.message("end")["state"] == "closed"
    said = attrs.describe(axes=["z", "channel", "y", "x"])
    other = {"shape": (2, 3, 20, 30), "dtype": "f4", "slots": 4, "attrs": said}
    with shmring.Ring.create(name, **other) as ring, ring.producer() as out:
        page.message("replaced")
        out.put(np.zeros((2, 3, 20, 30), "f4"))
        page.say("pixel", y=1, x=1)
        assert page.message("pixel")["value"] == [7]
        page.say("profile", **{"from": [0, 0], "to": [0, 2]})
        assert page.message("profile")["values"] == [[7, 7, 7]]
        page.want(width=10, region=[0, 5, 0, 5])
        assert (page.frame()[1] == 7).all()


def test_a_snapshot_of_records_in_any_language(serve, make, tmp_path):
    array = np.ones(3, [("温度", "f4"), ("n", "u1")])
    ring = make(shape=array.shape, dtype=array.dtype)
    served = serve([ring.name])
    with ring.producer() as out:
        out.put(array)
        page = served.page(ring.name, width=10)
        client = page.message("schema")["client"]
        page.frame()
        _, _, body = served.get(f"/snapshot.npy?name={ring.name}&client={client}", served.bearer)
    (tmp_path / "a.npy").write_bytes(body)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), array)
