"""shmring.attrs: what describe() makes, check() refuses, and read() makes of anybody's attrs."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import shmring
from shmring import attrs

IMAGE = (480, 640)
CAMERA = {
    "axes": ["y", attrs.Axis("x", unit="micrometer", scale=0.65)],
    "frame_rate": 30,
    "color": "gray",
    "unit": "count",
    "range": (0, 4095),
    "clock": "realtime",
    "source": "acA1920-40gm 22334455",
}


def read(shape, dtype="u2", said=None) -> attrs.RingAttrs:
    return attrs.read(SimpleNamespace(shape=shape, dtype=np.dtype(dtype), attrs=said or {}))


def types(found: attrs.RingAttrs) -> list[str]:
    return [axis.type for axis in found.axes]


# ---- the sides of a picture


@pytest.mark.parametrize(
    ("shape", "axes", "sides"),
    [
        ((4, 6), None, (0, 1)),
        ((4, 6), ["y", "x"], (0, 1)),
        ((6, 4), ["x", "y"], (1, 0)),
        ((6, 4), ["column", "row"], (1, 0)),
        ((6, 4), ["width", "height"], (1, 0)),
        ((6, 4), ["x", {"name": "slow", "type": "space"}], (0, 1)),
        ((4, 6, 3), ["y", "x", "c"], (0, 1)),
        ((6, 4, 3), ["x", "y", "c"], (1, 0)),
        ((3, 6, 4), ["c", "x", "y"], (2, 1)),
        ((6, 4, 9), ["x", "y", "z"], (1, 0)),
        ((9, 4, 6), ["z", "y", "x"], (1, 2)),
        ((6, 4), ["x", {"name": "y", "type": "frequency"}], None),
        ((500,), None, None),
    ],
)
def test_which_sides_a_picture_has(shape, axes, sides):
    assert read(shape, said={"axes": axes}).sides == sides


@pytest.mark.parametrize(
    ("shape", "color", "types_found"),
    [
        ((3, 480, 640), "gray", ["", "space", "space"]),
        ((480, 640, 3), "gray", ["", "space", "space"]),
        ((3, 480, 640), "rgb", ["channel", "space", "space"]),
        ((480, 640, 1), "bayer_rggb", ["space", "space", "channel"]),
        ((4, 480, 3), "rgb", ["space", "space", "channel"]),
        ((4, 480, 3), "rgba", ["channel", "space", "space"]),
    ],
)
def test_the_color_says_which_axis_has_the_channels(shape, color, types_found):
    found = read(shape, "u1", {"color": color})
    assert (types(found), found.color, found.problems) == (types_found, color, ())


# ---- describe


def test_what_was_described_is_what_is_read(make):
    ring = make(shape=IMAGE, dtype="u2", attrs={**attrs.describe(**CAMERA), "exposure": 5})
    found = attrs.read(ring)
    assert found == attrs.RingAttrs(
        kind="image",
        axes=(attrs.Axis("y", "space"), attrs.Axis("x", "space", "micrometer", 0.65)),
        color="gray",
        frame_rate=30.0,
        unit="count",
        range=(0, 4095),
        clock="realtime",
        source="acA1920-40gm 22334455",
    )
    assert ring.attrs["exposure"] == 5
    (listed,) = [one for one in shmring.rings() if one.name == ring.name]
    assert attrs.read(listed) == found
    attrs.check(ring.attrs, ring.shape, ring.dtype)


def test_describe_makes_what_json_can_hold():
    made = attrs.describe(
        axes=(axis for axis in [{"name": "time", "scale": np.float32(0.5)}, "channel"]),
        frame_rate=np.float64(3),
        range=np.array([0, 7], "u1"),
    )
    assert json.loads(json.dumps(made)) == {
        "axes": [{"name": "time", "type": "time", "scale": 0.5}, {"name": "channel", "type": "channel"}],
        "frame_rate": 3.0,
        "range": [0, 7],
    }


def test_describe_leaves_out_what_is_not_said():
    assert attrs.describe() == {}
    assert attrs.describe(axes=[]) == {"axes": []}
    assert attrs.Axis("spectrum").as_dict() == {"name": "spectrum"}
    full = attrs.Axis("lead", "channel", "mV", 2.0, ("I", "II"))
    assert full.as_dict() == {
        "name": "lead", "type": "channel", "unit": "mV", "scale": 2.0, "labels": ["I", "II"]
    }  # fmt: skip


def test_numpy_s_own_numbers_as_scale_and_range_of_an_axis():
    made = attrs.describe(axes=[attrs.Axis("x", scale=np.float32(2))], range=(np.int64(0), np.uint8(5)))
    assert json.dumps(made) == '{"axes": [{"name": "x", "type": "space", "scale": 2.0}], "range": [0, 5]}'


# ---- mistakes

MISTAKES = {
    "no list": ({"axes": "yx"}, "axes must be a list with one entry for each axis of a frame, not 'yx'"),
    "too few": ({"axes": ["y"]}, r"axes lists 1 for frames of shape \(480, 640\), which have 2"),
    "twice": ({"axes": ["y", "y"]}, "two axes have the name 'y'"),
    "a number": ({"axes": ["y", 3]}, r"axes\[1\] must be a name or a mapping with name, .*, not 3"),
    "no name": ({"axes": ["y", {"unit": "m"}]}, r"axes\[1\] has no name: {'unit': 'm'}"),
    "empty name": ({"axes": ["y", ""]}, r"axes\[1\] has no name"),
    "control characters": ({"axes": ["y", "\x1b[31m"]}, r"axes\[1\] has no name: {'name': '\\x1b\[31m'}"),
    "type": ({"axes": ["y", {"name": "x", "type": 3}]}, "type of axis 'x' must be a word .*, not 3"),
    "short unit": ({"axes": ["y", {"name": "x", "unit": "um"}]}, "axis 'x': write 'micrometer', not 'um'"),
    "no unit": ({"axes": ["y", {"name": "x", "unit": 5}]}, "unit of axis 'x' must be a word like"),
    "scale": ({"axes": ["y", {"name": "x", "scale": 0}]}, "axis 'x' must be a number above 0, not 0"),
    "scale in words": ({"axes": ["y", {"name": "x", "scale": "1"}]}, "scale .* must be a number above 0"),
    "labels": ({"axes": ["y", {"name": "x", "labels": "ab"}]}, "labels of axis 'x' must be a list of names"),
    "too few labels": ({"axes": ["y", {"name": "x", "labels": ["a"]}]}, "'x' has 1 label for its 640"),
    "rate": ({"frame_rate": -1}, "frame_rate must be a number above 0, not -1"),
    "rate as a flag": ({"frame_rate": True}, "frame_rate must be a number above 0, not True"),
    "unknown color": ({"color": "RGB"}, "color must be one of 'gray', 'rgb', .*'bayer_gbrg', not 'RGB'"),
    "color of other frames": ({"color": "bgr"}, r"'bgr' needs .* a channel axis of 3, not of \(480, 640\)"),
    "unit": ({"unit": ["V"]}, r"unit must be a str, not \['V'\]"),
    "range backwards": ({"range": [5, 0]}, r"range must be the lowest and the highest value, not \[5, 0\]"),
    "half a range": ({"range": [5]}, "range must be the lowest and the highest value"),
    "range of other frames": ({"range": [0, 1 << 16]}, r"range \[0, 65536\] is more than a uint16 can hold"),
    "clock": ({"clock": "utc"}, "clock must be one of 'monotonic', 'realtime', 'device', not 'utc'"),
    "source": ({"source": ""}, "source must be a str, not ''"),
    "no mapping": ([], r"attrs must be a mapping, not \[\]"),
}  # fmt: skip


@pytest.mark.parametrize(("said", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_named_and_break_no_reader(said, message):
    with pytest.raises(ValueError, match=message):
        attrs.check(said, IMAGE, "u2")
    found = attrs.read(SimpleNamespace(shape=IMAGE, dtype=np.dtype("u2"), attrs=said))
    assert len(found.problems) == 1
    assert (found.kind, found.color, types(found)) == ("image", "gray", ["space", "space"])


@pytest.mark.parametrize("first", [{"name": "wavelength", "type": "spectral"}, "time"])
def test_a_color_needs_the_two_sides_of_a_picture(first):
    said = {"axes": [first, "x"], "color": "gray"}
    with pytest.raises(ValueError, match="color 'gray' needs two axes of type 'space'"):
        attrs.check(said, IMAGE, "u2")
    found = read(IMAGE, "u2", said)
    assert (found.kind, found.color, len(found.problems)) == ("signal", None, 1)


@pytest.mark.parametrize("labels", [("left", "right"), ["left", "right"], np.array(["left", "right"])])
def test_labels_are_any_sequence_of_names(labels):
    said = attrs.describe(axes=[attrs.Axis("channel", labels=labels)])
    assert said["axes"][0]["labels"] == ["left", "right"]
    json.dumps(said)


def test_one_name_is_no_list_of_labels():
    with pytest.raises(ValueError, match="labels of axis 'channel' must be a list of names, not 'left'"):
        attrs.describe(axes=[attrs.Axis("channel", labels="left")])


def test_all_mistakes_are_in_one_message():
    with pytest.raises(ValueError, match=r"frame_rate must .*; unit must .*; source must"):
        attrs.describe(frame_rate=0, unit=3, source=4)


def test_describe_knows_its_own_keys_only():
    with pytest.raises(TypeError, match="colour"):
        attrs.describe(colour="rgb")


def test_a_wrong_part_leaves_the_rest_as_it_is():
    said = {
        "axes": [{"name": "y", "scale": -1}, {"name": "x", "scale": 2, "unit": "mm"}],
        "unit": "V",
        "range": 3,
    }
    found = read(IMAGE, "u2", said)
    assert found.axes == (attrs.Axis("y", "space"), attrs.Axis("x", "space", "millimeter", 2.0))
    assert (found.unit, found.range, len(found.problems)) == ("V", None, 3)


ODD = st.sampled_from(
    [None, True, 0, -1, 1.5, float("nan"), float("inf"), 10**400, "", "x", "y", "\udc80", "\x1b", "space",
     "um", "rgb", "gray", "bayer_rggb", [], ["a"], [0, 1], ["y", "x", "c"], [[], 2], {}, {"name": "y"}]
)  # fmt: skip
AXIS = ODD | st.dictionaries(st.sampled_from(["name", "type", "unit", "scale", "labels"]), ODD, max_size=4)


@given(
    st.dictionaries(st.sampled_from([*attrs.KEYS, "axes"]), ODD, max_size=4),
    st.none() | st.lists(AXIS, max_size=4),
    st.lists(st.sampled_from([1, 2, 3, 4, 40]), max_size=5).map(tuple),
    st.sampled_from(["?", "u1", ">i2", "f2", "F", "S3", "M8[ns]", "u1,f4"]),
)
@example({"range": [10**400, 1], "frame_rate": 10**400}, None, (3,), "u1")
@example({"axes": [{"name": "\udc80", "type": "\udc80", "unit": "\0"}]}, None, (3,), "u1")
def test_no_attrs_break_a_reader(said, axes, shape, dtype):
    said = {**said, "axes": axes} if axes else said
    found = read(shape, dtype, said)
    assert len(found.axes) == len(shape)
    assert len({axis.name for axis in found.axes}) == len(shape)
    assert found.kind in ("image", "signal", "table")
    assert (found.color is None) == (found.kind != "image")
    assert found.sides is not None or found.kind != "image"
    assert all(problem.isprintable() for problem in found.problems)


# ---- guesses


@pytest.mark.parametrize(
    ("shape", "kind", "color", "axes"),
    [
        ((), "signal", None, ""),
        ((1024,), "signal", None, "t"),
        ((8, 4096), "signal", None, "ct"),
        ((4096, 2), "signal", None, "tc"),
        ((480, 640), "image", "gray", "yx"),
        ((16, 16), "image", "gray", "yx"),
        ((480, 640, 1), "image", "gray", "yxc"),
        ((480, 640, 3), "image", "rgb", "yxc"),
        ((480, 640, 4), "image", "rgba", "yxc"),
        ((3, 480, 640), "image", "rgb", "cyx"),
        ((10, 64, 64), "image", "gray", "-yx"),
        ((5, 480, 640, 3), "image", "rgb", "-yxc"),
        ((5, 3, 480, 640), "image", "rgb", "-cyx"),
    ],
)  # fmt: skip
def test_guesses_by_shape(shape, kind, color, axes):
    found = read(shape)
    names = {"t": "sample", "c": "channel", "y": "y", "x": "x"}
    assert (found.kind, found.color) == (kind, color)
    assert [axis.name for axis in found.axes] == [
        names.get(one, f"axis_{n + 1}") for n, one in enumerate(axes)
    ]
    assert found.guessed == {"kind", "axes", "clock"} | ({"color"} if color else set())
    assert found.problems == ()


@pytest.mark.parametrize("dtype", ["S3", "M8[ns]", "u1,f4", "V5"])
def test_what_is_no_number_is_a_table(dtype):
    found = read(IMAGE, dtype)
    assert (found.kind, found.color, found.guessed) == ("table", None, {"axes", "clock"})


@pytest.mark.parametrize(
    ("shape", "said", "kind", "axes"),
    [
        ((8, 4096), {"axes": ["row", "column"]}, "image", ["space", "space"]),
        ((8, 4096), {"color": "gray"}, "image", ["space", "space"]),
        ((480, 640), {"axes": ["c", "t"]}, "signal", ["channel", "time"]),
        ((64, 64), {"axes": ["lead", "time"]}, "signal", ["channel", "time"]),
        ((64, 64), {"axes": ["channel", "bin"]}, "signal", ["channel", "time"]),
        ((480, 640, 3), {"axes": ["row", "column", "colour"]}, "image", ["space", "space", "channel"]),
        ((480, 640, 3), {"axes": ["a", "b", "c"], "color": "bgr"}, "image", ["space", "space", "channel"]),
        ((480, 640, 3), {"axes": ["y", "x", "phase"]}, "image", ["space", "space", "channel"]),
        ((3, 4, 4), {"axes": ["z", "y", "x"]}, "image", ["space", "space", "space"]),
        ((64, 7), {"axes": [{"name": "spectrum", "type": "energy"}, "x"]}, "signal", ["energy", "space"]),
    ],
)
def test_what_is_said_goes_before_what_would_be_guessed(shape, said, kind, axes):
    found = read(shape, "f4", said)
    assert (found.kind, types(found)) == (kind, axes)
    assert found.problems == ()


def test_a_table_of_what_was_guessed():
    assert read(IMAGE, "u2", attrs.describe(**CAMERA)).guessed == frozenset()
    assert read(IMAGE, "u2", {"axes": ["a", "b"], "clock": "device"}).guessed == {"kind", "color"}


def test_the_axis_of_a_type():
    found = read((480, 640, 3))
    assert (found.axis_of("space"), found.axis_of("channel"), found.axis_of("time")) == (0, 2, None)
