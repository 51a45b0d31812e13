"""MessageQueue: objects of every size, in order, to every reader; errors that say what to do."""

import doctest
import gc
import os
import pickle
import random
import re
import signal
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest

import shmring
from shmring import _core, broadcast
from shmring._packing import Arrival
from shmring.broadcast import MessageQueue
from support.blocks import SHM
from support.threads import Running
from support.waiting import PATIENCE, settle, wait_until

CHUNK = 4096 - 64  # with its header a page


@pytest.fixture
def queue(nothing_left_behind, name):
    """`queue(readers=2)`: a writer, then its readers, all of which are closed at the end."""
    opened = []

    def make(readers=1, chunks=4, **options):
        writer = MessageQueue(readers, max_chunk_bytes=CHUNK, max_chunks=chunks, name=name, **options)
        opened.append(writer)
        handle = pickle.loads(pickle.dumps(writer.export_handle()))
        opened.extend(MessageQueue.create_from_handle(handle, rank) for rank in range(readers))
        return opened[-1 - readers :]

    yield make
    for one in opened:
        one.close()


def join(writer, rank=0):
    return MessageQueue.create_from_handle(writer.export_handle(), rank)


def object_of(nbytes, seed=0):
    """An object whose arrays have so many bytes."""
    data = np.random.default_rng(seed).integers(0, 256, nbytes, "u1")
    return {"seed": seed, "one": data[: nbytes // 3].copy(), "other": data[nbytes // 3 :].copy()}


def check(found, nbytes, seed=0):
    wanted = object_of(nbytes, seed)
    assert found["seed"] == seed
    np.testing.assert_array_equal(found["one"], wanted["one"])
    np.testing.assert_array_equal(found["other"], wanted["other"])


# ---- objects


def test_every_reader_gets_every_object_in_order(queue):
    writer, *readers = queue(3)
    for number in range(4):
        writer.enqueue({"number": number})
    for reader in readers:
        assert [reader.dequeue(PATIENCE) for _ in range(4)] == [{"number": n} for n in range(4)]


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("nbytes", [0, 1, CHUNK - 400, CHUNK, 2 * CHUNK, 4 * CHUNK - 400])
def test_an_object_may_take_several_chunks(queue, nbytes, copy):
    writer, reader = queue()
    for seed in range(6):
        writer.enqueue(object_of(nbytes, seed), timeout=0)
        check(reader.dequeue(0, copy=copy), nbytes, seed)
        settle()


@pytest.mark.parametrize("chunks", [1, 5, 300])
def test_an_object_may_be_larger_than_the_ring(queue, chunks):
    writer, *readers = queue(2)
    running = [
        Running(lambda reader=reader: [reader.dequeue(PATIENCE) for _ in range(3)]) for reader in readers
    ]
    for seed in range(3):
        writer.enqueue(object_of(chunks * CHUNK, seed), PATIENCE)
    for one in running:
        assert one.end().error is None
        for seed, found in enumerate(one.value):
            check(found, chunks * CHUNK, seed)


def test_in_band_objects_may_be_larger_than_a_chunk(queue):
    writer, reader = queue()
    for value in [b"x" * 3 * CHUNK, ["word"] * CHUNK, np.arange(900).astype("M8[s]")[::2]]:
        running = Running(lambda: reader.dequeue(PATIENCE))
        writer.enqueue(value, PATIENCE)
        found = running.end().value
        np.testing.assert_array_equal(found, value)
        assert type(found) is type(value)


def test_broadcast_object_is_the_same_call_in_all_processes(queue):
    writer, *readers = queue(2)
    sent = ["x"]
    assert writer.broadcast_object(sent) is sent
    assert [reader.broadcast_object() for reader in readers] == [["x"], ["x"]]


def test_none_is_an_object(queue):
    writer, reader = queue()
    writer.broadcast_object()
    assert reader.dequeue(0) is None


def test_the_object_that_comes_out_is_yours(queue):
    writer, reader = queue()
    writer.enqueue([np.arange(5)])
    (found,) = reader.dequeue(0)
    found[:] = 1
    for number in range(20):  # round and round, while it is kept
        writer.enqueue(number, 0)
        assert reader.dequeue(0) == number
    assert found.tolist() == [1] * 5


def test_the_sender_may_change_its_object_at_once(queue):
    writer, reader = queue()
    data = np.arange(5)
    writer.enqueue(data)
    data[:] = 0
    assert reader.dequeue(0).tolist() == [0, 1, 2, 3, 4]


def test_without_a_copy_arrays_are_views_that_keep_their_chunk(queue):
    writer, reader = queue()
    writer.enqueue(np.arange(100))
    view = reader.dequeue(0, copy=False)
    assert not view.flags.writeable
    (row,) = [one for one in reader._ring.stats().consumers if one.label == "rank 0"]
    assert row.held == 1
    for number in range(20):
        writer.enqueue(number, 0)
        assert reader.dequeue(0) == number
    assert view.tolist() == list(range(100))


def test_without_a_copy_a_large_object_is_read_only_too(queue):
    writer, reader = queue()
    writer.enqueue(np.zeros(3 * CHUNK, "u1"))
    assert not reader.dequeue(0, copy=False).flags.writeable


def test_views_of_all_chunks_are_slots_held(queue):
    writer, reader = queue(chunks=2)
    kept = []
    while len(kept) < writer._ring.slots:
        writer.enqueue(np.arange(10), 0)
        kept.append(reader.dequeue(0, copy=False))
    with pytest.raises(shmring.SlotsHeld):
        reader.dequeue(PATIENCE)
    with pytest.raises(shmring.RingFull, match=f"label 'rank 0': 0 not read, {len(kept)} kept"):
        writer.enqueue(1, 0)


def test_functions_with_cloudpickle(queue):
    cloudpickle = pytest.importorskip("cloudpickle")
    writer, reader = queue(pickler=cloudpickle.Pickler)
    writer.enqueue(lambda x: x + 1)
    assert reader.dequeue(0)(1) == 2


# ---- errors of objects


class Unpickles:
    def __reduce__(self):
        return int, ("no number",)


class Grows:
    """Fails to be pickled, with an array before it."""

    def __reduce__(self):
        raise RuntimeError("not me")


@pytest.mark.parametrize("nbytes", [10, 10 * CHUNK])
def test_what_cannot_be_pickled_leaves_nothing_behind(queue, nbytes):
    writer, reader = queue()
    writer.enqueue("before")
    with pytest.raises(RuntimeError, match="not me"):
        writer.enqueue([np.zeros(nbytes, "u1"), Grows()])
    writer.enqueue("behind")
    assert [reader.dequeue(0), reader.dequeue(0)] == ["before", "behind"]
    with pytest.raises(shmring.RingEmpty):
        reader.dequeue(0)


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("nbytes", [10, 2 * CHUNK])
def test_what_cannot_be_unpickled_loses_itself_alone(queue, nbytes, copy):
    writer, reader = queue()
    kept = []
    for number in range(12):  # more than there are chunks: none is kept by a traceback
        writer.enqueue([np.zeros(nbytes, "u1"), Unpickles()], 0)
        with pytest.raises(ValueError, match="no number") as info:
            reader.dequeue(0, copy=copy)
        kept.append(info)
        writer.enqueue(number, 0)
        assert reader.dequeue(0) == number
    del info, kept


def test_an_object_that_uses_the_queue_while_it_is_pickled_is_refused(queue):
    writer, reader = queue()

    class Nested:
        def __reduce__(self):
            writer.enqueue(1)
            raise AssertionError

    with pytest.raises(shmring.HandleBusy):
        writer.enqueue(Nested())
    writer.enqueue(2)
    assert reader.dequeue(0) == 2


# ---- large objects that are cut short


def test_an_object_whose_rest_finds_no_space_reaches_nobody(queue):
    writer, *readers = queue(2)
    with pytest.raises(shmring.RingFull, match=r"rank [01]"):
        writer.enqueue(object_of(10 * CHUNK), timeout=0)
    for reader in readers:
        with pytest.raises(shmring.RingEmpty):
            reader.dequeue(0)
    writer.enqueue("next", 0)
    running = [
        Running(lambda reader=reader: [reader.dequeue(PATIENCE) for _ in range(2)]) for reader in readers
    ]
    writer.enqueue(object_of(10 * CHUNK, 7), PATIENCE)
    for one in running:
        first, second = one.end().value
        assert first == "next"
        check(second, 10 * CHUNK, 7)


def test_a_large_object_that_is_cut_short_and_another_behind_it(queue):
    writer, reader = queue()
    with pytest.raises(shmring.RingFull):
        writer.enqueue(object_of(10 * CHUNK), timeout=0)
    running = Running(lambda: reader.dequeue(PATIENCE))
    writer.enqueue(object_of(10 * CHUNK, 7), PATIENCE)
    check(running.end().value, 10 * CHUNK, 7)


def test_what_has_come_of_a_large_object_is_kept_at_a_timeout(queue):
    writer, reader = queue()
    running = Running(lambda: writer.enqueue(object_of(20 * CHUNK), PATIENCE))
    tries = 0
    while True:
        try:
            found = reader.dequeue(0)
            break
        except shmring.RingEmpty:
            tries += 1
    running.end()
    check(found, 20 * CHUNK)


def test_a_reader_that_fails_in_the_middle_loses_that_object_alone(queue, monkeypatch):
    writer, reader = queue()
    add, parts = Arrival.add, []

    def fail_at_the_third(arrival, part):
        parts.append(len(part))
        if len(parts) == 3:
            raise MemoryError
        add(arrival, part)

    monkeypatch.setattr(Arrival, "add", fail_at_the_third)
    running = Running(lambda: [writer.enqueue(object_of(20 * CHUNK, seed), PATIENCE) for seed in range(2)])
    with pytest.raises(MemoryError):
        reader.dequeue(PATIENCE)
    check(reader.dequeue(PATIENCE), 20 * CHUNK, 1)
    running.end()


def test_the_writer_closes_in_the_middle_of_an_object(queue):
    writer, reader = queue()
    running = Running(lambda: writer.enqueue(object_of(20 * CHUNK)))
    running.asleep()
    writer.close()
    assert isinstance(running.end().error, shmring.RingClosed)
    with pytest.raises(shmring.RingClosed):
        reader.dequeue(PATIENCE)


# ---- joining


def test_objects_wait_for_readers_that_have_not_joined(queue):
    writer, first = queue(1, chunks=4)
    writer.enqueue("early")
    assert first.dequeue(0) == "early"


def test_nothing_is_lost_before_all_have_joined(nothing_left_behind, name):
    with (
        MessageQueue(2, max_chunk_bytes=CHUNK, max_chunks=4, name=name) as writer,
        join(writer, 0) as one,
    ):
        slots = writer._ring.slots
        for number in range(slots):
            writer.enqueue(number, 0)
            assert one.dequeue(0) == number
        with pytest.raises(shmring.TooFewConsumers, match=r"1 of 2 readers .*: rank 1"):
            writer.enqueue("too many", 0)
        with pytest.raises(shmring.TooFewConsumers, match="rank 1"):
            writer.wait_until_ready(0)
        with join(writer, 1) as other:
            writer.wait_until_ready(0)
            assert writer.readers == [0, 1]
            assert [other.dequeue(0) for _ in range(slots)] == list(range(slots))
            writer.enqueue("now", 0)
            assert one.dequeue(0) == other.dequeue(0) == "now"


def test_a_large_object_waits_for_readers(nothing_left_behind, name):
    with MessageQueue(1, max_chunk_bytes=CHUNK, max_chunks=4, name=name) as writer:
        running = Running(lambda: writer.enqueue(object_of(10 * CHUNK), PATIENCE)).asleep()
        with join(writer) as reader:
            check(reader.dequeue(PATIENCE), 10 * CHUNK)
        assert running.end().error is None


def test_wait_until_ready_waits(nothing_left_behind, name):
    with MessageQueue(2, max_chunk_bytes=CHUNK, name=name) as writer:
        running = Running(lambda: writer.wait_until_ready(PATIENCE))
        with join(writer, 0) as one, join(writer, 1):
            one.wait_until_ready(0)
            assert running.end().error is None


def test_another_consumer_of_the_ring_is_no_reader(nothing_left_behind, name):
    with (
        MessageQueue(1, max_chunk_bytes=CHUNK, name=name) as writer,
        shmring.Ring.attach(name) as ring,
        ring.consumer(lossless=False),
    ):
        with pytest.raises(shmring.TooFewConsumers, match="rank 0"):
            writer.wait_until_ready(0)
        with join(writer):
            writer.wait_until_ready(PATIENCE)


def test_a_reader_that_joins_again_gets_what_comes_next(queue):
    writer, one, other = queue(2)
    writer.enqueue("a")
    one.close()
    writer.enqueue("b")
    with join(writer, 0) as again:
        writer.enqueue("c")
        assert again.dequeue(0) == "c"
    assert [other.dequeue(0) for _ in range(3)] == ["a", "b", "c"]


def test_no_readers_at_all(queue):
    (writer,) = queue(0)
    writer.wait_until_ready(0)
    for number in range(10):
        writer.enqueue(number, 0)
    assert writer.readers == []


def test_ranks_are_those_that_were_named(nothing_left_behind, name):
    with MessageQueue(2, 2, local_reader_ranks=[3, 5], max_chunk_bytes=CHUNK, name=name) as writer:
        assert writer.export_handle().local_reader_ranks == (3, 5)
        with join(writer, 5), join(writer, 3):
            assert writer.readers == [3, 5]
        with pytest.raises(ValueError, match=r"one of \[3, 5\], not 0"):
            join(writer, 0)


def test_two_readers_of_one_rank_are_refused(queue):
    writer, reader = queue()
    with pytest.raises(ValueError, match=f"rank 0 has joined already: pid {os.getpid()}"):
        join(writer, 0)
    writer.enqueue(1)
    assert reader.dequeue(0) == 1


@pytest.mark.parametrize("rank", [0.0, False, "0", None])
def test_a_rank_is_an_int(nothing_left_behind, name, rank):
    with MessageQueue(1, max_chunk_bytes=CHUNK, name=name) as writer:
        with pytest.raises(TypeError, match="rank must be an int"):
            MessageQueue.create_from_handle(writer.export_handle(), rank)
        with MessageQueue.create_from_handle(writer.export_handle(), np.int64(0)):
            assert writer.readers == [0]


@pytest.mark.parametrize(("chunks", "nbytes"), [(2, 64), (3, 1000), (4, 4096), (16, 1 << 16)])
def test_a_reader_lags_behind_by_as_many_chunks_as_asked_for(nothing_left_behind, name, chunks, nbytes):
    with (
        MessageQueue(1, max_chunk_bytes=nbytes, max_chunks=chunks, name=name) as writer,
        MessageQueue.create_from_handle(writer.export_handle(), 0),
    ):
        for number in range(chunks):
            writer.enqueue(number, 0)
        with pytest.raises(shmring.RingFull):
            writer.enqueue(chunks, 0)


def test_a_queue_that_is_gone(queue):
    writer, _ = queue()
    writer.close()
    with pytest.raises(shmring.RingNotFound, match=f"queue {writer.name!r} is gone: its writer closed it"):
        join(writer)


# ---- waits


def test_timeouts(queue):
    writer, reader = queue()
    for timeout in (0, 0.001):
        said = f"no object in the queue {writer.name!r} within {timeout} s; its writer (pid {os.getpid()}, "
        for cancel in (None, threading.Event()):
            with pytest.raises(shmring.RingEmpty, match=re.escape(said)):
                reader.dequeue(timeout, cancel)
    for _ in range(writer._ring.slots):
        writer.enqueue(1, 0)
    for timeout in (0, 0.001):
        with pytest.raises(shmring.RingFull, match=f"label 'rank 0': {writer._ring.slots} not read, 0 kept"):
            writer.enqueue(1, timeout)


def test_a_waiting_reader_is_asleep_and_woken(queue):
    writer, reader = queue()
    running = Running(reader.dequeue).asleep()
    writer.enqueue(1)
    assert running.end().value == 1


@pytest.mark.parametrize("options", [{"cancel": threading.Event()}, {"indefinite": True}])
def test_waits_with_options_get_objects(queue, options):
    writer, reader = queue()
    running = Running(lambda: reader.dequeue(**options)).asleep()
    writer.enqueue(1)
    assert running.end().value == 1


def test_a_wait_can_be_cancelled(queue):
    writer, reader = queue()
    cancel = threading.Event()
    running = Running(lambda: reader.dequeue(cancel=cancel)).asleep()
    cancel.set()
    assert isinstance(running.end().error, RuntimeError)
    writer.enqueue(1)
    with pytest.raises(RuntimeError, match="cancelled"):
        reader.dequeue(cancel=cancel)
    cancel.clear()
    assert reader.dequeue(0, cancel) == 1


@pytest.mark.parametrize("name_of_it", ["close", "shutdown"])
def test_closing_ends_the_wait_of_another_thread(queue, name_of_it):
    _, reader = queue()
    running = Running(reader.dequeue).asleep()
    getattr(reader, name_of_it)()
    assert isinstance(running.end().error, shmring.RingClosed)


def test_two_threads_are_refused(queue):
    writer, reader = queue()
    running = Running(reader.dequeue).asleep()
    with pytest.raises(shmring.HandleBusy):
        reader.dequeue(0)
    writer.enqueue(1)
    running.end()


def test_a_long_wait_is_logged_unless_it_is_normal(queue, monkeypatch, caplog):
    monkeypatch.setattr(_core, "patience", 0.001)
    writer, one, other = queue(2)
    quiet = Running(lambda: one.dequeue(indefinite=True)).asleep()
    logged = Running(other.dequeue)
    wait_until(lambda: caplog.records, "the wait is logged")
    writer.enqueue(1)
    assert quiet.end().value == logged.end().value == 1
    assert {record.thread for record in caplog.records} == {logged.ident}


def test_a_long_wait_for_readers_is_logged(nothing_left_behind, name, monkeypatch, caplog):
    monkeypatch.setattr(_core, "patience", 0.001)
    with MessageQueue(1, max_chunk_bytes=CHUNK, name=name) as writer:
        running = Running(writer.wait_until_ready)
        wait_until(lambda: caplog.records, "the wait is logged")
        with join(writer):
            running.end()
    assert "1 of 1 readers have not joined" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in callbacks of weakref
@pytest.mark.parametrize("nbytes", [10, 3 * CHUNK])
def test_interrupts_at_any_moment(queue, nbytes):
    """None leaves the queue busy or an object half read; what arrives is whole, and in order."""
    writer, reader = queue()
    draw, seeds = random.Random(1), []
    armed = False

    def interrupt(number, frame):
        if armed:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for seed in range(400):
            sent, found = object_of(nbytes, seed), None
            signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-6, 3e-4))
            try:
                armed = True
                writer.enqueue(sent, 0)
                found = reader.dequeue(0)
                armed = False
            except KeyboardInterrupt:
                armed = False
            while True:
                try:
                    found = found or reader.dequeue(0)
                except shmring.RingEmpty:  # an interrupt may have cost this one
                    break
                check(found, nbytes, found["seed"])
                seeds.append(found["seed"])
                found = None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert seeds == sorted(set(seeds))
    writer.enqueue("still works", 0)
    assert reader.dequeue(0) == "still works"


# ---- ends


def test_readers_get_the_rest_then_the_end(queue):
    writer, reader = queue()
    writer.enqueue(1)
    writer.close()
    assert reader.dequeue(0) == 1
    for _ in range(2):
        with pytest.raises(shmring.RingClosed, match=f"the writer of the queue {writer.name!r} closed it"):
            reader.dequeue(PATIENCE)


def test_the_end_by_an_error_is_told_apart(queue):
    writer, reader = queue()
    writer.enqueue(1)
    with pytest.raises(KeyError), writer:
        raise KeyError("gone")
    assert reader.dequeue(0) == 1
    with pytest.raises(
        shmring.ProducerFailed, match=r"writer of the queue .* failed: KeyError: 'gone'"
    ) as info:
        reader.dequeue(0)
    assert info.value.failure == "KeyError: 'gone'"


def test_a_closed_queue_is_refused(queue):
    writer, reader = queue()
    reader.close()
    reader.close()
    with pytest.raises(shmring.RingClosed):
        reader.dequeue(0)
    writer.close()
    writer.close()
    with pytest.raises(shmring.RingClosed):
        writer.enqueue(1)
    for one in (writer, reader):
        with pytest.raises(shmring.RingClosed):
            one.wait_until_ready(0)
        assert "closed" in repr(one)


def test_the_name_goes_with_the_writer(queue, name):
    writer, reader = queue()
    assert name in os.listdir(SHM)
    reader.close()
    assert name in os.listdir(SHM)
    writer.close()
    assert name not in os.listdir(SHM)


def test_a_queue_that_nobody_closed_warns_and_leaves_nothing(nothing_left_behind, name):
    writer = MessageQueue(1, max_chunk_bytes=CHUNK, name=name)
    reader = join(writer)
    with pytest.warns(ResourceWarning, match="unclosed MessageQueue"):  # noqa: PT031
        del writer
        gc.collect()
    assert name not in os.listdir(SHM)
    with pytest.raises(shmring.RingClosed):
        reader.dequeue(0)
    reader.close()


def test_objects_outlive_the_queue(queue):
    writer, reader = queue()
    writer.enqueue(np.arange(10))
    view = reader.dequeue(0, copy=False)
    reader.close()
    writer.close()
    assert view.tolist() == list(range(10))


# ---- arguments


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"n_reader": -1}, "n_reader must be 0 to 63"),
        ({"n_reader": 64}, "n_reader must be 0 to 63"),
        ({"n_reader": 4, "n_local_reader": 2}, "2 of 4 readers are on this machine"),
        ({"n_reader": 2, "local_reader_ranks": [1]}, "must name 2 readers"),
        ({"n_reader": 2, "local_reader_ranks": [1, 1]}, "must name 2 readers"),
        ({"n_reader": 1, "max_chunk_bytes": 1}, "max_chunk_bytes must be 64"),
        ({"n_reader": 1, "max_chunks": 1}, "max_chunks must be 2"),
        ({"n_reader": 1, "mode": 0o1777}, "mode must be"),
    ],
)
def test_wrong_values(arguments, said):
    with pytest.raises(ValueError, match=said):
        MessageQueue(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [{"n_reader": "2"}, {"n_reader": 1, "local_reader_ranks": ["a"]}, {"n_reader": 1, "pickler": 3}],
)
def test_wrong_types(arguments):
    with pytest.raises(TypeError):
        MessageQueue(**arguments)


def test_wrong_arguments_of_calls(queue):
    writer, reader = queue()
    with pytest.raises(TypeError, match="export_handle"):
        MessageQueue.create_from_handle(writer.name, 0)
    for timeout, error in [(-1, ValueError), ("1", TypeError), (True, TypeError)]:
        for call in (lambda t: writer.enqueue(1, t), reader.dequeue, writer.wait_until_ready):
            with pytest.raises(error, match="timeout must be"):
                call(timeout)
    with pytest.raises(TypeError, match="cancel must be"):
        reader.dequeue(0, True)
    with pytest.raises(TypeError, match="copy must be"):
        reader.dequeue(0, copy=None)
    with pytest.raises(TypeError, match="indefinite must be"):
        reader.dequeue(0, indefinite=1)


def test_the_wrong_end(queue):
    writer, reader = queue()
    with pytest.raises(RuntimeError, match="only readers dequeue"):
        writer.dequeue()
    with pytest.raises(RuntimeError, match="reader of rank 0: only the writer"):
        reader.enqueue(1)


def test_a_queue_is_not_pickled_but_its_handle(queue):
    writer, reader = queue()
    for one in (writer, reader):
        with pytest.raises(TypeError, match=r"export_handle\(\)"):
            pickle.dumps(one)
        assert one.export_handle() == writer.export_handle()


@pytest.mark.parametrize("mode", [None, 0o660])
def test_the_file_mode(queue, name, mode):
    queue(**({} if mode is None else {"mode": mode}))
    assert stat.S_IMODE((SHM / name).stat().st_mode) == (mode or 0o600)


def test_the_example_of_the_docstring():
    found = doctest.DocTestFinder(recurse=False).find(MessageQueue)
    assert [doctest.DocTestRunner().run(one).failed for one in found] == [0]


def test_it_is_imported_when_used():
    code = "import sys, shmring; print('shmring.broadcast' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"


def test_repr(queue):
    writer, reader = queue()
    assert "writer" in repr(writer)
    assert "reader of rank 0" in repr(reader)


def test_readers_that_leave_are_logged(queue, caplog, monkeypatch):
    monkeypatch.setattr(broadcast, "LOOK_AT_READERS", 0)
    writer, one, other = queue(2)
    writer.wait_until_ready(0)
    writer.enqueue(0)
    assert not caplog.records
    other.close()
    writer.enqueue(1)
    writer.enqueue(2)
    assert [record.getMessage() for record in caplog.records] == [
        f"reader of rank 1 is gone from the queue {writer.name!r}: it died or closed. Readers left: 1 of 2"
    ]
    assert [one.dequeue(0) for _ in range(3)] == [0, 1, 2]
