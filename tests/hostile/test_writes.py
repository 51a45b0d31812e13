"""A write to a frame's read-only memory: a line that names it, and then the end that it always was."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

BEGIN = """
import ctypes, faulthandler, os, resource, signal, sys
import numpy as np
import shmring

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def ring_of(name):
    ring = shmring.Ring.create(name, shape=(512,), dtype="u8", slots=4, exist_ok=True)
    out, frames = ring.producer(), ring.consumer()
    for number in range(6):
        out.put(np.full(512, number, "u8"))
        frames.get(0).release() if number < 5 else None
    ring.unlink()
    return ring, out, frames


def write(address):
    ctypes.memset(address, 0, 1)


"""
LINE = (
    "shmring: this process wrote to a frame (seq {seq}, slot {slot}) of ring '{name}', whose memory is "
    "read-only here, so SIGSEGV ends it: write to frame.private() or to a copy of frame.array instead\n"
)
WRITE = "write(frames.get(0).array.ctypes.data)"
TRACEBACK = "Fatal Python error: Segmentation fault"


def ends(code: str, *options: str) -> tuple[int, str]:
    """How a program ends, and what it writes to stderr."""
    done = subprocess.run(
        [sys.executable, *options, "-c", BEGIN + code], capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stderr


def line(name: str, seq: int = 5, slot: int = 1) -> str:
    return LINE.format(name=name, seq=seq, slot=slot)


@pytest.mark.event("a program writes to a frame's read-only memory")
def test_a_write_is_explained_before_it_ends_the_process(name):
    code = f"ring, out, frames = ring_of({name!r})\n{WRITE}"
    assert ends(code) == (-signal.SIGSEGV, line(name))


def test_of_two_rings_the_right_one_is_named(name):
    other = name + "-2"
    code = f"left, right = ring_of({name!r}), ring_of({other!r})\n"
    for one, named in [("left", name), ("right", other)]:
        assert ends(f"{code}ring, out, frames = {one}\n{WRITE}") == (-signal.SIGSEGV, line(named))


def test_of_a_batch_the_right_frame_is_named(name):
    code = f"""
ring, out, frames = ring_of({name!r})
frames.get(0).release()
for number in range(6, 9):
    out.put(np.full(512, number, "u8"))
write(frames.batch(3).array[2].ctypes.data)
"""
    assert ends(code) == (-signal.SIGSEGV, line(name, 8, 0))


@pytest.mark.parametrize("when", ["before", "after", "option"])
def test_beside_faulthandler(name, when):
    enable = "faulthandler.enable()\n"
    code = f"ring, out, frames = ring_of({name!r})\n"
    code = enable + code if when == "before" else code + enable if when == "after" else code
    status, said = ends(code + WRITE, *(["-X", "faulthandler"] if when == "option" else []))
    assert status == -signal.SIGSEGV
    assert (said.count(line(name)), said.count(TRACEBACK)) == (1, 1)
    assert 'File "<string>"' in said


def test_in_any_thread(name):
    code = f"""
import threading
ring, out, frames = ring_of({name!r})
frame = frames.get(0)
threading.Thread(target=lambda: write(frame.array.ctypes.data)).start()
signal.pause()
"""
    assert ends(code) == (-signal.SIGSEGV, line(name))
    status, said = ends(code, "-X", "faulthandler")
    assert (status, said.count(line(name)), said.count(TRACEBACK)) == (-signal.SIGSEGV, 1, 1)


def test_faulthandler_may_come_and_go(name):
    code = f"""
faulthandler.enable()
first = ring_of({name!r})
faulthandler.disable()
ring, out, frames = ring_of({name!r})
{WRITE}
"""
    assert ends(code) == (-signal.SIGSEGV, line(name))


OTHERS = {
    "nothing": "ctypes.string_at(0)",
    "memory that may only be read": (
        "import mmap; m = mmap.mmap(-1, 4096, prot=mmap.PROT_READ)\nwrite(np.frombuffer(m, 'u1').ctypes.data)"
    ),
    "sent": "os.kill(os.getpid(), signal.SIGSEGV)\nsignal.pause()",
    "raised": "signal.raise_signal(signal.SIGSEGV)\nsignal.pause()",
}


@pytest.mark.parametrize("what", OTHERS)
def test_any_other_is_as_before(name, what):
    code = f"ring, out, frames = ring_of({name!r})\n{OTHERS[what]}"
    assert ends(code) == (-signal.SIGSEGV, "")


@pytest.mark.parametrize("what", ["nothing", "sent"])
def test_any_other_is_as_before_with_faulthandler(name, what):
    code = f"ring, out, frames = ring_of({name!r})\n{OTHERS[what]}"
    status, said = ends(code, "-X", "faulthandler")
    assert (status, said.partition("\n")[0]) == (-signal.SIGSEGV, TRACEBACK)


def test_a_handler_that_was_there_gets_the_others(name):
    code = f"""
HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)


@HANDLER
def handler(number):
    os.write(2, b"handled")
    os._exit(3)


ctypes.CDLL(None).signal(signal.SIGSEGV, handler)
ring, out, frames = ring_of({name!r})
"""
    assert ends(code + "ctypes.string_at(0)") == (3, "handled")
    assert ends(code + WRITE) == (3, line(name) + "handled")


def test_one_that_is_ignored_stays_ignored(name):
    code = f"""
ctypes.CDLL(None).signal(signal.SIGSEGV, ctypes.c_void_p(1))
ring, out, frames = ring_of({name!r})
os.kill(os.getpid(), signal.SIGSEGV)
sys.exit(4)
"""
    assert ends(code) == (4, "")


def test_a_producer_alone_has_no_handler(name):
    code = f"""
ring = shmring.Ring.create({name!r}, shape=(8,), dtype="u8", slots=4)
ring.unlink()
out = ring.producer()
caught = int(next(line for line in open("/proc/self/status") if line.startswith("SigCgt")).split()[1], 16)
sys.exit(caught >> signal.SIGSEGV - 1 & 1)
"""
    assert ends(code) == (0, "")


def test_private_arrays_and_copies_may_be_written(name):
    code = f"""
ring, out, frames = ring_of({name!r})
frame = frames.get(0)
for mine in (frame.private(), frame.array.copy()):
    write(mine.ctypes.data)
"""
    assert ends(code) == (0, "")


def test_in_a_forked_child(name):
    """What a child inherited is explained, too, and what it opens itself."""
    code = f"""
ring, out, frames = ring_of({name!r})
frame = frames.get(0)
if os.fork() == 0:
    write(frame.array.ctypes.data)
print(os.waitstatus_to_exitcode(os.wait()[1]), file=sys.stderr)
out.put(np.zeros(512, "u8"))
if os.fork() == 0:
    write(ring.consumer(start="newest").get(0).array.ctypes.data)
print(os.waitstatus_to_exitcode(os.wait()[1]), file=sys.stderr)
"""
    inherited = line(name).replace(" (seq 5, slot 1)", "")
    status, said = ends(code)
    assert status == 0
    assert said == f"{inherited}-11\n{line(name, 6, 2)}-11\n"
