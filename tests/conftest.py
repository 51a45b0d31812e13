"""Fixtures: rings and processes that are cleaned up, a watchdog, and a check that nothing is left behind."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import math
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import pytest

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # hundreds of processes import numpy, and multiply little

from support.blocks import SHM, fresh_name, inode
from support.frames import WORDS
from support.peers import attach
from support.processes import Command, Forked, FreshPrograms, Peer, Programs
from support.waiting import settle

LIMIT = 120  # seconds, as in pyproject.toml
_real_stderr = 2
_watched_since = -math.inf  # by the limit of most tests


def pytest_configure(config):
    global _real_stderr
    _real_stderr = os.dup(2)
    if sys.dont_write_bytecode:  # then let the processes that tests start keep what they compile elsewhere
        folder = tempfile.mkdtemp(prefix="shmring-tests-pycache-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    config.add_cleanup(faulthandler.cancel_dump_traceback_later)
    os.environ["PYTEST_RUNNING"] = "1"  # else pymmcore-plus opens a log file, and keeps it open
    config.addinivalue_line("markers", "event(line): tests this line of the table 'What happens when'")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Modules only come: to look through them again and again for cycles would cost seconds."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call":
        item.stash[_failed] = report.failed
    return report


_failed = pytest.StashKey[bool]()


@pytest.fixture(autouse=True)
def watchdog(request):
    """Ends the run, with every traceback, at a test that not even pytest-timeout could interrupt."""
    global _watched_since
    marker = request.node.get_closest_marker("timeout")
    if marker or time.monotonic() - _watched_since > 10:  # each time is a new thread
        limit = marker.args[0] if marker else LIMIT
        faulthandler.dump_traceback_later(limit + 30, exit=True, file=_real_stderr)
        _watched_since = -math.inf if marker else time.monotonic()


def _shm_files() -> set[str]:
    return set(os.listdir(SHM))


def _descriptors() -> dict[int, tuple[int, int]]:
    """The device and inode that each is open to; their names take twice the time."""
    found = {}
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            about = os.fstat(fd)
            found[fd] = about.st_dev, about.st_ino
    return found


def _children() -> set[int]:
    found = set()
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            found.update(int(pid) for pid in Path(f"/proc/self/task/{task}/children").read_text().split())
    return found


def _used_by_others(name: str) -> bool:
    """Whether a process that has nothing to do with these tests maps the block."""
    mine = {os.getpid(), *_children()}
    with contextlib.suppress(OSError):
        node = f" {inode(name)} {SHM}/"
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                maps = "" if int(process.name) in mine else (process / "maps").read_text()
                if node in re.sub(" +", " ", maps):
                    return True
    return False


def _is_ours(name: str) -> bool:
    """Whether a new file in /dev/shm comes from this run; there may be other runs at the same time."""
    if name.startswith("jack_db"):  # libjack's, when PortAudio looks for its devices
        return False
    made = re.match(r"shmring-test-(\d+)-", name)
    return int(made[1]) == os.getpid() if made else not _used_by_others(name)


def _left_behind(shm: set[str], descriptors: dict[int, tuple[int, int]], children: set[int]) -> list[str]:
    found = [f"/dev/shm/{name}" for name in sorted(_shm_files() - shm) if _is_ours(name)]
    for fd, file in _descriptors().items():
        if descriptors.get(fd) != file:
            with contextlib.suppress(OSError):  # another thread has closed it by now
                name = os.readlink(f"/proc/self/fd/{fd}")
                if not name.startswith("/proc/"):  # an interrupt may come between open() and its with
                    found.append(f"fd {fd} -> {name}")
    found += [f"child {pid}" for pid in sorted(_children() - children)]
    return found


@pytest.fixture(scope="session", autouse=True)
def no_database_of_libjack():
    """libjack makes this folder when PortAudio looks for its devices, and leaves it."""
    database = Path(SHM) / f"jack_db-{os.getuid()}"
    was_there = database.exists()
    yield
    if not was_there:
        shutil.rmtree(database, ignore_errors=True)


@pytest.fixture(autouse=True)
def handlers_as_before():
    """What a test, or a page that is run, arranges for signals ends with it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) != handler:
            signal.signal(number, handler)


@pytest.fixture(scope="module")
def zarr_thread() -> None:
    """Zarr starts a thread that never ends: here, before the tests look what is left behind."""
    with contextlib.suppress(ModuleNotFoundError):
        import zarr

        zarr.create_group({})


@pytest.fixture(autouse=True)
def nothing_left_behind(request, watchdog):
    """No file in /dev/shm, no descriptor and no process outlives a test."""
    resource_tracker.ensure_running()
    if multiprocessing.get_all_start_methods()[0] == "forkserver":
        forkserver.ensure_running()  # as a manager does, and it stays
    before = _shm_files(), _descriptors(), _children()
    yield
    if request.node.stash.get(_failed, False):
        return  # the traceback keeps objects alive: one failure is enough
    gc.collect()  # a handle that nobody closed warns in its own test, also if it is part of a cycle
    deadline = time.monotonic() + 3
    while (left := _left_behind(*before)) and time.monotonic() < deadline:
        settle()
        time.sleep(0.01)
    gc.freeze()  # no later collection looks again through what is there by now
    assert not left, f"left behind: {left}"


@pytest.fixture(autouse=True)
def alone(nothing_left_behind):
    """Threads that earlier tests have left, as Zarr does, release no frame of this one: waits ignore them."""
    found, earlier = sys._current_frames, set(threading.enumerate()) - {threading.current_thread()}

    def current() -> dict:
        ignored = {thread.ident for thread in threading.enumerate() if thread in earlier}
        return {ident: frame for ident, frame in found().items() if ident not in ignored}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "_current_frames", current)
        yield


@pytest.fixture
def name():
    return fresh_name()


@pytest.fixture
def make(nothing_left_behind):
    """Rings of one-page frames, closed and unlinked at the end of the test."""
    made = []

    def make(name: str | None = None, *, slots: int = 4, shape=(WORDS,), dtype="u8", **options):
        import shmring

        name = name or fresh_name()
        ring = shmring.Ring.create(name, shape=shape, dtype=dtype, slots=slots, **options)
        made.append(ring)
        return ring

    yield make
    for ring in reversed(made):
        with contextlib.suppress(FileNotFoundError):
            ring.unlink()
        ring.close()


@pytest.fixture
def ring(make):
    return make()


@pytest.fixture
def cli(capsys, monkeypatch):
    """Runs a command in this process; its exit code, stdout and stderr."""
    pytest.importorskip("click", reason="needs the extra cli")
    from shmring._cli import app
    from shmring._cli.support import rates

    monkeypatch.setattr(rates, "INTERVAL", 0.02)

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = app.run(words)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture(scope="session")
def programs():
    started = Programs()
    yield started
    started.close()


@pytest.fixture
def peer(programs, nothing_left_behind):
    """Other programs: `peer()` starts one, `peer(ring)` one that is attached to the ring (as `ring`).

    With `fresh=True` it is started from scratch: slow, and shares not even its imports with others.
    """
    started = []

    def start(ring=None, *, fresh: bool = False):
        other = Peer(FreshPrograms() if fresh else programs)
        started.append(other)
        if ring is not None:
            other.run(attach, ring if isinstance(ring, str) else ring.name)
        return other

    yield start
    for other in started:
        other.clean_up()


@pytest.fixture
def command(programs, nothing_left_behind):
    """`command("read", name)` starts `shmring read NAME` in a process, which is ended with the test.

    With `fresh=True` it is started from scratch, as a user does it: slow.
    """
    pytest.importorskip("click", reason="needs the extra cli")
    started = []

    def start(*words, fresh: bool = False, **options) -> subprocess.Popen:
        words = [str(word) for word in words]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        if fresh:
            started.append(subprocess.Popen([sys.executable, "-m", "shmring", *words], **options))
        else:
            started.append(Command(programs, *words, **options))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        with contextlib.suppress(ValueError):  # the test has closed its input
            process.communicate()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


@pytest.fixture
def fork(nothing_left_behind):
    """Forked children: `fork(work)` runs work(send) in one."""
    started = []

    def start(work):
        child = Forked(work)
        started.append(child)
        return child

    yield start
    for child in started:
        child.clean_up()


@pytest.fixture(params=["spawn", "fork", "forkserver"])
def context(request, nothing_left_behind):
    """Each of multiprocessing's start methods; the fork server is one of this test, with its streams."""
    forkserver._forkserver._stop()
    yield multiprocessing.get_context(request.param)
    forkserver._forkserver._stop()


@pytest.fixture(params=[True, False], ids=["lossless", "lossy"])
def lossless(request):
    return request.param


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Signals do what they do in a terminal even where the run was started by nohup or in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    sys.stderr.flush()
