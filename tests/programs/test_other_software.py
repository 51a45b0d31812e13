"""Outside programs on rings: CPython's own tests, numpy's own tests, and common consumers of buffers."""

from __future__ import annotations

import array
import concurrent.futures
import contextlib
import copy
import ctypes
import faulthandler
import hashlib
import io
import os
import pickle
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import unittest
import zlib
from pathlib import Path

import numpy as np
import pytest

import ring_queue
import shmring
from support.blocks import SHM, address
from support.frames import WORDS, check, feed, payload
from support.processes import environment
from support.waiting import settle

pytestmark = pytest.mark.slow

OUTSIDE = Path(__file__).parents[1] / "provers" / "outside"

# ---- CPython's tests of queue.Queue, on a ring

try:
    from test import test_queue
except ImportError:
    test_queue = None
    NO_TESTS = pytest.mark.skip("this interpreter comes without the package test")

# Every test of these classes runs, except:
NOT_FOR_A_RING = {
    "test_shrinking_queue": "the slots of a ring are fixed",
    "test_references": "a ring carries copies, not objects, and these objects cannot be pickled",
}
# Other classes: LifoQueueTest and PriorityQueueTest want another order; FailingQueueTest overrides methods of
# queue.Queue; CSimpleQueueTest.test_reentrancy puts from __del__, at any instruction of another put.


def queue_cases() -> list:
    if test_queue is None:
        return [pytest.param("", "", marks=NO_TESTS)]
    return [
        pytest.param(mixin, case, marks=[pytest.mark.stress] if "many_threads" in case else [])
        for mixin in ("BaseQueueTestMixin", "BaseSimpleQueueTest")
        for case in unittest.TestLoader().getTestCaseNames(getattr(test_queue, mixin))
        if case not in NOT_FOR_A_RING
    ]


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # these tests drop queues, in threads too
@pytest.mark.parametrize(("mixin", "case"), queue_cases())
def test_cpython_queue(mixin, case):
    class OnARing(getattr(test_queue, mixin), unittest.TestCase):
        queue = ring_queue

        def setUp(self):
            self.type2test = ring_queue.Queue
            super().setUp()

    OnARing(case).debug()


@pytest.mark.skipif(test_queue is None, reason="this interpreter comes without the package test")
def test_what_is_left_out_exists():
    names = {*dir(test_queue.BaseQueueTestMixin), *dir(test_queue.BaseSimpleQueueTest)}
    assert names >= set(NOT_FOR_A_RING)


# ---- CPython's tests of shared memory, in a process where rings are alive


def run_cpython(*arguments: str, timeout: float) -> int:
    """How many tests passed."""
    pytest.importorskip(
        "test._test_multiprocessing", reason="this interpreter comes without the package test"
    )
    command = [sys.executable, str(OUTSIDE / "run_cpython.py"), *arguments]
    before = unused_semaphores()
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment())
    except subprocess.TimeoutExpired as late:
        pytest.fail(f"it has not ended after {timeout:g} s; its last lines name the test: {late.stderr!r}")
    for semaphore in unused_semaphores() - before:
        semaphore.unlink(missing_ok=True)  # some of these tests kill processes, and the resource tracker too
    assert ended.returncode == 0, ended.stdout + ended.stderr
    passed, _, frames = map(
        int, re.search(r"(\d+) passed, (\d+) skipped, (\d+) frames", ended.stdout).groups()
    )
    assert frames > passed
    return passed


def unused_semaphores() -> set[Path]:
    """Those of multiprocessing that no process maps; the maps may call them by an earlier name."""
    used = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            used.update(re.findall(rf" (\d+) +{SHM}/", (process / "maps").read_text()))
    unused = set()
    for file in SHM.glob("sem.mp-*"):
        with contextlib.suppress(FileNotFoundError):
            if str(file.stat().st_ino) not in used:
                unused.add(file)
    return unused


@pytest.mark.stress
def test_cpython_shared_memory_while_rings_are_alive():
    assert run_cpython("fork", "WithProcessesTestSharedMemory", timeout=100) >= 12


@pytest.mark.stress
@pytest.mark.timeout(900)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_cpython_multiprocessing_while_rings_are_alive(method):
    """The whole module: shared memory, managers, queues, pools, the resource tracker."""
    assert run_cpython(method, timeout=850) >= 300  # it takes about 200 s


# ---- numpy's own tests, on frames


@pytest.mark.stress
def test_numpys_checks_of_saving_and_of_buffers():
    """Every array that numpy's tests save and load, unless it is empty or of objects, as a frame."""
    pytest.importorskip("numpy.lib.tests", reason="this numpy comes without its tests")
    command = [sys.executable, str(OUTSIDE / "run_numpy.py")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert int(ended.stdout.split()[0]) > 100


# ---- what numpy promises of a read-only array, beyond tests/api/test_frame.py


def read_into(view) -> None:
    with open("/dev/zero", "rb", buffering=0) as file:
        file.readinto(view)


def receive_into(view) -> None:
    one, two = socket.socketpair()
    with one, two:
        one.send(b"damage")
        two.recv_into(view)


RANDOM = np.random.default_rng(0)
WRITES = {
    "putmask": lambda a: np.putmask(a, a > 0, 0),
    "place": lambda a: np.place(a, a > 0, [0]),
    "put_along_axis": lambda a: np.put_along_axis(a, np.array([0]), 0, 0),
    "ufunc out": lambda a: np.multiply(a, 2, out=a[:]),
    "reduce out": lambda a: np.add.reduce(a.reshape(2, -1), out=a[: WORDS // 2]),
    "accumulate out": lambda a: np.cumsum(a, out=a),
    "clip out": lambda a: a.clip(0, 1, out=a),
    "take out": lambda a: a.take(np.arange(WORDS), out=a),
    "einsum out": lambda a: np.einsum("i->i", a + 0, out=a),
    "matmul out": lambda a: np.matmul(np.eye(8, dtype="u8"), np.eye(8, dtype="u8"), out=a[:64].reshape(8, 8)),
    "choose out": lambda a: np.choose(np.zeros(WORDS, "i8"), [a + 0], out=a),
    "shuffle": lambda a: RANDOM.shuffle(a),
    "random out": lambda a: RANDOM.random(out=a.view("f8")),
    "fill_diagonal": lambda a: np.fill_diagonal(a[:64].reshape(8, 8), 0),
    "nan_to_num": lambda a: np.nan_to_num(a.view("f8"), copy=False),
    "nditer": lambda a: np.nditer(a, op_flags=["readwrite"]),
    "slice assignment": lambda a: a.__setitem__(slice(3), 0),
    "mask assignment": lambda a: a.__setitem__(a > 0, 0),
    "field assignment": lambda a: a.view("u4,u4").__setitem__("f0", 0),
    "real part": lambda a: setattr(a.view("c16"), "real", 0),
    "flat": lambda a: setattr(a, "flat", 0),
    "ctypes": lambda a: (ctypes.c_char * a.nbytes).from_buffer(a),
    "readinto": lambda a: io.BytesIO(bytes(a.nbytes)).readinto(a),
    "read": read_into,
    "socket": receive_into,
    "struct": lambda a: struct.pack_into("Q", a, 0, 1),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=[key.replace(" ", "-") for key in WRITES])
def test_nobody_writes_to_a_frame(ring, write):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        frame = consumer.get(0)
        with pytest.raises((ValueError, TypeError, BufferError)):
            write(frame.array)
        assert check(frame) == 0


def test_a_write_that_numpy_lets_pass_ends_the_consumer_not_the_frame(ring, fork):
    """ufunc.at does not look at the flag (seen in numpy 2.4.6), but the page itself is read-only."""
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)

        def scribble(send):
            faulthandler.disable()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            again = shmring.Ring.attach(ring.name)
            with contextlib.suppress(ValueError):  # should numpy look one day
                np.add.at(again.consumer().get(5).array, [0], 1)

        assert fork(scribble).wait() in (0, -signal.SIGSEGV)
        assert check(consumer.get(0)) == 0


PRIVATE = {
    "copy": lambda a: a.copy(),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "require": lambda a: np.require(a, requirements="W"),
    "astype": lambda a: a.astype(a.dtype),
    # From protocol 5 on, the default since Python 3.14, a read-only array comes back read-only.
    "pickle": lambda a: pickle.loads(pickle.dumps(a, 4)),
    "sorted": lambda a: np.sort(a),
    "fancy index": lambda a: a[np.arange(WORDS)],
    "concatenate": lambda a: np.concatenate([a]),
    "ascontiguousarray of steps": lambda a: np.ascontiguousarray(a[::2]),
    "flatten": lambda a: a.flatten(),
    "tolist": lambda a: np.array(a.tolist(), "u8"),
    "array.array": lambda a: np.asarray(array.array("Q", a.tobytes())),
}


@pytest.mark.parametrize("take", PRIVATE.values(), ids=[key.replace(" ", "-") for key in PRIVATE])
def test_a_copy_is_private_and_holds_nothing(ring, take):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        mine = take(consumer.get(0).array)
        settle()
        assert consumer.held == 0
        assert mine.flags.writeable
        mine[...] = 0
        assert mine.sum() == 0


class Interface:
    """What an older library sees: the array interface and nothing else."""

    def __init__(self, kept: np.ndarray):
        self.kept = kept
        self.__array_interface__ = kept.__array_interface__


SHARED = {
    "array interface": lambda a: np.asarray(Interface(a)),
    "sliding windows": lambda a: np.lib.stride_tricks.sliding_window_view(a, 8),
    "as_strided": lambda a: np.lib.stride_tricks.as_strided(a, (3, 2), (8, 8), writeable=False),
    "structured view": lambda a: a.view([("low", "u4"), ("high", "u4")])["high"],
    "swapped view": lambda a: a.view(a.dtype.newbyteorder()),
    "recarray": lambda a: a.view([("low", "u4"), ("high", "u4")]).view(np.recarray).low,
    "masked array": lambda a: np.ma.asarray(a).data,
    "split": lambda a: np.split(a, 2)[0],
}


@pytest.mark.parametrize("key", SHARED, ids=[key.replace(" ", "-") for key in SHARED])
def test_views_of_other_kinds_are_the_slot(ring, key):
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        frame = consumer.get(0)
        spot = address(frame.array)
        view = SHARED[key](frame.array)
        del frame
        assert spot <= address(view) < spot + WORDS * 8
        assert not view.flags.writeable
        assert consumer.held == 1
        with pytest.raises(ValueError, match="read-only"):
            view[...] = 0
        del view
        settle()
        assert consumer.held == 0


# ---- other consumers of buffers


def pickled_out_of_band(view) -> bytes:
    """As the standard library's process pools and dask do it: the bytes themselves are not pickled."""
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(view, protocol=5, buffer_callback=buffers.append)
    assert len(data) < 200
    again = pickle.loads(data, buffers=buffers)
    assert address(again) == address(view)
    assert not again.flags.writeable
    return again.tobytes()


def sent(view) -> bytes:
    one, two = socket.socketpair()
    with one, two:
        one.sendmsg([view, view])
        got = b""
        while len(got) < 2 * view.nbytes:
            got += two.recv(1 << 16)
    return got[: view.nbytes]


def written(view) -> bytes:
    fd = os.memfd_create("frame")
    try:
        assert os.writev(fd, [view]) == view.nbytes
        return os.pread(fd, view.nbytes, 0)
    finally:
        os.close(fd)


def saved(view) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, frame=view)
    file.seek(0)
    return np.load(file)["frame"].tobytes()


def imaged(view) -> bytes:
    return pytest.importorskip("PIL.Image").fromarray(view.view("u1").reshape(64, 64)).tobytes()


def filtered(view) -> bytes:
    return pytest.importorskip("scipy.ndimage").correlate1d(view.view("u1"), [1]).tobytes()


CONSUMERS = {
    "zlib": lambda view: zlib.decompress(zlib.compress(view)),
    "hashlib": lambda view: hashlib.sha256(view).digest(),
    "struct": lambda view: struct.pack(f"{WORDS}Q", *struct.unpack_from(f"{WORDS}Q", view)),
    "join": lambda view: b"".join([view]),
    "file": written,
    "socket": sent,
    "savez": saved,
    "pickle out of band": pickled_out_of_band,
    "thread pool": lambda view: next(
        concurrent.futures.ThreadPoolExecutor(1).map(np.ndarray.tobytes, [view])
    ),
    "pillow": imaged,
    "scipy": filtered,
}


@pytest.mark.parametrize("use", CONSUMERS.values(), ids=[key.replace(" ", "-") for key in CONSUMERS])
def test_consumers_of_buffers(ring, use):
    """They get the frame's bytes, need no copy to be made for them, and keep nothing."""
    with ring.producer() as producer, ring.consumer() as consumer:
        feed(producer, 1)
        expected = payload(0).tobytes()
        if use is CONSUMERS["hashlib"]:
            expected = hashlib.sha256(expected).digest()
        assert use(consumer.get(0).array) == expected
        settle()
        assert consumer.held == 0


# ---- a driver that fills the slots


@pytest.fixture
def aravis(tmp_path) -> Path:
    """The program of examples/c_aravis/grab.c."""
    ask = ["pkg-config", "--cflags", "--libs", "aravis-0.8"]
    flags = subprocess.run(ask, capture_output=True, text=True) if shutil.which(ask[0]) else None
    if flags is None or flags.returncode != 0:
        pytest.skip("needs pkg-config and the headers of Aravis (Debian: libaravis-dev libusb-1.0-0-dev)")
    program = tmp_path / "aravis"
    sources = ["-I", shmring.get_include(), str(OUTSIDE.parents[2] / "examples" / "c_aravis" / "grab.c")]
    subprocess.run(["cc", "-std=gnu11", "-o", str(program), *sources, *flags.stdout.split()], check=True)
    return program


def test_the_camera_of_aravis_writes_into_the_slots(make, aravis):
    """A grey ramp that moves on by one each time; the driver has four buffers and fills them in order."""
    ring = make(shape=(512, 512), dtype="u1", slots=12)
    with ring.consumer() as consumer:
        driver = subprocess.Popen([aravis, ring.name, "30"], stdout=subprocess.PIPE, text=True)
        ramp = np.add.outer(np.arange(512), np.arange(512))
        pictures = 0
        for frame in consumer.iter(timeout=60):
            assert np.array_equal(frame.array, (ramp + int(frame.array[0, 0])) % 255)
            pictures += 1
        assert driver.communicate()[0] == "0 damaged\n"
        assert (pictures, consumer.lost, driver.returncode) == (30, 0, 0)
