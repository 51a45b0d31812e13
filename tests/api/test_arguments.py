"""What is given wrongly to handles is refused by name: constructors, flags, arrays; and threads that meet."""

import itertools
import re

import numpy as np
import pytest

import shmring
from support.blocks import block_file
from support.frames import feed, payload
from support.threads import Running

# ---- constructors


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("Ring", r"Ring.create\(...\) or Ring.attach\(name\)"),
        ("Producer", r"Ring.producer\(\)"),
        ("Consumer", r"Ring.consumer\(\)"),
        ("Observer", r"Ring.observer\(\)"),
        ("Frame", "from a Consumer"),
        ("Batch", "from a Consumer"),
        ("Slot", r"Producer.claim\(\)"),
        ("Buffers", r"Producer.buffers\(\)"),
    ],
)
@pytest.mark.parametrize("arguments", [(), ("camera",), (1, 2, 3)], ids=len)
def test_a_constructor_names_the_right_call(kind, words, arguments):
    with pytest.raises(TypeError, match=words):
        getattr(shmring, kind)(*arguments)
    with pytest.raises(TypeError, match=words):
        getattr(shmring, kind)(name="camera")


@pytest.mark.parametrize("arguments", [("cam", (480, 640), "u1", 8), ("cam", (480, 640))], ids=len)
def test_create_with_positional_arguments_shows_how_to_write_it(arguments):
    with pytest.raises(TypeError, match=r'Ring.create\("camera", shape='):
        shmring.Ring.create(*arguments)


@pytest.mark.parametrize("value", ["lossy", "", 1, 0, None, [], np.int8(1)], ids=repr)
def test_a_flag_is_a_bool(ring, name, value):
    create = {"shape": (4,), "dtype": "u1", "slots": 2}
    for call in (
        lambda: ring.consumer(lossless=value),
        lambda: ring.consumer(wait_for_takeover=value),
        lambda: shmring.Ring.attach(ring.name, readonly=value),
        *(
            lambda flag=flag: shmring.Ring.create(name, **create, **{flag: value})
            for flag in ("exist_ok", "variable_rows", "prefault", "lock_memory")
        ),
    ):
        with pytest.raises(TypeError, match="must be True or False, not "):
            call()
    assert ring.stats().consumers == ()
    assert not block_file(name).exists()


@pytest.mark.parametrize("value", ["always", 1, 0, []], ids=repr)
def test_huge_pages_are_asked_for_by_a_bool(name, value):
    with pytest.raises(TypeError, match="huge_pages must be True or False, not "):
        shmring.Ring.create(name, shape=(4,), dtype="u1", slots=2, huge_pages=value)
    assert not block_file(name).exists()


def test_a_bool_of_numpy_is_a_flag(ring):
    with ring.consumer(lossless=np.bool_(False)) as consumer:
        assert consumer.lossless is False


# ---- arrays


def test_masked_arrays_are_refused(ring):
    masked = np.ma.array(payload(0), mask=False)
    with ring.producer() as producer, ring.consumer() as consumer:
        for call in (
            lambda: producer.put(masked),
            lambda: producer.put(masked, casting="unsafe"),
            lambda: producer.put_many(masked[None]),
            lambda: producer.put_many([masked, masked]),
            lambda: producer.put(np.ma.masked),
        ):
            with pytest.raises(ValueError, match=r"mask.*filled"):
                call()
        assert consumer.try_get() is None
        assert producer.put(masked.data)


CASTINGS = ["no", "equiv", "safe", "same_kind", "unsafe"]
OTHER_SHAPES = [(), (1,), (4,), (4, 1), (3, 4, 4), (16,), (4, 5)]
FEWER_ROWS = [(1, 4), (0, 4)]


@pytest.mark.parametrize("rows", [False, True])
def test_no_casting_broadcasts(make, rows):
    ring = make(shape=(4, 4), dtype="f8", variable_rows=rows)
    shapes = OTHER_SHAPES if rows else OTHER_SHAPES + FEWER_ROWS
    with ring.producer() as producer:
        for casting, shape, dtype in itertools.product(CASTINGS, shapes, ["f8", "f4"]):
            for put, array in (
                (producer.put, np.zeros(shape, dtype)),
                (producer.put_many, np.zeros((2, *shape), dtype)),
            ):
                with pytest.raises(ValueError, match="shape") as caught:
                    put(array, casting=casting)
                assert "casting=" not in str(caught.value)
        assert producer.next_seq == 0


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize(
    ("given", "dtype", "casting"),
    [
        ("f4", "f8", "safe"),
        (">f8", "<f8", "equiv"),
        ("f8", "f4", "same_kind"),
        ("f8", "u1", "unsafe"),
        ("i8", "u1", "unsafe"),
    ],
)
def test_the_advice_of_an_error_works(make, given, dtype, casting, many):
    ring = make(shape=(4,), dtype=dtype)
    array = np.arange(4).astype(given)
    with ring.producer() as producer, ring.consumer() as consumer:

        def put(array, **options):
            producer.put_many(array[None], **options) if many else producer.put(array, **options)

        with pytest.raises(ValueError, match=f'casting="{casting}"') as caught:
            put(array)
        put(array, casting=casting)
        if casting == "unsafe":
            assert "array.astype(" in str(caught.value)
            put(array.astype(dtype))
        assert consumer.get(0).array.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", ["u1", ">i2", "M8[ns]", [("a", "u1"), ("b", "f4")]], ids=str)
def test_the_conversion_that_an_error_advises_is_python(make, dtype):
    ring = make(shape=(4,), dtype=dtype)
    array = np.arange(4.0)
    with ring.producer() as producer:
        with pytest.raises(ValueError, match="unless you ask for it") as caught:
            producer.put(array)
        advised = re.search(r"array\.astype\(.*\)(?=\), which)", str(caught.value))[0]
        assert producer.put(eval(advised, {"array": array, "ring": ring}))


def test_one_frame_and_many_are_told_apart(ring):
    with ring.producer() as producer:
        with pytest.raises(ValueError, match=r"put_many\(\) takes many"):
            producer.put(np.stack([payload(0)] * 2))
        with pytest.raises(ValueError, match=r"put\(\) takes one"):
            producer.put_many(payload(0))


def test_whatever_numpy_takes_as_an_array_can_be_put(make):
    class Tensor:
        def __array__(self, dtype=None, copy=None):
            return np.arange(4, dtype="i8")

    ring = make(shape=(4,), dtype="i8", slots=8)
    with ring.producer() as producer, ring.consumer() as consumer:
        for one in ([0, 1, 2, 3], (0, 1, 2, 3), Tensor(), memoryview(np.arange(4)), np.arange(8)[::2] // 2):
            assert producer.put(one)
            frame = consumer.get(0)
            assert frame.array.tolist() == [0, 1, 2, 3]
            assert producer.put_many([frame])
            consumer.get(0)


@pytest.mark.parametrize("casting", ["bogus", None, 5])
def test_an_unknown_casting_is_refused_although_nothing_is_cast(ring, casting):
    with ring.producer() as producer:
        for call in (producer.put, lambda array, **options: producer.put_many(array[None], **options)):
            with pytest.raises((ValueError, TypeError)):
                call(payload(0), casting=casting)
        assert producer.next_seq == 0


# ---- threads


@pytest.mark.parametrize("what", ["observer", "windows", "iter"])
def test_a_call_beside_another_is_refused(ring, what):
    with ring.consumer() as consumer, ring.observer() as observer:
        windows, frames = consumer.windows(2), consumer.iter(20)
        call = {
            "observer": lambda: observer.get(20),
            "windows": lambda: next(windows),
            "iter": lambda: next(frames),
        }[what]
        waiting = Running(call).asleep()
        with pytest.raises(shmring.HandleBusy):
            call()
        with ring.producer() as producer:
            feed(producer, 2)
            assert waiting.end().error is None


def test_an_observer_is_closed_under_a_thread_that_waits(ring):
    observer = ring.observer()
    waiting = Running(lambda: observer.get(20)).asleep()
    observer.close()
    assert isinstance(waiting.end().error, ValueError)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_an_observer_works_in_a_child_though_a_thread_was_inside_at_the_fork(ring, fork):
    with ring.observer() as observer:
        waiting = Running(lambda: observer.get(20)).asleep()
        child = fork(lambda send: send(observer.get(20).seq))
        with ring.producer() as producer:
            feed(producer, 1)
            assert child.receive() == 0
            assert waiting.end().error is None


def test_a_descriptor_that_is_gone_is_no_cut_file(ring):
    """Another thread closes the handle while a message about it is written."""
    with pytest.raises(shmring.RingClosed, match="closed by another thread"):
        ring._block.status(-1)
    with pytest.raises(shmring.RingClosed, match="closed by another thread"):
        ring._block.place_statuses(-1)
