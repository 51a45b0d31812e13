"""Signals, tables and odd frames over the WebSocket."""

import time

import numpy as np
import pytest

pytest.importorskip("starlette", reason="needs the extra view")

from shmring import attrs
from shmring.view._kinds import Layout
from shmring.view._signals import Trace
from shmring.view._wants import Want
from support.viewing import traces


@pytest.fixture
def shown(serve, make):
    """Publishes frames; what a page gets once it has all."""

    def show(frames, attrs=None, stamps=None, ring=None, **want):
        first = np.asarray(frames[0])
        ring = ring or make(shape=first.shape, dtype=first.dtype, attrs=attrs, slots=8)
        page = serve([ring.name]).page(ring.name, **{"width": 4096, **want})
        with ring.producer() as out:
            for number, frame in enumerate(frames):
                out.put(frame, **({} if stamps is None else {"timestamp_ns": stamps[number]}))
                while (found := page.frame())[0]["seq"] < number:
                    pass
            return found

    return show


# ---- signals


def test_a_trace_has_every_sample_of_every_frame(shown):
    frames = [np.arange(100 * n, 100 * (n + 1), dtype="f4") for n in range(5)]
    header, payload = shown(frames, attrs.describe(axes=["time"], unit="V"), width=1000)
    columns, _ = traces(header, payload)
    assert (header["channels"], header["points"], header["samples"], header["unit"]) == (1, 500, 500, "V")
    np.testing.assert_array_equal(columns[0, 0], np.arange(500))
    np.testing.assert_array_equal(columns[0, 1], np.arange(500))
    assert (header["x_unit"], header["x0"], header["dx"]) == ("samples", -500, 1)


@pytest.mark.parametrize(
    ("dtype", "sent"),
    [
        ("?", "<f4"), ("u1", "<f4"), (">i2", "<f4"), ("f2", "<f4"), ("f4", "<f4"), ("c8", "<f4"),
        ("u4", "<f8"), ("i8", "<f8"), ("f8", "<f8"), (">f8", "<f8"), ("c16", "<f8"), ("longdouble", "<f8"),
    ],
)  # fmt: skip
def test_samples_are_sent_as_they_are(dtype, sent):
    """Seconds since 1970, say, which float32 rounds to two minutes."""
    frame = np.arange(100).astype(dtype)
    if sent == "<f8":
        frame += np.array(1_700_000_000, dtype)
    trace = Trace(frame.shape, frame.dtype, Layout("signal"))
    trace.add(frame, 0, 0)
    picture = trace.view(Want(width=1000, height=100), None)
    assert (picture.header["dtype"], picture.payload.dtype.str) == (sent, sent)
    columns, _ = traces(picture.header, picture.payload)
    np.testing.assert_array_equal(columns[0, 0], frame.real)


def test_columns_have_the_lowest_and_the_highest_of_their_samples(shown):
    frames = [np.arange(1000, dtype="f8"), np.arange(1000, 2000, dtype="f8")]
    header, payload = shown(frames, width=100)
    columns, _ = traces(header, payload)
    assert header["points"] == 100
    np.testing.assert_array_equal(columns[0, 0], np.arange(0, 2000, 20))
    np.testing.assert_array_equal(columns[0, 1], np.arange(19, 2000, 20))
    assert (header["x0"], header["dx"]) == (-2000, 20)


@pytest.mark.parametrize("first", [True, False])
def test_channels_are_traces(shown, first):
    array = np.arange(3 * 200, dtype="i2").reshape(3, 200)
    axes = ["channel", "time"] if first else ["time", "channel"]
    sent = array if first else np.ascontiguousarray(array.T)
    header, payload = shown([sent], attrs.describe(axes=axes), width=500)
    np.testing.assert_array_equal(traces(header, payload)[0][:, 0], array)


def test_seconds_are_known_by_the_time_axis(shown):
    said = attrs.describe(axes=[attrs.Axis("time", unit="millisecond", scale=0.5)])
    header, _ = shown([np.zeros(1000, "f4")] * 3, said, width=5000, seconds=0.25)
    assert (header["x_unit"], header["samples"]) == ("s", 500)
    assert (header["x0"], header["dx"]) == (-0.25, 0.0005)


def test_seconds_are_known_by_the_frame_rate(shown):
    header, _ = shown([np.zeros(100, "f4")] * 3, attrs.describe(frame_rate=10), width=5000)
    assert (header["x_unit"], header["dx"]) == ("s", 0.001)


@pytest.mark.parametrize(
    "said",
    [
        {"axes": [{"name": "time", "unit": "picosecond", "scale": 5e-324}]},
        {"axes": [{"name": "time", "unit": "second", "scale": 1e-320}]},
        {"axes": [{"name": "time", "unit": "hour", "scale": 1e308}]},
        {"frame_rate": 1e308},
        {"frame_rate": 5e-324},
    ],
)
def test_rates_beyond_what_numbers_hold_are_no_obstacle(serve, make, said):
    ring = make(shape=(100,), dtype="f4", attrs=said)
    served = serve([ring.name])
    assert [one["name"] for one in served.rings().message("rings")["rings"]] == [ring.name]
    page = served.page(ring.name, width=100)
    with ring.producer() as out:
        out.put(np.ones(100, "f4"))
        assert page.frame()[0]["samples"] == 100


def test_a_frame_of_channels_is_one_sample_of_each(shown):
    said = attrs.describe(axes=[attrs.Axis("channel", labels=tuple("abcdefgh"))], frame_rate=100)
    header, payload = shown([np.arange(8, dtype="f4") + 10 * number for number in range(8)], said)
    assert (header["channels"], header["samples"], header["dx"]) == (8, 8, 0.01)
    np.testing.assert_array_equal(traces(header, payload)[0][3, 0], 3 + 10 * np.arange(8))


def test_channels_of_blocks_are_traces(shown):
    said = attrs.describe(axes=["channel", "block", "time"])
    block = np.arange(24, dtype="f4").reshape(2, 3, 4)
    header, payload = shown([block], said)
    assert (header["channels"], header["samples"]) == (2, 12)
    np.testing.assert_array_equal(traces(header, payload)[0][:, 0], block.reshape(2, 12))


def test_the_span_follows_the_timestamps_where_no_rate_is_known(shown):
    frames = [np.zeros(100, "f4")] * 4
    header, _ = shown(frames, width=5000, seconds=0.2, stamps=[n * 100_000_000 for n in range(4)])
    assert (header["x_unit"], header["samples"]) == ("samples", 200)


def test_a_trace_begins_with_the_first_frame_that_was_seen(serve, make):
    """What came before has no gap: a spectrum would wait until it has left the picture."""
    ring = make(shape=(16,), dtype="f4", slots=8)
    with ring.producer() as out:
        for _ in range(100):
            out.put(np.ones(16, "f4"))
        header, payload = serve([ring.name]).page(ring.name, width=4096).frame()
    assert (header["seq"], header["samples"]) == (99, 16)
    assert header["fft_points"] == 9
    assert np.isfinite(payload).all()


def test_lost_frames_are_a_gap(serve, make):
    ring = make(shape=(4,), dtype="f4", slots=4, attrs=attrs.describe(axes=["time"]))
    page = serve([ring.name]).page(ring.name, width=1000)
    with ring.producer(on_full="drop") as out, ring.consumer() as slow:
        held = ring.slots
        for number in range(held):
            out.put(np.full(4, number, "f4"))
            page.frame()
        out.put(np.full(4, 99, "f4"))  # dropped
        slow.get().release()
        for _ in range(held - 1):
            slow.get().release()
        out.put(np.full(4, 7, "f4"))
        while (found := page.frame())[0]["seq"] < held + 1:
            pass
    columns, _ = traces(*found)
    assert np.isnan(columns[0, 0][-8:-4]).all()
    assert (columns[0, 0][-4:] == 7).all()


def test_the_spectrum_of_a_tone(shown):
    rate, tone = 1000.0, 125.0
    samples = np.sin(2 * np.pi * tone * np.arange(1024) / rate).astype("f4")
    said = attrs.describe(axes=[attrs.Axis("time", unit="second", scale=1 / rate)])
    header, payload = shown([samples], said, width=100)
    spectrum = traces(header, payload)[1][0]
    assert header["fft_points"] == 513
    assert header["df"] * np.argmax(spectrum) == tone
    assert abs(spectrum.max()) < 0.1  # dB


def test_the_spectrum_of_complex_samples_has_two_sides(shown):
    rate = 1000.0
    samples = np.exp(-2j * np.pi * 125 * np.arange(1024) / rate).astype("c8")
    said = attrs.describe(axes=[attrs.Axis("time", unit="second", scale=1 / rate)])
    header, payload = shown([samples], said, width=2000)
    columns, spectrum = traces(header, payload)
    assert (header["complex"], header["channels"], spectrum.shape) == (True, 2, (1, 1024))
    np.testing.assert_array_equal(columns[:, 0], [samples.real, samples.imag])
    assert header["fft_x0"] + header["df"] * np.argmax(spectrum[0]) == -125


@pytest.mark.parametrize("count", [1000, 1001])
@pytest.mark.parametrize("dtype", ["f4", "c8"])
def test_the_spectrum_of_a_constant_is_its_level(shown, dtype, count):
    header, payload = shown([np.full(count, 10, dtype)], attrs.describe(frame_rate=1), width=100)
    spectrum = traces(header, payload)[1][0]
    at = round(-header["fft_x0"] / header["df"])
    assert spectrum[at] == pytest.approx(20, abs=0.1)  # dB


@pytest.mark.parametrize("hole", [np.nan, np.inf])
def test_a_channel_with_a_hole_leaves_the_others_their_spectrum(shown, hole):
    samples = np.sin(2 * np.pi * np.arange(1024) / [[8], [16], [32]]).astype("f4")
    samples[1, 700] = hole
    header, payload = shown([samples], attrs.describe(axes=["channel", "time"]), width=100)
    spectra = traces(header, payload)[1]
    assert not np.isfinite(spectra[1]).any()
    assert [np.argmax(spectra[0]), np.argmax(spectra[2])] == [128, 32]


def test_frames_whose_samples_are_in_the_trace_are_not_skipped(serve, make):
    ring = make(shape=(10,), dtype="f4", slots=8)
    with ring.producer() as out:
        page = serve([ring.name]).page(ring.name, width=100)
        out.put(np.zeros(10, "f4"))
        page.frame()
        skipped, seq = [], 0
        for number in range(1, 31):
            out.put(np.full(10, number, "f4"))
        while seq < 30:
            header, _ = page.frame()
            seq = header["seq"]
            skipped.append(header["skipped"])
    assert sum(skipped) == 0


def test_how_many_channels_there_are_is_said(shown):
    header, _ = shown([np.zeros((4, 100), "f4")], attrs.describe(axes=["time", "channel"]))
    assert (header["channels"], header["all_channels"]) == (32, 100)


def test_values_without_a_spectrum(shown):
    header, payload = shown([np.array([1, np.nan, np.inf, 2], "f4")], width=100)
    assert header["fft_points"] == 0
    np.testing.assert_array_equal(traces(header, payload)[0][0, 0], np.array([1, np.nan, np.inf, 2], "f4"))


@pytest.mark.parametrize("dtype", ["f8", ">i4", "?", "u8", "longdouble"])
def test_single_numbers_are_a_trace_over_the_frames(shown, dtype):
    frames = [np.asarray(n % 2, dtype) for n in range(5)]
    header, payload = shown(frames, width=100)
    np.testing.assert_array_equal(traces(header, payload)[0][0, 0], [0, 1, 0, 1, 0])


def test_rows_that_are_not_there_are_a_gap(serve, make):
    ring = make(shape=(10,), dtype="f4", variable_rows=True)
    page = serve([ring.name]).page(ring.name, width=100)
    with ring.producer() as out:
        for rows in (10, 3, 0):
            out.put(np.ones(rows, "f4"))
            found = page.frame()
    values = traces(*found)[0][0, 0]
    assert np.isfinite(values).tolist() == [True] * 13 + [False] * 17


def test_the_memory_of_a_trace_is_bounded(shown, monkeypatch):
    from shmring.view import _signals

    monkeypatch.setattr(_signals, "MOST", 1000)
    frames = [np.full(300, n, "f4") for n in range(8)]
    header, payload = shown(frames, width=2000)
    assert header["samples"] == 1000
    np.testing.assert_array_equal(traces(header, payload)[0][0, 0][-600:], np.repeat([6, 7], 300))


def test_less_than_the_seconds_that_are_asked_for_is_said(shown, monkeypatch):
    from shmring.view import _signals

    monkeypatch.setattr(_signals, "MOST", 1000)
    said, frames = attrs.describe(frame_rate=1), [np.zeros(100, "f4")] * 12
    assert shown(frames, said, width=100, seconds=60)[0]["kept"] == 10
    assert shown(frames, said, width=100, seconds=5)[0]["kept"] is None


def test_a_picture_as_a_trace_and_as_a_table(shown):
    array = np.arange(20 * 30, dtype="u1").reshape(20, 30)
    header, payload = shown([array], mode="signal", width=1000)
    np.testing.assert_array_equal(traces(header, payload)[0][0, 0], array.reshape(-1))
    header, _ = shown([array], mode="table")
    assert (header["kind"], header["full"], header["rows"][1][0]) == ("table", [20, 30], 30)


@pytest.mark.parametrize("shape", [(), (5,), (5, 2), (2, 300)])
def test_a_signal_as_a_picture(shown, shape):
    array = np.arange(int(np.prod(shape)), dtype="f4").reshape(shape)
    header, payload = shown([array], mode="image")
    assert header["kind"] == "image"
    np.testing.assert_array_equal(payload, array.reshape(-1, shape[-1] if len(shape) > 1 else array.size))


# ---- tables

RECORD = np.dtype([("t", ">f8"), ("name", "U4"), ("raw", "V2"), ("when", "M8[ms]"), ("xy", "i2", (2,))])


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_records_are_rows(shown, shape):
    array = np.zeros(shape, RECORD)
    array["t"], array["name"], array["raw"] = np.nan, "ä\x07", b"\x01\xff"
    array["when"], array["xy"] = np.datetime64("2026-11-30T12:00"), (1, 2)
    header, _ = shown([array], mode="image")
    assert (header["kind"], header["columns"]) == ("table", ["t", "name", "raw", "when", "xy"])
    row = ["nan", "ä\\x07", "01ff", "2026-11-30T12:00:00.000", [1, 2]]
    assert header["rows"] == [row] * max(1, array.size)


@pytest.mark.parametrize(
    ("array", "first"),
    [
        (np.array(["a", "<b>"], "U8"), "a"), (np.array([b"x\xff", b""], "S4"), "xÿ"),
        (np.array(["NaT", "2026"], "M8[D]"), "NaT"), (np.array([5, 6], "m8[s]"), "5 seconds"),
        (np.zeros(3, "V3"), "000000"), (np.array("one", "U3"), "one"),
    ],
)  # fmt: skip
def test_other_values_are_words(shown, array, first):
    header, _ = shown([array])
    assert (header["kind"], header["rows"][0][0]) == ("table", first)


def test_a_long_table_is_cut(shown):
    header, _ = shown([np.zeros((300, 50), "S300")])
    assert (len(header["rows"]), len(header["rows"][0]), header["full"]) == (100, 32, [300, 50])
    assert (header["all_rows"], header["all_columns"]) == (300, 50)


def test_rows_of_records_that_are_not_there(serve, make):
    ring = make(shape=(10,), dtype=RECORD, variable_rows=True)
    page = serve([ring.name]).page(ring.name, width=10)
    with ring.producer() as out:
        out.put(np.zeros(0, RECORD))
        assert page.frame()[0]["rows"] == []


def test_meta_comes_with_each_frame(serve, make):
    ring = make(shape=(20, 20), dtype="u1", meta=[("exposure", "f4"), ("tag", "S4")])
    page = serve([ring.name]).page(ring.name, width=10)
    assert page.message("schema")["meta"] == [["exposure", "<f4"], ["tag", "|S4"]]
    with ring.producer() as out:
        out.put(np.zeros((20, 20), "u1"), meta=(0.5, b"dark"))
        assert page.frame()[0]["meta"] == {"exposure": 0.5, "tag": "dark"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"axes": "yx"},
        {"axes": [5, 5]},
        {"color": 7, "unit": []},
        {"range": "wide"},
        {"clock": {}, "frame_rate": -1},
    ],
)
def test_attrs_that_make_no_sense_are_no_obstacle(shown, wrong):
    _, payload = shown([np.zeros((20, 24), "u1")], wrong)
    assert payload.shape == (20, 24)


def test_the_age_is_known_where_the_clock_is(shown):
    array = np.zeros((20, 24), "u1")
    assert 0 <= shown([array])[0]["age_ns"] < 60e9
    assert shown([array], attrs.describe(clock="device"), stamps=[5])[0]["age_ns"] is None
    said = shown([array], attrs.describe(clock="realtime"), stamps=[time.time_ns()])[0]
    assert 0 <= said["age_ns"] < 60e9
