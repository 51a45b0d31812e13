"""Frame: read-only for good, alive as long as any view of it, never overwritten while it is, then gone."""

import contextlib
import ctypes
import gc
import io
import pickle
import queue
import subprocess
import sys
import threading
import weakref
import zlib
from itertools import islice

import numpy as np
import pytest

import shmring
from support.blocks import address, inode, mappings
from support.frames import WORDS, check, check_batch, drain, feed, payload
from support.peers import hold, open_consumer
from support.threads import GIL, Running
from support.waiting import settle

VIEWS = {
    "array": lambda frame: frame.array,
    "slice": lambda frame: frame.array[3:100:7],
    "view": lambda frame: frame.array.view("u1"),
    "reshape": lambda frame: frame.array.reshape(2, -1).T,
    "asarray": lambda frame: np.asarray(frame),
    "array without copy": lambda frame: np.array(frame, copy=False),
    "frombuffer": lambda frame: np.frombuffer(frame, "u8"),
    "memoryview": lambda frame: memoryview(frame),
    "memoryview of array": lambda frame: memoryview(frame.array),
    "cast memoryview": lambda frame: memoryview(frame).cast("B")[8:],
    "array.data": lambda frame: frame.array.data,
    "from_dlpack": lambda frame: np.from_dlpack(frame),
    "ndarray": lambda frame: np.ndarray((WORDS,), "u8", buffer=frame),
    "broadcast": lambda frame: np.broadcast_to(frame.array, (2, WORDS)),
    "iterator": lambda frame: frame.array.flat,
    "frame": lambda frame: frame,
}


@pytest.fixture(params=VIEWS, ids=lambda key: key.replace(" ", "-"))
def view_of(request):
    return VIEWS[request.param]


def words(view) -> np.ndarray:
    """A private copy of what a view shows, as flat bytes."""
    return np.array(view, copy=True).tobytes()


def lap(ring, producer, consumer, rounds: int = 10) -> None:
    """Overwrite every slot that may be overwritten, many times."""
    for _ in range(rounds * ring.slots):
        feed(producer, 1)
        if consumer is not None:
            while (frame := consumer.try_get()) is not None:
                check(frame)
                frame.release()


# ---- what a frame is


def test_what_a_frame_tells(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        producer.put(payload(0), timestamp_ns=123)
        frame = consumer.get(0)
        assert (frame.seq, frame.timestamp_ns, frame.lost, frame.meta, frame.rows) == (0, 123, 0, None, None)
        assert frame.epoch == producer.epoch
        assert frame.released is False
        array = frame.array
        assert type(array) is np.ndarray
        assert array is frame.array
        assert (array.shape, array.dtype, array.strides) == ((WORDS,), np.dtype("u8"), (8,))
        assert array.flags.aligned
        assert array.flags.c_contiguous
        assert not array.flags.owndata
        assert address(array) % 64 == 0


def described(array) -> tuple:
    return (array.shape, array.dtype, array.ndim, array.size, array.nbytes)


@pytest.mark.parametrize(
    ("shape", "dtype"), [((WORDS,), "u8"), ((4, 6, 3), "u1"), ((), "f8"), ((3, 2), ">i2"), ((5,), "M8[ns]")]
)
def test_a_frame_and_a_batch_have_the_attributes_of_their_arrays(make, shape, dtype):
    ring = make(shape=shape, dtype=dtype)
    with ring.producer() as producer, ring.consumer() as consumer:
        for _ in range(4):
            producer.claim().publish()
        for held in (consumer.get(0), consumer.batch(3)):
            array = held.array
            assert described(held) == described(array)
            assert str(held.shape) in repr(held)
            held.release()
            assert described(held) == described(array)
        with pytest.raises(AttributeError):
            held.shape = (1,)


def test_the_shape_of_a_frame_honours_its_rows(make):
    ring = make(shape=(10, 3), dtype="f4", variable_rows=True)
    with ring.producer() as producer, ring.consumer() as consumer:
        for rows in (2, 0, 10):
            producer.put(np.ones((rows, 3), "f4"))
        for rows in (2, 0, 10):
            frame = consumer.get(0)
            assert described(frame) == described(frame.array)
            assert frame.shape == (rows, 3)
            assert f"shape ({rows}, 3)" in repr(frame)
            assert frame  # an empty one, too: only None says that there is no frame
            del frame
        producer.put(np.ones((2, 3), "f4"))
        batch = consumer.batch(1)
        assert described(batch) == described(batch.array)
        assert batch.shape == (1, 10, 3)


def test_items_are_those_of_the_array(make, lossless):
    ring = make(shape=(4, 6), dtype="i4", slots=8)
    with ring.producer() as producer, ring.consumer(lossless=lossless) as consumer:
        source = np.arange(24, dtype="i4").reshape(4, 6)
        for _ in range(3):
            producer.put(source)
        frame = consumer.get(0)
        part = frame[1:, 2]
        assert np.array_equal(part, source[1:, 2])
        assert address(part) == address(frame.array) + 32
        assert frame[3, 5] == 23
        assert [row.tolist() for row in frame] == source.tolist()
        with pytest.raises(TypeError, match="item assignment"):
            frame[0] = 1
        batch = consumer.batch(2)
        assert np.array_equal(batch[1, 2], source[2])
        del frame, batch
        assert consumer.held == 1
        del part
        assert consumer.held == 0


def test_a_frame_is_the_slot_and_no_copy(ring):
    with ring.producer() as producer, ring.consumer() as one, ring.consumer(lossless=False) as two:
        feed(producer, 2)
        assert address(one.get(0).array) == address(two.get(0).array)
        again = one.get(0)
        spots = {
            address(VIEWS[key](again)) for key in ("array", "asarray", "frombuffer", "from_dlpack", "ndarray")
        }
        assert len(spots) == 1


def test_array_protocol(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        frame = consumer.get(0)
        converted = np.asarray(frame, dtype="f8")
        assert converted.dtype == np.dtype("f8")
        assert converted[0] == float(payload(0)[0])
        copy = np.array(frame)
        assert copy.flags.writeable
        assert copy.flags.owndata
        assert np.array_equal(copy, payload(0))
        with pytest.raises(ValueError, match="copy"):
            np.asarray(frame, dtype="f8", copy=False)
        assert np.array_equal(np.add(frame, np.uint64(0)), payload(0))


def test_buffer_protocol(make):
    ring = make(shape=(4, 128), dtype="i4")
    with ring.producer() as producer, ring.consumer() as consumer:
        source = np.arange(512, dtype="i4").reshape(4, 128)
        producer.put(source)
        frame = consumer.get(0)
        view = memoryview(frame)
        assert (view.shape, view.format, view.itemsize, view.ndim) == ((4, 128), "i", 4, 2)
        assert view.readonly
        assert view.c_contiguous
        assert view.nbytes == 2048
        assert view[1, 2] == 130
        assert bytes(view) == source.tobytes()
        target = bytearray(2048)
        target[:] = view.cast("B")
        assert target == source.tobytes()


def test_dlpack_protocol(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        frame = consumer.get(0)
        assert tuple(int(part) for part in frame.__dlpack_device__()) == (1, 0)
        array = np.from_dlpack(frame)
        assert np.array_equal(array, payload(0))
        assert not array.flags.writeable
        capsule = frame.__dlpack__(max_version=(1, 0))
        assert "dltensor" in repr(capsule)
        del capsule, array
        assert consumer.held == 1
        frame.release()
        del frame
        assert consumer.held == 0


class Exported:
    """A DLPack capsule, for numpy.from_dlpack."""

    def __init__(self, capsule):
        self.capsule = capsule

    def __dlpack__(self, **_options):
        return self.capsule

    def __dlpack_device__(self):
        return (1, 0)


def flags_of(capsule) -> int:
    """The flags of a capsule of DLPack 1.0: 1 is read-only, 2 is copied."""
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    after_version_context_and_deleter = 8 + 8 + 8
    return ctypes.c_uint64.from_address(
        pointer_of(capsule, b"dltensor_versioned") + after_version_context_and_deleter
    ).value


def take_either(consumer, kind: str):
    return consumer.get(0) if kind == "frame" else consumer.batch(1, timeout=0)


@pytest.mark.parametrize("kind", ["frame", "batch"])
@pytest.mark.parametrize(
    "options",
    [{}, {"max_version": (0, 8)}, {"max_version": None, "copy": None}, {"stream": None}, {"copy": True}],
)
def test_dlpack_before_1_0_gets_a_copy(ring, kind, options):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        held = take_either(consumer, kind)
        capsule = held.__dlpack__(**options)
        assert '"dltensor"' in repr(capsule)
        del held
        assert consumer.held == 0
        array = np.from_dlpack(Exported(capsule))
        assert np.array_equal(array.ravel(), payload(0))


@pytest.mark.parametrize("kind", ["frame", "batch"])
def test_dlpack_1_0_says_what_is_read_only_and_what_is_a_copy(ring, kind):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        held = take_either(consumer, kind)
        assert flags_of(held.__dlpack__(max_version=(1, 0))) == 1
        copy = held.__dlpack__(max_version=(1, 0), copy=True)
        assert flags_of(copy) & 2
        del held
        assert consumer.held == 0


@pytest.mark.parametrize("options", [{}, {"max_version": (0, 8)}, {"max_version": None}])
def test_dlpack_before_1_0_without_a_copy_is_refused(ring, options):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        frame = consumer.get(0)
        with pytest.raises(BufferError, match=r"a Frame is read-only.*allow a copy.*max_version=\(1, 0\)"):
            frame.__dlpack__(copy=False, **options)


def test_whatever_reads_bytes_takes_a_frame(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        frame = consumer.get(0)
        expected = frame.array.tobytes()
        with pytest.raises(TypeError, match="read-write"):
            io.BytesIO(expected).readinto(frame)
        assert zlib.crc32(frame) == zlib.crc32(expected)
        assert np.array_equal(np.frombuffer(frame, "u8"), payload(0))  # asks for writable memory first
        file = io.BytesIO()
        file.write(frame)
        assert file.getvalue() == bytes(frame) == b"".join([frame]) == expected


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")  # torch has no read-only tensors
def test_a_frame_with_torch(ring):
    torch = pytest.importorskip("torch")
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        frame = consumer.get(0)
        expected = words(frame)
        tensor = torch.from_numpy(frame.array.view("i8"))
        del frame
        lap(ring, producer, consumer)
        assert tensor.numpy().tobytes() == expected
        del tensor
        settle()
        assert consumer.held == 0


def test_a_frame_is_not_pickled_by_accident(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        frame = consumer.get(0)
        with pytest.raises(TypeError):
            pickle.dumps(frame)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            copy = pickle.loads(pickle.dumps(frame.array, protocol))
            assert np.array_equal(copy, payload(0))
            assert copy.flags.writeable == (protocol < 5)  # numpy keeps the flag from protocol 5 on


@pytest.mark.parametrize(
    "kind",
    [shmring.Frame, shmring.Slot, shmring.Buffers, shmring.Consumer, shmring.Producer, shmring.Batch],
)
def test_handles_are_not_made_by_hand(kind):
    with pytest.raises(TypeError):
        kind()


# ---- read-only


def test_no_view_is_writable(ring, view_of):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        frame = consumer.get(0)
        view = view_of(frame)
        if isinstance(view, memoryview):
            assert view.readonly
            with pytest.raises(TypeError):
                view[0] = view[0]
        elif isinstance(view, np.ndarray):
            assert not view.flags.writeable
            with pytest.raises(ValueError, match="read-only"):
                view[0] = 1
        elif isinstance(view, np.flatiter):
            with pytest.raises(ValueError, match="read-only"):
                view[0] = 1
        assert check(frame) == 0


def test_no_trick_makes_it_writable(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        frame = consumer.get(0)
        array = frame.array
        thing, depth = array, 0
        while thing is not None and depth < 10:  # every base
            if isinstance(thing, np.ndarray):
                for change in (
                    lambda thing=thing: thing.setflags(write=True),
                    lambda thing=thing: setattr(thing.flags, "writeable", True),
                    lambda thing=thing: thing.view().setflags(write=True),
                    lambda thing=thing: thing.reshape(-1).setflags(write=True),
                    lambda thing=thing: thing[1:].setflags(write=True),
                ):
                    with pytest.raises(ValueError, match="WRITEABLE"):
                        change()
            try:
                exported = memoryview(thing)
            except TypeError:
                pass
            else:
                assert exported.readonly
                for again in (np.asarray(exported), np.frombuffer(exported.cast("B"), "u1")):
                    with pytest.raises(ValueError, match="WRITEABLE"):
                        again.setflags(write=True)
            thing, depth = getattr(thing, "base", None), depth + 1
        assert depth < 10
        for change in (
            lambda: array.fill(0),
            lambda: array.sort(),
            lambda: array.byteswap(inplace=True),
            lambda: array.partition(3),
            lambda: array.put(0, 0),
            lambda: array.itemset(0, 0),
            lambda: array.resize(3),
            lambda: np.copyto(array, 0),
            lambda: np.add(array, 1, out=array),
            lambda: array.__iadd__(1),
            lambda: np.ndarray((WORDS,), "u8", buffer=frame).setflags(write=True),
            lambda: np.lib.stride_tricks.as_strided(array, (3,), (8,), writeable=True).fill(0),
            lambda: np.from_dlpack(frame).fill(0),
            lambda: np.asarray(frame).__setitem__(0, 0),
            lambda: exec("memoryview(frame).cast('B')[0] = 1", {"frame": frame, "memoryview": memoryview}),
        ):
            with pytest.raises((ValueError, TypeError, AttributeError)):
                change()
        assert array.__array_interface__["data"][1] is True
        assert check(frame) == 0


def permissions_of_a_frame(here):
    """How this process may use the memory of the next frame."""
    frame = here.consumer.get(5)
    spot = address(frame.array)
    mapped = mappings(inode(here.ring.name))
    return [permissions for start, end, permissions in mapped if start <= spot < end]


def test_a_consumer_maps_the_data_read_only(ring, peer):
    """A stray write in a consumer, even in C, cannot damage a frame: the page itself is read-only."""
    other = peer(ring)
    with ring.producer() as producer:
        other.run(open_consumer)
        feed(producer, 1)
        assert other.run(permissions_of_a_frame) == ["r--s"]


def test_a_stray_write_in_c_ends_the_consumer_not_the_frame(ring, fork):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)

        def scribble(send):
            import ctypes
            import faulthandler
            import resource

            faulthandler.disable()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            with shmring.Ring.attach(ring.name) as again, again.consumer() as mine:
                ctypes.memset(address(mine.get(5).array), 0, 8)

        assert fork(scribble).wait() == -11
        assert check(consumer.get(0)) == 0


# ---- lifetime


def test_a_view_keeps_its_frame(ring, view_of):
    with ring.producer(on_full="raise") as producer, ring.consumer() as consumer:
        feed(producer, 1)
        view = view_of(consumer.get(0))
        expected = words(view)
        lap(ring, producer, consumer)
        assert words(view) == expected
        assert consumer.held == 1
        del view
        settle()
        assert consumer.held == 0


@pytest.mark.parametrize("view_of", ["array", "memoryview", "frame"], indirect=True)
def test_release_leaves_it_to_the_last_view(ring, view_of, lossless):
    with ring.producer(on_full="raise") as producer, ring.consumer(lossless=lossless) as consumer:
        feed(producer, 1)
        frame = consumer.get(0)
        view = view_of(frame)
        if view is frame:
            view = frame.array
        expected = words(view)
        frame.release()
        assert frame.released
        frame.release()
        del frame
        lap(ring, producer, consumer)
        assert words(view) == expected
        assert consumer.held == 1
        del view
        settle()
        assert consumer.held == 0


def test_with_releases(ring, lossless):
    with ring.producer() as producer, ring.consumer(lossless=lossless) as consumer:
        feed(producer, 2)
        with consumer.get(0) as frame:
            assert check(frame) == 0
            assert not frame.released
        assert frame.released
        assert consumer.held == 0
        with pytest.raises(ZeroDivisionError), consumer.get(0) as frame:
            1 / 0  # noqa: B018
        assert frame.released
        del frame
        assert consumer.held == 0


def test_a_released_frame_refuses_and_says_so(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        frame = consumer.get(0)
        frame.release()
        assert consumer.held == 0
        for use in (
            lambda: frame.array,
            lambda: memoryview(frame),
            lambda: np.asarray(frame),
            frame.__dlpack__,
        ):
            with pytest.raises((ValueError, BufferError), match="released"):
                use()
        assert frame.seq == 0


@pytest.mark.event("close() while views live")
@pytest.mark.parametrize("view_of", ["array", "memoryview"], indirect=True)
def test_views_outlive_the_consumer(ring, view_of, lossless):
    with ring.producer(on_full="raise") as producer:
        consumer = ring.consumer(lossless=lossless)
        feed(producer, 1)
        view = view_of(consumer.get(0))
        expected = words(view)
        consumer.close()
        assert [row.policy for row in ring.stats().consumers] == ["left"]
        lap(ring, producer, None)
        assert words(view) == expected
        del view, consumer
        settle()
        assert ring.stats().consumers == ()


@pytest.mark.event("close() while views live")
def test_views_outlive_the_ring_and_everything(make, name, view_of):
    ring = make(name)
    again = shmring.Ring.attach(name)
    with ring.producer(on_full="raise") as producer:
        consumer = again.consumer()
        feed(producer, 1)
        view = view_of(consumer.get(0))
        expected = words(view)
        consumer.close()
        again.close()
        del consumer, again
        settle()
        lap(ring, producer, None)
        assert words(view) == expected
        ring.unlink()
    ring.close()
    del producer, ring
    settle()
    assert words(view) == expected
    del view


@pytest.mark.event("close() while views live")
def test_the_mapping_goes_with_the_last_view(name):
    ring = shmring.Ring.create(name, shape=(WORDS,), dtype="u8", slots=4)
    node = inode(name)
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        view = consumer.get(0).array[5:]
    ring.unlink()
    ring.close()
    del ring, producer, consumer
    settle()
    assert mappings(node)
    assert np.array_equal(view, payload(0)[5:])
    del view
    settle()
    assert not mappings(node)


@pytest.mark.event("close() while views live")
@pytest.mark.parametrize("order", ["ring first", "consumer first", "nothing closed", "kept in a cycle"])
@pytest.mark.slow
def test_no_noise_at_exit(order):
    code = f"""
import shmring, numpy as np
ring = shmring.Ring.create(shape=(512,), dtype="u8", slots=4)
producer, consumer = ring.producer(), ring.consumer()
producer.put(np.ones(512, "u8")); producer.put(np.ones(512, "u8"))
frame, view = consumer.get(), memoryview(consumer.get())
array, slot = frame.array[1:], producer.claim()
ring.unlink()
order = {order!r}
if order == "ring first":
    ring.close(); consumer.close(); producer.close()
elif order == "consumer first":
    producer.close(); consumer.close(); ring.close()
elif order == "kept in a cycle":
    cycle = [array, view, frame, consumer, ring]; cycle.append(cycle)
assert array.sum() == 511
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_frames_die_in_any_order(make, lossless):
    ring = make(slots=32)
    random = np.random.default_rng(1)
    with ring.producer(on_full="raise") as producer, ring.consumer(lossless=lossless) as consumer:
        held = []
        for _ in range(500):
            feed(producer, 1)
            frame = consumer.get(0)
            held.append([frame, frame.array[2:], memoryview(frame)])
            del frame
            while len(held) > 12:
                victim = held[int(random.integers(0, len(held)))]
                victim.pop(int(random.integers(0, len(victim))))
                if not victim:
                    held.remove(victim)
            for parts in held:
                for part in parts:
                    if isinstance(part, shmring.Frame):
                        check(part)
        assert consumer.held == len(held)
        held.clear()
        victim = parts = part = None
        assert consumer.held == 0


def test_a_held_frame_is_never_overwritten(make, lossless):
    """Held frames of either policy stay what they were while the producer laps hundreds of times."""
    ring = make(slots=16)
    with (
        ring.producer(on_full="raise") as producer,
        ring.consumer() as reader,
        ring.consumer(lossless=lossless) as holder,
    ):
        held = []
        for turn in range(600):
            feed(producer, 1)
            check(reader.get(0))
            frame = holder.get(0)
            if turn % 7 == 0:
                held.append(frame)
                held = held[-5:]
            for kept in held:
                check(kept)
        assert len(held) == 5
        assert reader.lost == holder.lost == 0
        assert ring.stats().swaps > 0


def test_a_held_batch_is_never_overwritten(make, lossless):
    ring = make(slots=16)
    with ring.producer(on_full="raise") as producer, ring.consumer(lossless=lossless) as consumer:
        feed(producer, 20 if not lossless else 5)
        kept = consumer.batch(5)
        part = kept.array[1:3]
        seqs, expected = check_batch(kept), words(part)
        lap(ring, producer, consumer)
        assert check_batch(kept) == seqs
        kept.release()
        del kept
        lap(ring, producer, consumer)
        assert words(part) == expected
        del part
        settle()
        assert consumer.held == 0


@pytest.mark.event("a consumer holds a frame for an hour")
def test_a_held_frame_costs_one_slot_and_stalls_nobody(make, lossless):
    ring = make(slots=6)
    with ring.producer(on_full="raise") as producer, ring.consumer(lossless=lossless) as keeper:
        feed(producer, 1)
        kept = keeper.get(0)
        if lossless:
            feed(producer, 1)
            keeper.get(0).release()
            assert keeper.try_get() is None
        with ring.consumer(start="next") as other:
            begin = producer.next_seq
            for _ in range(20 * ring.slots):
                assert feed(producer, 1) == 1
                assert len(drain(other)) == 1
                if lossless:
                    drain(keeper)
            assert other.lost == 0
            assert other.delivered == producer.next_seq - begin
            if lossless:
                drain(keeper)
            depth = feed(producer, ring.slots - 1)
            with pytest.raises(shmring.RingFull):
                producer.put(payload(0))
            assert depth == ring.slots - 1
        assert check(kept) == 0


def let_the_second_go(here):
    del here.held[1]


def seqs_of_the_held(here):
    return [check(frame) for frame in here.held]


@pytest.mark.event("all slots are held")
def test_all_slots_held_the_producer_follows_on_full_and_names_the_holders(ring, peer):
    other = peer(ring)
    with ring.producer(on_full="raise") as producer:
        other.run(open_consumer, "hoarder")
        feed(producer, ring.slots)
        other.run(hold, ring.slots)
        with pytest.raises(shmring.RingFull) as caught:
            producer.put(payload(0))
        for part in (str(other.pid), "support.children", "hoarder", str(ring.slots)):
            assert part in str(caught.value)
        producer.close()
    with ring.producer(on_full="drop") as producer:
        assert producer.put(payload(0)) is False
    with ring.producer() as producer:
        with pytest.raises(shmring.RingFull):
            producer.put(payload(0), timeout=0.01)
        other.run(let_the_second_go)
        assert feed(producer, 1) == 1  # one slot is enough to continue
        assert other.run(seqs_of_the_held) == [0, *list(range(2, ring.slots))]


@pytest.mark.event("all slots are held")
def test_lossy_consumers_that_keep_what_they_may_never_stop_the_producer(make):
    """Of eight slots two stay the producer's, whatever the viewers keep."""
    ring = make(slots=8)
    with ring.producer(on_full="raise") as producer, ring.consumer() as recorder:
        viewers = [ring.consumer(lossless=False) for _ in range(3)]
        assert [viewer.max_held for viewer in viewers] == [3, 2, 2]
        with contextlib.ExitStack() as leaving:
            for viewer in viewers:
                leaving.enter_context(viewer)
            held = []
            for viewer in viewers[:2]:
                for _ in range(viewer.max_held):
                    feed(producer, 1)
                    check(recorder.get(0))
                    held.append(viewer.latest(0))
                with pytest.raises(shmring.SlotsHeld, match=rf"may hold {viewer.max_held} slots.*max_held"):
                    viewer.get(0)
            for _ in range(5 * ring.slots):
                assert feed(producer, 1) == 1
                check(recorder.get(0))
            for frame in held:
                check(frame)
            del frame, held[:]


@pytest.mark.parametrize("wait", ["get", "try_get", "latest", "batch"])
def test_a_lossy_consumer_that_holds_its_share_is_told_at_once(ring, wait):
    with ring.producer(on_full="raise") as producer, ring.consumer(lossless=False) as consumer:
        feed(producer, ring.slots)
        held = [consumer.get(0) for _ in range(consumer.max_held)]
        with pytest.raises(shmring.SlotsHeld, match=f"may hold {consumer.max_held} slots"):
            getattr(consumer, wait)(*([1] if wait == "batch" else []))
        held.pop().release()
        assert getattr(consumer, wait)(*([1] if wait == "batch" else [])) is not None
        assert [check(frame) for frame in held] == [0]


def test_a_lossy_consumer_is_refused_at_once_what_its_share_can_never_hold(make):
    """Whatever other threads run, and whether frames are there: such a wait would not end."""
    ring = make(slots=8)
    ended = threading.Event()
    other = Running(ended.wait)
    with ring.producer() as producer, ring.consumer(lossless=False, max_held=3) as viewer:
        for _ in range(2):
            with pytest.raises(ValueError, match=r"min_frames=4 .*may hold 3: .*max_held=4"):
                viewer.batch(8, min_frames=4)
            for length, step, needed in ((2, 2, 4), (3, 1, 4), (4, 1, 5), (2, 5, 4)):
                with pytest.raises(ValueError, match=rf"needs {needed} slots.*may hold 3: .*lossless"):
                    viewer.windows(length, step)
            feed(producer, 4)
        ended.set()
        other.end()
        with viewer.batch(8, min_frames=3) as batch:
            assert check_batch(batch) == [0, 1, 2]
        assert [check_batch(window) for window in islice(viewer.windows(2, 1), 3)] == [[3, 4], [4, 5], [5, 6]]


@pytest.mark.parametrize("keeps", [{"max_held": 4}, {"lossless": True}])
def test_windows_that_a_consumer_may_hold_leave_the_loop_its_window(make, keeps):
    ring = make(slots=8)
    with ring.producer() as producer, ring.consumer(**{"lossless": False, **keeps}) as consumer:
        feed(producer, 8)
        found = [check_batch(window) for window in islice(consumer.windows(2), 4)]
        assert found == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_max_held_is_what_was_asked_for_or_refused(make):
    ring = make(slots=8, spares=4)
    with ring.consumer(lossless=False, max_held=7) as first:
        assert first.max_held == 7
        with pytest.raises(
            shmring.TooManyConsumers, match=r"max_held=4 .* of the 10 slots .*may hold 7\. Ask.*spares=8"
        ):
            ring.consumer(lossless=False, max_held=4)
        with ring.consumer(lossless=False, max_held=3) as second:
            assert second.max_held == 3
        assert ring.stats().consumers[0].label == ""
    with pytest.raises(ValueError, match="lossless=False"):
        ring.consumer(max_held=2)
    for wrong in (0, -1, 1 << 40):
        with pytest.raises(ValueError, match="max_held"):
            ring.consumer(lossless=False, max_held=wrong)
    with pytest.raises(TypeError, match="max_held"):
        ring.consumer(lossless=False, max_held="2")
    assert ring.stats().consumers == ()
    with ring.consumer() as lossless:
        assert lossless.max_held is None


def test_a_frame_that_is_held_costs_no_swap_where_there_are_spare_slots(make):
    ring = make(slots=4, spares=2)
    assert (ring.slots, ring.spares) == (4, 2)
    with ring.producer(on_full="raise") as producer, ring.consumer() as recorder:
        with ring.consumer(lossless=False) as viewer:
            feed(producer, 2)
            held = [viewer.get(0), viewer.get(0)]
            recorder.get(0).release()
            recorder.get(0).release()
            for seq in range(2, 10 * ring.slots):
                feed(producer, 1)
                assert check(recorder.get(0)) == seq
            assert [check(frame) for frame in held] == [0, 1]
            assert ring.stats().swaps == 0
            del held
        for seq in range(10 * ring.slots, 12 * ring.slots):
            feed(producer, 1)
            assert check(recorder.get(0)) == seq
        feed(producer, ring.slots)
        assert len(recorder.batch(ring.slots)) == ring.slots  # every slot is at home again


@pytest.mark.event("a consumer waits for a frame that cannot come because it holds the slots itself")
def test_a_consumer_that_holds_every_slot_is_told_at_once(ring):
    with ring.producer(on_full="raise") as producer, ring.consumer() as consumer:
        feed(producer, ring.slots)
        held = [consumer.get(0) for _ in range(ring.slots)]
        with pytest.raises(shmring.RingFull):
            producer.put(payload(0))
        for wait in (consumer.get, consumer.try_get, consumer.latest, lambda: consumer.batch(1)):
            with pytest.raises(shmring.SlotsHeld, match=str(ring.slots)):
                wait()
        assert consumer.delivered == ring.slots
        held.pop().release()
        feed(producer, 1)
        assert check(consumer.get(0)) == ring.slots
        assert [check(frame) for frame in held] == list(range(ring.slots - 1))


# ---- no leak


def test_nothing_is_kept_of_a_frame_that_is_gone(ring, lossless):
    with ring.producer() as producer, ring.consumer(lossless=lossless) as consumer:
        feed(producer, 1)
        frame = consumer.get(0)
        array = frame.array
        gone = weakref.ref(array)
        del frame
        assert gone() is array
        del array
        assert gone() is None


def test_no_references_leak(make, lossless):
    ring = make(slots=12)
    with ring.producer() as producer, ring.consumer(lossless=lossless) as consumer:

        def once():
            feed(producer, 2)
            frame = consumer.get(0)
            view = memoryview(frame)
            assert view.nbytes == frame.array.nbytes
            np.asarray(frame)
            np.from_dlpack(frame)
            del view
            frame.release()
            consumer.latest(0)
            feed(producer, 3)
            batch = consumer.batch(3)
            batch.array, batch.seqs, batch.timestamps_ns  # noqa: B018
            with producer.claim() as slot:
                slot.array[0] = 1
            consumer.get(0)
            with contextlib.suppress(shmring.RingEmpty):
                consumer.get(0)

        for _ in range(50):
            once()
        gc.collect()
        counts = [sys.getrefcount(thing) for thing in (ring, producer, consumer)]
        blocks = sys.getallocatedblocks()
        for _ in range(1000):
            once()
        gc.collect()
        assert [sys.getrefcount(thing) for thing in (ring, producer, consumer)] == counts
        assert sys.getallocatedblocks() - blocks < 100


def test_frames_in_a_cycle_are_collected(ring):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        cycle = [consumer.get(0)]
        cycle.append(cycle)
        assert consumer.held == 1
        del cycle
        gc.collect()
        assert consumer.held == 0


def test_frames_may_die_in_another_thread(make, lossless):
    ring = make(slots=16)
    with ring.producer(on_full="wait") as producer, ring.consumer(lossless=lossless) as consumer:
        hand_over = queue.Queue()

        def finish():
            while (frame := hand_over.get()) is not None:
                check(frame)
                if not GIL:
                    frame.release()  # there, the array would go when this thread next runs: docs/threads.md
                del frame

        threads = [threading.Thread(target=finish) for _ in range(3)]
        for thread in threads:
            thread.start()
        for seq in range(2000):
            producer.put(payload(seq), timeout=10)
            hand_over.put(consumer.get(10))
        for _ in threads:
            hand_over.put(None)
        for thread in threads:
            thread.join()
        assert (consumer.held, consumer.lost, consumer.delivered) == (0, 0, 2000)
