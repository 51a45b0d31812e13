"""RingQueue: what multiprocessing.Queue promises, for arrays; which process is in the way; how it ends."""

import doctest
import gc
import math
import multiprocessing
import os
import pickle
import queue
import re
import subprocess
import sys
import threading
import unittest

import numpy as np
import pytest

import shmring
import shmring.queue
from shmring.queue import RingQueue
from support import children
from support.blocks import SHM
from support.processes import PeerError
from support.waiting import PATIENCE, settle, wait_asleep, wait_until

try:
    from test import _test_multiprocessing as cpython
except ImportError:
    cpython = None

RECORD = np.dtype([("t", "<f8"), ("id", ">u2"), ("pose", "<f4", (2, 3))], align=True)
DTYPES = ["u1", ">f4", "?", "c16", "M8[ns]", "S5", "U3", "V7", RECORD]


def numbers(shape, dtype="i8"):
    """An array whose bytes are all different from zero, as far as its dtype allows."""
    dtype = np.dtype(dtype)
    count = math.prod(shape)
    raw = np.arange(1, count * dtype.itemsize + 1).astype("u1") % 100 + 1
    if dtype.kind == "?":
        raw %= 2
    if dtype.kind == "U":
        raw[np.arange(len(raw)) % 4 != 0] = 0
    return raw.view(dtype).reshape(shape)


def same(found, expected):
    return (found.shape, found.dtype, repr(found.tolist())) == (
        expected.shape,
        expected.dtype,
        repr(expected.tolist()),
    )


@pytest.fixture
def items(nothing_left_behind):
    """A queue of at most four arrays of up to eight int64."""
    made = RingQueue(4, (8,), "i8")
    yield made
    made._part.leave()  # pytest keeps the object for a while


# ---- in another process


def receive(here, pickled):
    """Take part in a queue."""
    here.items = pickle.loads(bytes.fromhex(pickled))


def put(here, *values):
    for value in values:
        here.items.put(np.array([value]))


def get(here, count):
    return [int(here.items.get(timeout=PATIENCE)[0]) for _ in range(count)]


def get_all(here):
    return [int(item[0]) for item in here.items]


def hold(here):
    here.held = here.items.get(timeout=PATIENCE, copy=False)
    return int(here.held[0])


def close(here):
    here.items.close()


@pytest.fixture
def user(peer):
    """`user(items)`: another process that has the queue, which may be pickled already."""

    def start(items):
        other = peer()
        pickled = items if isinstance(items, bytes) else pickle.dumps(items)
        other.run(receive, pickled.hex())
        return other

    return start


# ---- items


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(3, 4), (2, 4), (3, 1), (1, 1), (0, 4), (2, 0)], ids=str)
def test_an_item_comes_out_as_it_went_in(dtype, shape):
    items = RingQueue(2, (3, 4), dtype)
    given = numbers(shape, dtype)
    items.put(given)
    assert items.get(timeout=0).tobytes() == given.tobytes()
    for one in (given, np.asfortranarray(given), given[::-1, ::-1]):
        items.put(one)
        assert same(items.get(timeout=0), one)


def test_bytes_between_fields_are_no_memory_of_the_process():
    dtype = np.dtype([("a", "u1"), ("b", "u8")], align=True)
    items = RingQueue(2, (1000,), dtype)
    items.put(np.zeros(2000, dtype)[::2])
    assert not any(items.get().tobytes())


def test_items_without_an_axis_and_shapes_as_ints():
    scalars = RingQueue(2, (), "f8")
    scalars.put(2.5)
    scalars.put(np.float64(3.5))
    assert [scalars.get(), scalars.get()] == [2.5, 3.5]
    lists = RingQueue(2, 3, "i8")
    lists.put([1, 2])
    assert lists.get().tolist() == [1, 2]


def test_sub_arrays_become_axes():
    items = RingQueue(2, (3,), np.dtype(("f4", (2,))))
    assert (items.shape, items.dtype) == ((3, 2), np.dtype("f4"))


def test_arrays_are_the_getter_s_own(items):
    """It may keep as many as it likes, and write to them: none is in the way of the putter."""
    kept = []
    for value in range(20):
        items.put([value], timeout=0)
        kept.append(items.get())
        kept[-1] += 1
    assert [int(one[0]) for one in kept] == list(range(1, 21))
    assert all(one.flags.writeable for one in kept)


def test_an_array_may_change_as_soon_as_it_was_put(items):
    array = np.array([1])
    items.put(array)
    array[:] = 2
    assert items.get().tolist() == [1]


def test_a_view_is_read_only_and_keeps_its_slot(items):
    for value in range(4):
        items.put([value])
    view = items.get(copy=False)
    assert not view.flags.writeable
    with pytest.raises(queue.Full):
        items.put_nowait([4])
    part = view[:]
    del view
    with pytest.raises(queue.Full, match=rf"pid {os.getpid()}.* holds 1 frame"):
        items.put_nowait([4])
    assert part.tolist() == [0]
    del part
    items.put([4], timeout=0)
    assert [int(items.get()[0]) for _ in range(4)] == [1, 2, 3, 4]


def test_spares_are_for_views():
    items = RingQueue(2, (512,), "i8", spares=3)
    held = []
    for value in range(3):
        items.put([value], timeout=0)
        held.append(items.get(copy=False))
    items.put([3], timeout=0)
    items.put([4], timeout=0)
    assert [int(one[0]) for one in held] == [0, 1, 2]


def test_a_getter_that_keeps_every_slot_is_told_so(items):
    held = []
    for value in range(4):
        items.put([value])
        held.append(items.get(copy=False))
    with pytest.raises(shmring.SlotsHeld):
        items.get()
    del held


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (None, r"None cannot be an item.* close\(\)"),
        ([1.5], r"shape \(1,\) dtype float64, .*up to shape \(8,\) dtype int64.* nothing is cast.*asarray"),
        (np.array([1], ">i8"), "nothing is cast"),
        (["a"], "cannot become"),
        ([object()], "cannot become"),
        ([b"1"], "cannot become"),
        (5, r"shape \(\) .*nothing is reshaped"),
        ([[1]], r"shape \(1, 1\).*nothing is reshaped"),
        (range(9), r"shape \(9,\).*the largest shape"),
        (np.ma.array([1], mask=[True]), "masked array"),
    ],
    ids=str,
)
def test_what_is_no_item_is_refused(items, given, why):
    with pytest.raises(ValueError, match=why):
        items.put(given)
    assert items.empty()
    items.put([7])
    assert items.get().tolist() == [7]


@pytest.mark.parametrize("length", [-2, 2, 1 << 62])
def test_what_somebody_else_put_is_no_item(items, length):
    with items._part.ring.producer() as out:
        out.put(np.zeros(8, "u1"), meta=(length,))
    with pytest.raises(shmring.RingCorrupt, match=f"8 bytes, .*shape \\({length},\\)"):
        items.get()


# ---- sizes


@pytest.mark.parametrize("maxsize", [2, 3, 4, 6, 7, 10, 64, 100])
@pytest.mark.parametrize("nbytes", [1, 100, 5000, 65536])
def test_the_depth_is_what_was_asked_for(maxsize, nbytes):
    items = RingQueue(maxsize, (nbytes,), "u1")
    for value in range(maxsize):
        assert (items.qsize(), items.full(), items.empty()) == (value, False, value == 0)
        items.put_nowait([np.uint8(value)])
    assert (items.maxsize, items.qsize(), items.full(), items.empty()) == (maxsize, maxsize, True, False)
    with pytest.raises(queue.Full):
        items.put_nowait(np.zeros(1, "u1"))
    assert [int(items.get_nowait()[0]) for _ in range(maxsize)] == list(range(maxsize))


@pytest.mark.parametrize(
    ("arguments", "error", "why"),
    [
        ((0, (8,), "i8"), ValueError, "at least 2, not 0"),
        ((1, (8,), "i8"), ValueError, "at least 2, not 1"),
        ((-1, (8,), "i8"), ValueError, "at least 2, not -1"),
        ((1 << 40, (8,), "i8"), ValueError, "maxsize"),
        ((2.0, (8,), "i8"), TypeError, "maxsize"),
        ((4, (0,), "i8"), ValueError, "shape"),
        ((4, (8,), object), (TypeError, ValueError), "object"),
        ((4, "8", "i8"), (TypeError, ValueError), "shape"),
    ],
    ids=str,
)
def test_what_makes_no_queue(arguments, error, why):
    before = set(os.listdir(SHM))
    with pytest.raises(error, match=why):
        RingQueue(*arguments)
    assert set(os.listdir(SHM)) <= before


# ---- waiting


def test_full_says_who_is_in_the_way(items):
    for value in range(4):
        items.put([value])
    for attempt in (
        lambda: items.put_nowait([4]),
        lambda: items.put([4], False, 60),
        lambda: items.put([4], timeout=0),
        lambda: items.put([4], True, 0.001),
        lambda: items.put([4], timeout=-1),
    ):
        with pytest.raises(queue.Full, match=rf"is full: .*pid {os.getpid()}, this process"):
            attempt()
    assert items.qsize() == 4


def test_empty_says_how_the_putter_is(items):
    for attempt in (
        items.get_nowait,
        lambda: items.get(False, 60),
        lambda: items.get(timeout=0),
        lambda: items.get(True, 0.001),
        lambda: items.get(timeout=-1),
    ):
        with pytest.raises(queue.Empty, match="no producer has come yet"):
            attempt()
    items.put([1])
    items.get()
    with pytest.raises(queue.Empty, match="is alive"):
        items.get_nowait()


@pytest.mark.parametrize("call", ["put", "get"])
def test_flags_and_times_are_checked(items, call):
    attempt = items.get if call == "get" else lambda *args, **options: items.put([1], *args, **options)
    with pytest.raises(TypeError, match="block"):
        attempt(5)
    for timeout in ("1", True):
        with pytest.raises(TypeError):
            attempt(timeout=timeout)
    with pytest.raises(ValueError, match="nan"):
        attempt(timeout=math.nan)
    with pytest.raises(TypeError, match="copy"):
        items.get(copy=1)


@pytest.mark.parametrize("timeout", [1e10, 1e300, math.inf])
def test_any_time_may_be_waited(items, timeout):
    items.put([1], timeout=timeout)
    assert items.get(timeout=timeout).tolist() == [1]


def test_a_putter_waits_for_getters_that_are_still_to_come(items, user, fork):
    """Alone in its thread, and the first getter is not there yet: no reason to give up."""

    def put_more_than_there_is_space_for(send):
        for value in range(6):
            items.put([value])
        items.close()

    child = fork(put_more_than_there_is_space_for)
    wait_until(items.full, "the queue is full")
    wait_asleep(child.pid)
    assert user(items).run(get_all) == list(range(6))
    assert child.wait() == 0


def test_a_long_wait_is_reported(items, monkeypatch, caplog):
    monkeypatch.setattr(shmring._core, "patience", 0.01)
    for value in range(4):
        items.put([value])
    thread = threading.Thread(target=items.put, args=([4],))
    thread.start()
    wait_until(lambda: "put is still waiting: ring" in caplog.text, "the notice")
    items.get()
    thread.join()
    assert items.qsize() == 4


def test_threads_put_and_get(items):
    """Those that put take turns; each of those that get waits for itself."""
    found = []
    getters = [threading.Thread(target=lambda: found.extend([items.get() for _ in range(50)]))
               for _ in range(3)]  # fmt: skip
    putters = [threading.Thread(target=lambda of: [items.put([of]) for _ in range(50)], args=(of,))
               for of in range(3)]  # fmt: skip
    for thread in [*getters, *putters]:
        thread.start()
    for thread in [*getters, *putters]:
        thread.join()
    assert sorted(int(item[0]) for item in found) == [0] * 50 + [1] * 50 + [2] * 50


def test_a_thread_that_waits_for_space_holds_no_other_one_up(items):
    for value in range(4):
        items.put([value])
    thread = threading.Thread(target=items.put, args=([4],))
    thread.start()
    wait_asleep(os.getpid(), thread.native_id)
    with pytest.raises(queue.Full, match="another thread"):
        items.put_nowait([5])
    with pytest.raises(queue.Full, match="another thread"):
        items.put([5], timeout=0.001)
    items.get()
    thread.join()
    assert [int(items.get()[0]) for _ in range(4)] == [1, 2, 3, 4]


# ---- processes

# A fork server's children end like forks: by default, test_children_share has one.
most_start_methods = pytest.mark.parametrize(
    "context", ["spawn", "fork", pytest.param("forkserver", marks=pytest.mark.stress)], indirect=True
)


@pytest.fixture
def started():
    """Starts processes of multiprocessing, and ends them."""
    running = []

    def start(context, target, *arguments):
        running.append(context.Process(target=target, args=arguments))
        running[-1].start()
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.join()
        process.close()


@pytest.mark.slow
@most_start_methods
def test_a_child_puts(context, started, items):
    child = started(context, children.put_numbers, items, 50)
    assert [int(item[0]) for item in items] == list(range(50))
    child.join(PATIENCE)
    assert child.exitcode == 0


@pytest.mark.slow
def test_children_share(context, started, items):
    mine, theirs = context.Pipe(duplex=False)
    with mine, theirs:
        for _ in range(2):
            started(context, children.send_numbers, items, theirs)
        for value in range(50):
            items.put([value])
        items.close()
        assert sorted(mine.recv() + mine.recv()) == list(range(50))


def test_two_getters_never_get_the_same(items, user):
    one, other = user(items), user(items)
    for value in range(4):
        items.put([value])
    assert sorted(one.run(get, 1) + other.run(get, 2) + one.run(get, 1)) == [0, 1, 2, 3]


def test_a_late_getter_gets_what_is_left_and_nothing_twice(items, user):
    """The stream has ended, and the only getter so far has left."""
    first = user(items)
    for value in range(4):
        items.put([value])
    items.close()
    assert first.run(get, 2) == [0, 1]
    first.run(close)
    assert user(items).run(get_all) == [2, 3]


def test_what_a_killed_getter_kept_comes_again(items, user):
    one, other = user(items), user(items)
    items.put([1])
    items.put([2])
    assert one.run(hold) == 1
    one.kill()
    items.close()
    assert sorted(other.run(get_all)) == [1, 2]


def test_what_a_killed_getter_had_copied_is_gone(items, user):
    one, other = user(items), user(items)
    items.put([1])
    items.put([2])
    assert one.run(get, 1) == [1]
    one.kill()
    items.close()
    assert other.run(get_all) == [2]


def test_a_getter_killed_while_it_waits_is_in_nobody_s_way(items, user):
    one, other = user(items), user(items)
    one.begin(get, 1).asleep()
    one.kill()
    items.put([1])
    assert other.run(get, 1) == [1]


def test_one_process_puts(items, user):
    other = user(items)
    items.put([1])
    with pytest.raises(PeerError, match=rf"pid {os.getpid()}.*one putter.*multiprocessing\.Queue") as refused:
        other.run(put, 2)
    assert refused.value.kind == "ProducerExists"
    items.close()
    assert other.run(get_all) == [1]
    other.run(put, 2)  # the next one, once the first has closed
    assert other.run(get, 1) == [2]


# ---- the end


def test_the_end_is_behind_the_last_item(items):
    items.put([1])
    with items:
        items.put([2])
    for call in (items.get, items.get_nowait, items.qsize, lambda: items.put([3])):
        with pytest.raises(ValueError, match="is closed in this process"):
            call()
    items.close()
    items.join_thread()
    items.cancel_join_thread()


def test_a_getter_finds_the_end(items, user):
    other = user(items)
    other.run(put, 1)
    other.run(close)
    assert items.get().tolist() == [1]
    for call in (items.get, items.get_nowait):
        with pytest.raises(EOFError, match="closed it"):
            call()
    assert list(items) == []


def test_a_killed_putter_is_named(items, user):
    other = user(items)
    other.run(put, 1)
    other.kill()
    assert items.get().tolist() == [1]
    with pytest.raises(shmring.ProducerDied, match=f"pid {other.pid}"):
        items.get()
    with pytest.raises(shmring.ProducerDied):
        list(items)


def test_a_getter_asleep_learns_of_a_killed_putter(items, user):
    putter, getter = user(items), user(items)
    putter.run(put, 1)
    assert getter.run(get, 1) == [1]
    getter.begin(get, 1).asleep()
    putter.kill()
    with pytest.raises(PeerError, match="ended without closing"):
        getter.answer()


def test_a_putter_that_fails_says_why(items, user):
    other = user(items)

    def fail():
        with items:
            items.put([1])
            raise OSError("camera unplugged")

    with pytest.raises(OSError, match="camera"):
        fail()
    assert other.run(get, 1) == [1]
    with pytest.raises(PeerError, match="camera unplugged") as failed:
        other.run(get, 1)
    assert failed.value.kind == "ProducerFailed"


def test_a_stream_without_an_item_can_be_ended(items, user):
    other = user(items)
    other.begin(get_all).asleep()
    items.end()
    assert other.answer() == []


def test_a_process_that_has_ended_the_stream_may_get(items):
    items.put([1])
    items.end()
    items.end()
    assert [item.tolist() for item in items] == [[1]]
    with pytest.raises(ValueError, match=r"has ended its stream"):
        items.put([2])


def test_only_the_putter_ends_the_stream(items, user):
    user(items).run(put, 1)
    with pytest.raises(shmring.ProducerExists, match="one putter"):
        items.end()


def test_a_putter_whose_first_item_is_refused_has_failed(items, user):
    other = user(items)
    with pytest.raises(ValueError, match="float64"), items:
        items.put([1.5])
    with pytest.raises(PeerError, match="float64") as failed:
        other.run(get, 1)
    assert failed.value.kind == "ProducerFailed"


@pytest.mark.slow
@most_start_methods
def test_a_child_that_does_not_close_has_ended_all_the_same(items, context, started):
    started(context, children.put_number, items)
    assert [item.tolist() for item in items] == [[1]]


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="multiprocessing drops the exception before it exits")
@most_start_methods
def test_a_child_that_an_exception_ends_has_failed(items, context, started, capfd):
    started(context, children.put_number_and_fail, items).join(PATIENCE)
    assert items.get().tolist() == [1]
    with pytest.raises(shmring.ProducerFailed, match="no more"):
        items.get()
    assert "no more" in capfd.readouterr().err


@pytest.mark.slow
@most_start_methods
def test_a_child_whose_block_an_exception_leaves_has_failed(items, context, started, capfd):
    started(context, children.put_number_in_a_block_and_fail, items).join(PATIENCE)
    assert items.get().tolist() == [1]
    with pytest.raises(shmring.ProducerFailed, match="no more"):
        items.get()
    assert "no more" in capfd.readouterr().err


def test_nothing_is_left_of_a_queue(user):
    items = RingQueue(2, (8,), "i8")
    name, pickled = items.name, pickle.dumps(items)
    other = user(items)
    items.put([1])
    items.close()
    assert (SHM / name).exists()  # for those that still have to come
    del items
    settle()
    assert not (SHM / name).exists()
    assert other.run(get_all) == [1]
    with pytest.raises(shmring.RingNotFound):
        pickle.loads(pickled)


def test_a_copy_is_another_part_in_the_same_queue(items):
    copy = pickle.loads(pickle.dumps(items))
    assert (copy.name, copy.shape, copy.dtype, copy.maxsize) == (items.name, (8,), np.dtype("i8"), 4)
    items.put([1])
    assert copy.get().tolist() == [1]
    del copy
    gc.collect()
    items.put([2])
    assert items.get().tolist() == [2]


def test_it_says_what_it_is(items):
    assert items.name in repr(items)
    assert "at most 4 items of up to shape (8,) dtype int64" in repr(items)
    assert "closed" not in repr(items)
    items.close()
    assert "closed" in repr(items)


# ---- forks


def test_a_forked_child_has_its_own_part(items, fork):
    items.put([1])
    items.put([2])
    assert items.get().tolist() == [1]

    def work(send):
        send(items.get().tolist())
        try:
            items.put([3])
        except shmring.ProducerExists:
            send("refused")

    child = fork(work)
    assert child.receive() == [2]
    assert child.receive() == "refused"
    assert child.wait() == 0
    items.put([4])
    assert items.get().tolist() == [4]


def test_a_forked_child_may_put(items, fork):
    child = fork(lambda send: [items.put([value]) for value in range(6)] and items.close())
    assert [int(item[0]) for item in items] == list(range(6))
    assert child.wait() == 0


SCRIPT = """
import multiprocessing, sys
from shmring.queue import RingQueue
def work(items):
    print(sum(int(item[0]) for item in items))
if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    items = RingQueue(4, (8,), "i8")
    child = context.Process(target=work, args=(items,))
    child.start()
    for value in range(10):
        items.put([value])
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_a_program_that_closes_nothing_ends_its_workers_and_leaves_nothing(tmp_path, method):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-W", "error", script, method]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "45\n", "")


FAILS = """
import multiprocessing
from shmring.queue import RingQueue
def work(items):
    try:
        print(sum(int(item[0]) for item in items))
    except Exception as error:
        print(type(error).__name__, error)
if __name__ == "__main__":
    items = RingQueue(4, (8,), "i8")
    multiprocessing.get_context("fork").Process(target=work, args=(items,)).start()
    items.put([1])
    raise OSError("camera unplugged")
"""


@pytest.mark.slow
def test_a_program_that_an_exception_ends_has_failed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(FAILS)
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert re.match("ProducerFailed .*OSError: camera unplugged", ended.stdout)
    assert ended.stderr.endswith("OSError: camera unplugged\n")


# ---- CPython's tests of multiprocessing.Queue


# Every test of this class runs, except:
NOT_FOR_A_RING = {
    "test_fork": "a second process puts",
    "test_get": "the stream ends with its putter: then a getter gets RingClosed, not Empty",
    "test_task_done": "that is JoinableQueue's",
    "test_no_import_lock_contention": "uses multiprocessing.Queue itself",
    "test_timeout": "uses multiprocessing.Queue itself",
    "test_queue_feeder_donot_stop_onexc": "there is no feeder",
    "test_queue_feeder_on_queue_feeder_error": "there is no feeder",
    "test_closed_queue_empty_exceptions": "uses multiprocessing.Queue itself",
    "test_closed_queue_put_get_exceptions": "uses multiprocessing.Queue itself",
}


def cpython_cases():
    if cpython is None:
        return [pytest.param("", marks=pytest.mark.skip("this interpreter comes without the package test"))]
    names = unittest.TestLoader().getTestCaseNames(cpython._TestQueue)
    return [name for name in names if name not in NOT_FOR_A_RING]


@pytest.mark.slow
@pytest.mark.parametrize("case", cpython_cases())
def test_cpython_queue(case):
    context = multiprocessing.get_context("fork")

    class OnARing(cpython._TestQueue, unittest.TestCase):
        TYPE = "processes"
        Process, Event = context.Process, context.Event

        @staticmethod
        def Queue(maxsize=100):  # noqa: N802 - as it is called there
            return RingQueue(maxsize, (), "i8")

    OnARing(case).debug()


def test_the_example_in_the_docstring():
    found = doctest.DocTestFinder().find(RingQueue, "RingQueue", module=shmring.queue)
    results = [doctest.DocTestRunner().run(one) for one in found if one.examples]
    assert results
    assert not any(result.failed for result in results)
