"""EPICS: images of a PV in a ring, frames of a ring as a PV, over a server on this machine."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

p4p = pytest.importorskip("p4p")

from p4p import Value  # noqa: E402
from p4p.client.thread import Context  # noqa: E402
from p4p.nt import NTNDArray, NTScalar  # noqa: E402
from p4p.server import Server, StaticProvider  # noqa: E402
from p4p.server.raw import SharedPV  # noqa: E402

import shmring  # noqa: E402
import shmring.attrs  # noqa: E402
from shmring.epics import PvaSink, PvaSource  # noqa: E402
from shmring.epics._ntndarray import IDS, MEMBERS, encode, member_of  # noqa: E402
from support.blocks import fresh_name  # noqa: E402
from support.waiting import PATIENCE, wait_until  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("loopback")]

NUMBERS = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"]
LACKING = ["f2", "longdouble", "c8", "c16", "S4", "U3", "V8", "M8[ns]", "m8[s]", [("x", "u1"), ("y", "f4")]]
NAME = "LAB:Image"


def image(number: int, array=None, *, stamps=(0, 0), **attributes) -> Value:
    array = np.full((2, 3), number, "u2") if array is None else array
    member = member_of(array.dtype, "test")
    return encode(array, member, seq=number, stamps=stamps, attributes=attributes)


class Camera:
    """A PV of our own."""

    def __init__(self):
        self.pv = SharedPV()
        self.provider = StaticProvider()
        self.provider.add(NAME, self.pv)
        self.server = Server(providers=[self.provider])

    def post(self, *values: Value) -> None:
        for value in values:
            if self.pv.isOpen():
                self.pv.post(value)
            else:
                self.pv.open(value)

    def close(self) -> None:
        self.pv.close(destroy=True)
        self.server.stop()


@pytest.fixture
def camera():
    camera = Camera()
    yield camera
    camera.close()


@contextmanager
def running(runner, *args):
    """`run` in a thread, which ends with the block."""
    thread = threading.Thread(target=runner.run, args=args)
    thread.start()
    try:
        yield
    finally:
        runner.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def connected(source: PvaSource, camera: Camera) -> None:
    """Return once the source has the image that is there."""
    before = source.published
    source.run(1)
    assert source.published == before + 1


# ---- round trips


@pytest.mark.parametrize("dtype", [*NUMBERS, ">u2", ">f8", ">i4"], ids=str)
def test_each_dtype_goes_there_and_back(make, name, dtype):
    numbers = (np.arange(24).reshape(4, 6) % 2 if dtype == "?" else np.arange(24).reshape(4, 6)).astype(dtype)
    ring = make(shape=(4, 6), dtype=dtype, slots=4, attrs={"clock": "realtime"})
    with ring.producer() as out, PvaSink(ring, NAME) as sink:
        out.put(numbers, timestamp_ns=1_700_000_000_123_456_789)
        sink.run(1)
        with PvaSource(NAME, name) as source, source.ring.consumer() as frames:
            source.run(1)
            frame = frames.get(0)
            assert frame.dtype == np.dtype(dtype).newbyteorder("=")
            assert np.array_equal(frame.array, numbers)
            assert frame.timestamp_ns == 1_700_000_000_123_456_789
            assert frame.meta["uniqueId"] == 0
            del frame


def test_every_dtype_of_ntndarray_was_tried():
    assert {np.dtype(name).str[1:] for name in NUMBERS} == set(MEMBERS)
    assert {member for _, member in MEMBERS.items()} == set(NTNDArray._code2u.values())


@pytest.mark.parametrize("dtype", LACKING, ids=str)
def test_other_dtypes_are_refused(make, dtype):
    ring = make(shape=(2, 2), dtype=dtype)
    with pytest.raises(TypeError, match="which NTNDArray cannot carry: it has"):
        PvaSink(ring, NAME)
    assert ring.stats().consumers == ()


@pytest.mark.parametrize(
    ("shape", "attrs", "mode", "color"),
    [
        ((4, 6), {}, 0, "gray"),
        ((4, 6), {"color": "bayer_grbg"}, 1, "bayer_grbg"),
        ((4, 6, 3), {}, 2, "rgb"),
        ((4, 3, 6), {}, 3, "rgb"),
        ((3, 4, 6), {}, 4, "rgb"),
        ((3, 4, 6), {"color": "gray"}, 0, None),
        ((2, 4, 6), {}, 0, None),
        ((4, 6, 4), {}, 0, None),
        ((6,), {}, 0, None),
        ((2, 2, 4, 6), {}, 0, None),
    ],
)
def test_colours_and_shapes(make, name, shape, attrs, mode, color):
    """Axes in the order of numpy here are those of areaDetector in reverse."""
    ring = make(shape=shape, dtype="u1", attrs=attrs)
    pixels = np.arange(np.prod(shape), dtype="u1").reshape(shape)
    with ring.producer() as out, PvaSink(ring, NAME) as sink:
        out.put(pixels)
        sink.run(1)
        with Context("pva", nt=False) as context:
            value = context.get(NAME, timeout=PATIENCE)
        assert [dimension.size for dimension in value.dimension] == list(reversed(shape))
        assert {item.name: item.value for item in value.attribute}["ColorMode"] == mode
        with PvaSource(NAME, name) as source, source.ring.consumer() as frames:
            source.run(1)
            with frames.get(0) as frame:
                assert np.array_equal(frame.array, pixels)
            assert source.ring.attrs.get("color") == color
            shmring.attrs.check(source.ring.attrs, source.ring.shape, source.ring.dtype)
            if axes := source.ring.attrs.get("axes"):
                channel = [axis["name"] for axis in axes].index("c") if color == "rgb" else None
                assert channel is None or shape[channel] == 3
                assert len(axes) == len(shape)


@pytest.mark.parametrize(("shape", "axes"), [((4, 6, 3), "yxc"), ((4, 3, 6), "ycx"), ((3, 4, 6), "cyx")])
def test_blue_first_is_sent_as_red_first(make, name, shape, axes):
    """As NTNDArray has no word for OpenCV's order."""
    ring = make(shape=shape, dtype="u1", attrs={"color": "bgr", "axes": [{"name": axis} for axis in axes]})
    pixels = np.arange(np.prod(shape), dtype="u1").reshape(shape)
    with ring.producer() as out, PvaSink(ring, NAME) as sink:
        out.put(pixels)
        sink.run(1)
        with PvaSource(NAME, name) as source, source.ring.consumer() as frames:
            source.run(1)
            assert source.ring.attrs["color"] == "rgb"
            assert np.array_equal(frames.get(0).array, np.flip(pixels, axes.index("c")))


@pytest.mark.parametrize(("axes", "mode"), [("yxc", 2), ("ycx", 3), ("cyx", 4)])
def test_attrs_say_which_axis_of_three_is_colour(make, axes, mode):
    ring = make(shape=(3, 3, 3), dtype="u1", attrs={"axes": [{"name": axis} for axis in axes]})
    with ring.producer() as out, PvaSink(ring, NAME) as sink, Context("pva", nt=False) as context:
        out.put(np.zeros((3, 3, 3), "u1"))
        sink.run(1)
        value = context.get(NAME, timeout=PATIENCE)
        assert {item.name: item.value for item in value.attribute}["ColorMode"] == mode


def test_what_p4p_itself_reads_and_writes(make, name):
    """Their own conversion of arrays, which other clients and servers use."""
    ring = make(shape=(4, 3, 6), dtype="u2", meta=[("gain", "f8")])
    pixels = np.arange(72, dtype="u2").reshape(4, 3, 6)
    with ring.producer() as out, PvaSink(ring, NAME) as sink, Context("pva") as context:
        out.put(pixels, meta=(1.5,))
        sink.run(1)
        got = context.get(NAME, timeout=PATIENCE)
        assert np.array_equal(got, pixels)
        assert got.attrib == {"ColorMode": 3, "gain": 1.5}
    camera = SharedPV(nt=NTNDArray(), initial=pixels)
    with Server(providers=[{NAME: camera}]), PvaSource(NAME, name) as source:
        with source.ring.consumer() as frames:
            source.run(1)
            assert np.array_equal(frames.get(0).array, pixels)
            for _ in range(2):  # uniqueId and stamps stay 0: each post is an image all the same
                camera.post(pixels + 1)
                source.run(1)
                assert np.array_equal(frames.get(0).array, pixels + 1)
        assert source.lost == 0
    camera.close(destroy=True)


def test_both_times_and_attributes(make, camera):
    meta = [
        ("uniqueId", "i4"), ("dataTimeStamp", "i8"), ("timeStamp", "i8"), ("gain", "f4"), ("on", "?"),
        ("mode", "U4"), ("file", "S3"), ("counter", "u8"), ("lacking", "i4"), ("text", "U3"),
    ]  # fmt: skip
    ring = make(shape=(2, 3), dtype="u2", meta=meta, attrs={"clock": "realtime"})
    with PvaSource(NAME, ring) as source, ring.consumer() as frames:
        stamps = 1_700_000_000_000_000_001, 1_700_000_001_999_999_999
        attributes = {"gain": 0.5, "on": True, "mode": "snapshot", "file": "tmp.h5", "counter": 2**40}
        camera.post(image(7, stamps=stamps, **attributes))
        source.run(1)
        with frames.get(0) as frame:
            assert frame.timestamp_ns == stamps[0]
            assert frame.meta.item() == (7, *stamps, 0.5, True, "snap", b"tmp", 2**40, 0, "")
        camera.post(image(8, stamps=(0, stamps[1])))
        source.run(1)
        assert frames.get(0).timestamp_ns == stamps[1]


def test_meta_becomes_attributes(make):
    meta = [
        ("uniqueId", "i8"),
        ("gain", "f4"),
        ("on", "?"),
        ("mode", "U4"),
        ("file", "S3"),
        ("roi", ">i2", (2,)),
    ]
    ring = make(shape=(2, 3), dtype="u2", meta=meta)
    with ring.producer() as out, PvaSink(ring, NAME) as sink, Context("pva", nt=False) as context:
        out.put(np.zeros((2, 3), "u2"), meta=(9, 0.5, True, "live", b"tmp", (3, 4)))
        sink.run(1)
        value = context.get(NAME, timeout=PATIENCE)
        found = {item.name: item.value for item in value.attribute}
        assert found.pop("roi").tolist() == [3, 4]
        assert found == {"ColorMode": 0, "gain": 0.5, "on": True, "mode": "live", "file": "tmp"}


@pytest.mark.parametrize(("dtype", "values"), [("U4", ["a", "bé"]), ("S4", [b"a", "bé".encode()])])
def test_several_texts_in_a_field(make, dtype, values):
    ring = make(shape=(2,), dtype="u2", meta=[("names", dtype, (2,))])
    with ring.producer() as out, PvaSink(ring, NAME) as sink, Context("pva", nt=False) as context:
        out.put(np.zeros(2, "u2"), meta=(values,))
        sink.run(1)
        value = context.get(NAME, timeout=PATIENCE)
        assert {item.name: item.value for item in value.attribute}["names"] == ["a", "bé"]


def test_a_meta_of_one_value_is_an_attribute(make, name):
    ring, copy = make(shape=(2,), dtype="u2", meta="f8"), make(shape=(2,), dtype="u2", meta="f8")
    with ring.producer() as out, PvaSink(ring, NAME) as sink:
        out.put(np.zeros(2, "u2"), meta=2.5)
        sink.run(1)
        with PvaSource(NAME, copy) as source, copy.consumer() as frames:
            source.run(1)
            assert frames.get(0).meta == 2.5


def test_a_meta_without_an_attribute_is_refused(make):
    for meta in ["c8", [("when", "M8[ns]")], [("inside", [("x", "f4")])], "f2"]:
        with pytest.raises(TypeError, match="which no attribute can have"):
            PvaSink(make(meta=meta), NAME)


def test_a_number_above_what_attributes_have_is_refused(make):
    """p4p would send a negative one."""
    ring = make(shape=(2,), dtype="u2", meta="u8")
    with ring.producer() as out, PvaSink(ring, NAME) as sink:
        out.put(np.zeros(2, "u2"), meta=2**63)
        with pytest.raises(ValueError, match="end at 9223372036854775807"):
            sink.run(1)


def test_timestamps_of_the_monotonic_clock_become_time_of_day(make, camera):
    ring = make(shape=(2,), dtype="u2")
    with ring.producer() as out, PvaSink(ring, "LAB:Other", provider=camera.provider) as sink:
        before = time.time_ns()
        out.put(np.zeros(2, "u2"))
        sink.run(1)
        with Context("pva", nt=False) as context:
            value = context.get("LAB:Other", timeout=PATIENCE)
        after = time.time_ns()
        for stamp in (value.dataTimeStamp, value.timeStamp):
            taken = stamp.secondsPastEpoch * 10**9 + stamp.nanoseconds
            assert before - 10**6 <= taken <= after + 10**6


def test_time_of_day_becomes_the_monotonic_clock(make, camera):
    """In a ring that says nothing of its clock."""
    ring = make(shape=(2, 3), dtype="u2")
    with PvaSource(NAME, ring) as source, ring.consumer() as frames:
        before = time.monotonic_ns()
        camera.post(image(0, stamps=(time.time_ns(), 0)))
        after = time.monotonic_ns()
        source.run(1)
        assert before - 10**6 <= frames.get(0).timestamp_ns <= after + 10**6


def test_scalars_and_shorter_frames(make):
    numbers, copy = make(shape=(), dtype="f8"), make(shape=(), dtype="f8")
    rows, shorter = (make(shape=(4, 2), dtype="u2", variable_rows=True) for _ in range(2))
    with numbers.producer() as out, PvaSink(numbers, NAME) as sink:
        out.put(2.5)
        sink.run(1)
        with PvaSource(NAME, copy) as source, copy.consumer() as frames:
            source.run(1)
            assert frames.get(0).array == 2.5
    with rows.producer() as out, PvaSink(rows, NAME) as sink:
        out.put(np.ones((3, 2), "u2"))
        sink.run(1)
        with PvaSource(NAME, shorter) as source, shorter.consumer() as frames:
            source.run(1)
            assert np.array_equal(frames.get(0).array, np.ones((3, 2)))


# ---- losses


def test_the_id_is_the_seq_and_gaps_are_losses(make, name):
    ring = make(shape=(2,), dtype="u2", slots=8)
    with ring.producer() as out, PvaSink(ring, NAME) as sink:
        out.drop(5)
        out.put(np.full(2, 5, "u2"))
        sink.run(1)
        with PvaSource(NAME, name) as source, source.ring.consumer() as frames:
            source.run(1)
            for gap in (0, 3):
                out.drop(gap) if gap else None
                out.put(np.full(2, out.next_seq, "u2"))
                sink.run(1)
                source.run(1)
            taken = [
                (frame.seq, int(frame.meta["uniqueId"]), frame.lost)
                for frame in (frames.get(0) for _ in range(3))
            ]
            assert taken == [(0, 5, 0), (1, 6, 0), (5, 10, 3)]
            assert (source.lost, source.published, sink.sent, sink.lost) == (3, 3, 3, 3 + 5)


@pytest.mark.parametrize(
    ("ids", "lost"),
    [
        ([5, 6, 9], [0, 0, 2]),
        ([5, 1, 2], [0, 0, 0]),  # the detector counts from the beginning
        ([IDS // 2 - 2, IDS // 2 - 1, IDS // 2 + 1], [0, 0, 1]),  # beyond 31 bits
        ([IDS - 1, 0, 3], [0, 0, 2]),
    ],
)
def test_gaps_of_any_counter(make, camera, ids, lost):
    ring = make(shape=(2, 3), dtype="u2", slots=8)
    with PvaSource(NAME, ring) as source, ring.consumer() as frames:
        for number in ids:
            camera.post(image(number, np.zeros((2, 3), "u2")))
            source.run(1)
        assert [frames.get(0).lost for _ in ids] == lost
        assert source.lost == sum(lost)


def test_a_busy_source_counts_what_the_server_dropped(make, camera):
    ring = make(shape=(2, 3), dtype="u2", slots=64)
    with PvaSource(NAME, ring) as source, ring.consumer() as frames:
        camera.post(image(0))
        source.run(1)
        camera.post(*map(image, range(1, 201)))
        with running(source):
            wait_until(lambda: source.published + source.lost == 201)
        assert source.lost > 100
        seqs = [frame.seq for frame in iter_all(frames)]
        values = seqs[-1]
        assert (values, len(seqs)) == (200, source.published)
        assert frames.lost == source.lost


def iter_all(frames):
    while True:
        try:
            with frames.get(0) as frame:
                yield frame
        except shmring.RingEmpty:
            return


def test_a_full_ring_drops_or_waits(make, camera):
    ring = make(shape=(2, 3), dtype="u2", slots=2)
    with PvaSource(NAME, ring) as source, ring.consumer() as frames, running(source):
        camera.post(image(0))
        wait_until(lambda: source.published == 1)
        for number in range(1, ring.slots + 5):
            camera.post(image(number))
            wait_until(lambda n=number: source.published + source.dropped == n + 1)
        assert (source.published, source.dropped) == (ring.slots, 5)
        del frames
    held = make(shape=(2, 3), dtype="u2", slots=2)
    with PvaSource(NAME, held, on_full="wait") as source, held.consumer() as frames, running(source):
        wait_until(lambda: source.published == 1)
        for number in range(100, 100 + held.slots):
            camera.post(image(number))
        wait_until(lambda: source.published == held.slots)
        frames.get(0).release()
        wait_until(lambda: source.published == held.slots + 1)


def test_an_alarm_is_no_image(make, camera):
    ring = make(shape=(2, 3), dtype="u2", slots=8)
    with PvaSource(NAME, ring) as source, ring.consumer() as frames:
        camera.post(image(0))
        source.run(1)
        camera.post(Value(NTNDArray().type, {"alarm": {"severity": 2}}), image(1))
        source.run(1)
        assert [int(frame.array[0, 0]) for frame in iter_all(frames)] == [0, 1]


def test_an_array_without_values_is_no_image(make, camera):
    ring = make(shape=(2, 3), dtype="u2")
    camera.post(Value(NTNDArray().type, {"uniqueId": 3}))
    with PvaSource(NAME, ring) as source, running(source):
        wait_until(lambda: source.connected)
        camera.post(image(4))
        wait_until(lambda: source.published == 1)


def test_a_pv_that_goes_away_and_comes_back(make):
    ring = make(shape=(2, 3), dtype="u2", slots=8)
    with PvaSource(NAME, ring) as source, ring.consumer() as frames, running(source):
        camera = Camera()
        camera.post(image(1, stamps=(1, 1)))
        wait_until(lambda: source.published == 1)
        camera.close()
        wait_until(lambda: source.disconnects == 1)
        assert not source.connected
        camera = Camera()
        camera.post(image(1, stamps=(1, 1)))  # which a server sends to each client that connects
        wait_until(lambda: source.connected)
        camera.post(image(4, stamps=(2, 2)))
        wait_until(lambda: source.published == 2)
        camera.close()
        assert [(int(frame.array[0, 0]), frame.lost) for frame in iter_all(frames)] == [(1, 0), (4, 2)]


# ---- ends and errors


def test_the_end_of_a_source_ends_the_stream_and_the_ring(camera, name):
    camera.post(image(3, gain=0.5, ColorMode=0, mode="live"))
    with PvaSource(NAME, name, slots=4) as source:
        ring = shmring.Ring.attach(name)
        assert ring.meta_dtype == np.dtype([("uniqueId", "i4"), ("timeStamp", "i8"), ("gain", "f8")])
        assert ring.attrs["source"] == f"pva://{NAME}"
        assert ring.attrs["clock"] == "realtime"
        frames = ring.consumer()
        assert source.run(1) == 1
    source.close()
    frames.get(0).release()
    with pytest.raises(shmring.RingClosed):
        frames.get(0)
    frames.close()
    ring.close()
    with pytest.raises(shmring.RingNotFound):
        shmring.Ring.attach(name)


def test_the_end_of_a_ring_ends_the_sink(make):
    ring = make(shape=(2,), dtype="u2")
    with ring.producer() as out, PvaSink(ring, NAME) as sink:
        out.put(np.zeros(2, "u2"))
        out.close()
        assert sink.run() == 1
    sink.close()
    assert ring.stats().consumers == ()
    with ring.producer() as out, PvaSink(ring.name, NAME) as sink:
        out.abandon()
        with pytest.raises(shmring.ProducerDied):
            sink.run()


def test_a_name_is_followed(make, name):
    """The same PV has the frames of the next producer, and of the next ring, which are others."""

    def until(number):
        wait_until(lambda: sink.sent == number)
        wait_until(lambda: (got := context.get(NAME)) is not None and got.size)
        return context.get(NAME)

    ring = make(name=name, shape=(2, 3), dtype="u2", slots=8)
    out = ring.producer()
    with PvaSink(name, NAME, follow=True) as sink, Context("pva") as context, running(sink):
        out.put(np.full((2, 3), 1, "u2"))
        assert until(1).tolist() == [[1] * 3] * 2
        out.abandon()  # as a producer that died
        with ring.producer() as out:
            out.put(np.full((2, 3), 2, "u2"))
            assert until(2).tolist() == [[2] * 3] * 2
        ring.unlink()
        second = make(name=name, shape=(4,), dtype="f8", slots=8, meta="i4")
        with second.producer() as out:
            out.put(np.zeros(4), meta=6)
            assert until(3).tolist() == [0] * 4
            out.drop(3)
            out.put(np.arange(4.0), meta=7)
            assert until(4).tolist() == [0, 1, 2, 3]
            assert context.get(NAME).attrib["meta"] == 7
            assert [one.label for one in second.stats().consumers] == ["PvaSink"]
    assert sink.lost == 3
    assert second.stats().consumers == ()


def test_what_cannot_be_followed(make, name):
    with pytest.raises(TypeError, match="follow=True needs a name, not a ring"):
        PvaSink(make(), NAME, follow=True)
    with pytest.raises(shmring.RingNotFound):
        PvaSink(name, NAME, follow=True)
    ring = make(name=name, shape=(2,), dtype="u2", slots=4)
    with ring.producer() as out:
        sink = PvaSink(name, NAME, follow=True)
        out.put(np.zeros(2, "u2"))
        assert sink.run(1) == 1
    ring.unlink()
    refused = pytest.raises(TypeError, match="which NTNDArray cannot carry")
    with sink, make(name=name, dtype="c8").producer(), refused:
        sink.run()


@pytest.mark.parametrize("color", ["gray", "rgb"])
def test_x_before_y(make, name, color):
    """EPICS has x as its first dimension, wherever the frame has it."""
    shape, axes = ((3, 2), ["x", "y"]) if color == "gray" else ((3, 2, 3), ["x", "y", "c"])
    ring = make(shape=shape, dtype="u1", slots=4, attrs=shmring.attrs.describe(axes=axes, color=color))
    frame = np.arange(np.prod(shape), dtype="u1").reshape(shape)
    with ring.producer() as out, PvaSink(ring, NAME) as sink:
        out.put(frame)
        sink.run(1)
        with PvaSource(NAME, name) as source, source.ring.consumer() as frames:
            source.run(1)
            assert np.array_equal(frames.get(0).array, frame.swapaxes(0, 1))
            assert [axis.name for axis in shmring.attrs.read(source.ring).axes][:2] == ["y", "x"]
            assert shmring.attrs.read(source.ring).color == color


def test_both_can_be_closed_by_another_thread(make, camera, name):
    """Wherever they wait: for an image, for space, for a frame."""
    ring = make(shape=(2, 3), dtype="u2", slots=2)
    camera.post(image(0))
    source, waiting = PvaSource(NAME, name), PvaSource(NAME, ring, on_full="wait")
    sink, frames = PvaSink(ring, "LAB:Other", provider=camera.provider), ring.consumer()
    sink_ring = make(shape=(2,), dtype="u2")
    idle = PvaSink(sink_ring, "LAB:Idle", provider=camera.provider)
    failed = []
    runners = [source, waiting, sink, idle]

    def run(runner):
        try:
            runner.run()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(runner,)) for runner in runners]
    for thread in threads:
        thread.start()
    wait_until(lambda: source.published == 1)
    wait_until(lambda: waiting.published == 1)
    for number in range(1, ring.slots + 1):
        camera.post(image(number))
    wait_until(lambda: waiting.published == ring.slots)
    for runner in runners:
        runner.close()
        runner.close()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert failed == []
    frames.close()


def test_a_server_that_ends_the_updates(make, camera, monkeypatch):
    ring = make(shape=(2, 3), dtype="u2")
    with PvaSource(NAME, ring) as source:
        monkeypatch.setattr(source._subscription, "pop", p4p.client.raw.Finished, raising=False)
        assert source.run() == 0


def test_an_attribute_that_does_not_fit_its_field(make, camera):
    ring = make(shape=(2, 3), dtype="u2", meta=[("gain", "u1")])
    for wrong in ("high", 300, 1.5):
        camera.post(image(0, gain=wrong))
        expected = pytest.raises((ValueError, TypeError), match="meta")
        with expected, PvaSource(NAME, ring) as source:
            source.run(1)


def test_attributes_without_a_name(camera, name):
    value = image(0)
    value["attribute"] = [{"name": "", "value": 1}, {"name": "with a space", "value": 2}]
    camera.post(value)
    with PvaSource(NAME, name) as source, source.ring.consumer() as frames:
        source.run(1)
        with frames.get(0) as frame:
            assert frame.meta.dtype.names == ("uniqueId", "timeStamp", "with a space")
            assert frame.meta["with a space"] == 2


def test_images_that_do_not_fit(make, camera):
    ring = make(shape=(2, 3), dtype="u1")
    camera.post(image(0))
    with ring.consumer() as frames:
        expected = pytest.raises(
            shmring.RingIncompatible, match=r"shape \(2, 3\) and dtype uint16; frames of ring"
        )
        with expected, PvaSource(NAME, ring) as source:
            source.run(1)
        with pytest.raises(shmring.ProducerFailed, match="sent an image of shape"):
            frames.get(timeout=PATIENCE)
    wrong = make(shape=(3, 2), dtype="u2")
    with PvaSource(NAME, wrong) as source, pytest.raises(shmring.RingIncompatible):
        source.run(1)


def test_compressed_images_are_refused(make, camera):
    value = image(0)
    value["codec.name"] = "jpeg"
    camera.post(value)
    with pytest.raises(ValueError, match="compressed with 'jpeg': let it send"):
        PvaSource(NAME, fresh_name(), timeout=PATIENCE)


def test_dimensions_that_contradict_the_values(camera, name):
    value = image(0)
    value["dimension"] = [{"size": 4}, {"size": 2}]
    camera.post(value)
    with pytest.raises(ValueError, match=r"sent 6 values as an image of shape \(2, 4\)"):
        PvaSource(NAME, name, timeout=PATIENCE)


def test_other_kinds_of_pv_are_refused(name):
    pv = SharedPV(nt=NTScalar("d"), initial=1.0)
    with Server(providers=[{NAME: pv}]):
        with pytest.raises(TypeError, match=r"not an NTNDArray but 'epics:nt/NTScalar:1.0'"):
            PvaSource(NAME, name, timeout=PATIENCE)
        pv.close(destroy=True)


def test_nobody_answers_and_nothing_comes(camera, name):
    with pytest.raises(TimeoutError, match=r"no server has answered for PV 'LAB:Nothing' in 0.05 s"):
        PvaSource("LAB:Nothing", name, timeout=0.05)
    camera.post(Value(NTNDArray().type, {"uniqueId": 3}))
    for seconds in (0.5, PATIENCE):  # the first is enough, where it connects in that time
        with pytest.raises(TimeoutError) as raised:
            PvaSource(NAME, name, timeout=seconds)
        if "no server" not in str(raised.value):
            break
    assert f"has sent no image in {seconds} s: is its acquisition running?" in str(raised.value)


def test_wrong_arguments_are_refused_before_anything_is_waited_for(make, name):
    ring = make()
    for wrong, error, message in [
        ({"pv": ring, "ring": NAME}, TypeError, "pv must be the name of a PV, not Ring"),
        ({"pv": ""}, ValueError, "pv must be the name of a PV, not empty"),
        ({"ring": 5}, TypeError, "ring must be a Ring or its name, not int"),
        ({"ring": "no/name"}, ValueError, "no slash"),
        ({"timeout": "1"}, TypeError, "timeout"),
        ({"timeout": -1}, ValueError, "timeout"),
        ({"slots": 1}, ValueError, "slots must be"),
    ]:
        with pytest.raises(error, match=message):
            PvaSource(**{"pv": NAME, "ring": name, "timeout": None, **wrong})
        if "slots" not in wrong:
            with pytest.raises(error, match=message):
                PvaSink(
                    **{"pv": NAME, "ring": ring, **({"ring": name} if "timeout" in wrong else {}), **wrong}
                )
    assert not ring.stats().consumers


def test_options_are_checked(make, name, camera):
    camera.post(image(0))
    with pytest.raises(ValueError, match="on_full must be"):
        PvaSource(NAME, name, on_full="raise")
    with PvaSource(NAME, name) as source:
        for wrong in (0, -1):
            with pytest.raises(ValueError, match="frames must be at least 1"):
                source.run(wrong)
        with pytest.raises(shmring.ProducerExists):
            PvaSource(NAME, source.ring)
    with pytest.raises(shmring.RingNotFound):
        PvaSink(name, NAME)


def test_a_pv_of_a_server_of_ours(make, camera, name):
    ring = make(shape=(2,), dtype="u2")
    context = p4p.client.raw.Context("pva", useenv=True, nt=False)
    with ring.producer() as out:
        with PvaSink(ring, "LAB:Second", provider=camera.provider) as sink:
            out.put(np.full(2, 7, "u2"))
            sink.run(1)
            with PvaSource("LAB:Second", name, context=context) as source:
                source.run(1)
        with PvaSink(ring, "LAB:Second", provider=camera.provider) as sink:  # the name is free again
            assert sink.sent == 0
    context.close()
