"""`shmring write` and `shmring read`: every byte arrives, and every way to end is a clean one."""

from __future__ import annotations

import hashlib
import io
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import shmring
from support.blocks import address, block_file, fresh_name, inode, mappings
from support.threads import Running
from support.waiting import PATIENCE, wait_asleep, wait_until

pytest.importorskip("click")

from shmring._cli.support import pipes

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-m", "shmring"]


def ended(process: subprocess.Popen, data: bytes | None = None) -> tuple[int, bytes, str]:
    """Feed a command, wait for its end; exit code, stdout, stderr."""
    out, err = process.communicate(data, PATIENCE)
    assert b"Traceback" not in err, err.decode()
    return process.returncode, out or b"", err.decode()


def joined(name: str, count: int = 1) -> shmring.Ring:
    """The ring, once so many consumers have joined it."""
    ring = shmring.Ring.attach(name, timeout=PATIENCE, readonly=True)
    wait_until(lambda: len(ring.stats().consumers) >= count, "consumers joined")
    return ring


RANDOM = np.random.default_rng(1).bytes(3_000_000)


@pytest.mark.parametrize(
    ("shape", "dtype", "slots"),
    [
        ("100", "u1", None),  # rows that lie apart in memory, in batches
        ("()", "f8", None),
        ("1000,100", "<i2", "4"),
        ("3", "S1000", "2"),
        ("500", "<f8", "2 --spares 3"),
    ],
    ids=["small", "scalar", "large", "two slots", "spare slots"],
)
def test_what_goes_in_comes_out(command, name, tmp_path, shape, dtype, slots):
    came = tmp_path / "came"
    with came.open("wb") as file:
        reader = command("read", name, "--timeout", "20", stdout=file)
    more = [] if slots is None else ["--slots", *slots.split()]
    writer = command(
        "write", name, "--shape", shape, "--dtype", dtype, "--wait-for", "1", *more, stdin=subprocess.PIPE
    )
    code, _, err = ended(writer, RANDOM)
    assert code == 0, err
    assert "3.0 MB in" in err
    code, _, err = ended(reader)
    assert (code, err) == (0, "")
    assert came.read_bytes() == RANDOM
    assert not block_file(name).exists()


def test_frames_are_read_into_the_slot_and_written_from_it(make):
    """No copy in between: what the system calls are given is memory of the ring."""
    ring = make(shape=(100,), dtype="u1", slots=64)
    reader, writer = os.pipe()
    node = inode(ring.name)

    def lies_in_the_ring(rows: np.ndarray) -> bool:
        spans = [(command, end) for command, end, _ in mappings(node)]
        return all(any(s <= address(row) < e for s, e in spans) for row in rows)

    os.write(writer, bytes(range(250)) + bytes(50))
    with ring.producer() as out, ring.consumer() as consumer:
        with out.claim(8) as slot:
            rows = pipes.as_bytes(slot.array)
            assert lies_in_the_ring(rows)
            assert pipes.read_into(reader, rows) == 300
            slot.publish(3)
            del rows
        with consumer.batch(8) as batch:
            rows = pipes.as_bytes(batch.array)
            assert lies_in_the_ring(rows)
            pipes.write_all(writer, rows)
            del rows
    assert os.read(reader, 1000) == bytes(range(250)) + bytes(50)
    os.close(reader)
    os.close(writer)


def test_read_into_waits_for_the_rest_of_a_frame():
    rows = np.zeros((4, 10), "u1")
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb", buffering=0) as out:
        process = subprocess.Popen(
            [sys.executable, "-c", "import os; os.write(1, b'a' * 15); input(); os.write(1, b'b' * 5)"],
            stdin=subprocess.PIPE,
            stdout=out,
        )
    process.stdin.write(b"\n")
    process.stdin.close()
    assert pipes.read_into(reader, rows) == 20
    assert rows[:2].tobytes() == b"a" * 15 + b"b" * 5
    assert pipes.read_into(reader, rows) == 0
    assert process.wait(PATIENCE) == 0
    os.close(reader)


def test_a_partial_last_frame_is_not_published(command, name):
    reader = command("read", name, "--timeout", "20")
    writer = command("write", name, "--shape", "8", "--dtype", "u1", "--wait-for", "1", stdin=subprocess.PIPE)
    code, _, err = ended(writer, bytes(range(20)))
    assert code == 1
    assert "4 of its 8 bytes came" in err
    code, out, err = ended(reader)
    assert (code, out) == (1, bytes(range(16)))
    assert "4 of its 8 bytes came" in err


def test_empty_input(command, name):
    code, _, err = ended(command("write", name, "--shape", "8", "--dtype", "u1"))
    assert code == 0
    assert "0 frames" in err
    assert not block_file(name).exists()


def test_frames_limit_both_ends(command, name):
    reader = command("read", name, "--frames", "5", "--timeout", "20")
    with open("/dev/zero", "rb") as zeros:
        writer = command(
            "write", name, "--shape", "7", "--dtype", "u1", "--frames", "1000", "--wait-for", "1",
            stdin=zeros,
        )  # fmt: skip
        assert ended(writer)[0] == 0
    code, out, _ = ended(reader)
    assert (code, len(out)) == (0, 35)


def test_input_that_ends_before_frames(command, name):
    writer = command("write", name, "--shape", "8", "--dtype", "u1", "--frames", "3", stdin=subprocess.PIPE)
    code, _, err = ended(writer, bytes(16))
    assert code == 1
    assert "after 2 of 3 frames" in err


# ---- npy


def test_npy_into_a_file_and_back(command, name, make, tmp_path):
    """A file is one array, as long as the stream was; written back it is the same stream."""
    descr = [("t", "<f8"), ("v", "<i2", (3,))]
    ring = make(shape=(5,), dtype=descr, slots=16)
    frames = np.zeros((6, 5), descr)
    frames["t"] = np.arange(30).reshape(6, 5)
    path = tmp_path / "stream.npy"
    with ring.producer() as out, path.open("wb") as file:
        reader = command("read", ring.name, "--format", "npy", stdout=file)
        joined(ring.name).close()
        out.put_many(frames)
        out.close()
        assert ended(reader)[0] == 0
    assert np.array_equal(np.load(path, mmap_mode="r"), frames)
    again = tmp_path / "again.npy"
    with path.open("rb") as source, again.open("wb") as file:
        reader = command("read", name, "--format", "npy", "--timeout", "20", stdout=file)
        writer = command("write", name, "--format", "npy", "--wait-for", "1", stdin=source)
        assert ended(writer)[0] == 0
        assert ended(reader)[0] == 0
    assert again.read_bytes() == path.read_bytes()


def test_npy_file_is_whole_after_ctrl_c(command, make, tmp_path):
    ring = make(shape=(4,), dtype="u1")
    path = tmp_path / "stream.npy"
    with ring.producer() as out, path.open("wb") as file:
        reader = command("read", ring.name, "--format", "npy", stdout=file)
        joined(ring.name).close()
        for number in range(3):
            out.put(np.full(4, number, "u1"))
        wait_until(lambda: ring.stats().consumers[0].delivered == 3)
        wait_asleep(reader.pid)
        reader.send_signal(signal.SIGINT)
        assert ended(reader)[0] == 130
    assert np.load(path)[:, 0].tolist() == [0, 1, 2]


def test_npy_into_a_pipe(command, make):
    ring = make(shape=(4,), dtype="u1")
    code, _, err = ended(command("read", ring.name, "--format", "npy"))
    assert code == 2
    assert "needs --frames" in err
    reader = command("read", ring.name, "--format", "npy", "--frames", "2")
    with ring.producer() as out:
        joined(ring.name).close()
        for number in range(3):
            out.put(np.full(4, number, "u1"))
        code, data, _ = ended(reader)
    assert code == 0
    assert np.load(io.BytesIO(data)).tolist() == [[0] * 4, [1] * 4]


def test_npy_of_a_stream_that_ends_too_early(command, make):
    ring = make(shape=(4,), dtype="u1")
    reader = command("read", ring.name, "--format", "npy", "--frames", "3")
    with ring.producer() as out:
        joined(ring.name).close()
        out.put(np.zeros(4, "u1"))
    code, _, err = ended(reader)
    assert code == 1
    assert "1 of the 3 frames" in err


def test_what_is_no_npy(command, name):
    for data in (b"raw bytes that are no header" * 9, b""):
        writer = command("write", name, "--format", "npy", stdin=subprocess.PIPE)
        code, _, err = ended(writer, data)
        assert code == 1
        assert "not a .npy file" in err
        assert ("it is empty" in err) == (not data)
    code, _, err = ended(command("write", name, "--format", "npy", "--dtype", "u1"))
    assert code == 2


@pytest.mark.parametrize("offset", [0, 100])
def test_npy_file_is_right_after_a_kill(command, make, tmp_path, offset):
    """The header counts up with the frames."""
    ring = make(shape=(4,), dtype="i4", slots=64)
    path = tmp_path / "stream.npy"
    with ring.producer() as out, path.open("w+b") as file:
        os.lseek(file.fileno(), offset, os.SEEK_SET)  # as behind what another program has written
        reader = command("read", ring.name, "--format", "npy", stdout=file)
        joined(ring.name).close()
        out.put_many(np.arange(80, dtype="i4").reshape(20, 4))
        # What is delivered is written, and counted, before the next wait.
        wait_until(lambda: ring.stats().consumers[0].held == 0 and ring.stats().consumers[0].lag == 0)
        wait_asleep(reader.pid)
        reader.kill()
        reader.wait(PATIENCE)
    data = path.read_bytes()
    assert np.load(io.BytesIO(data[offset:])).tolist() == np.arange(80).reshape(20, 4).tolist()


def test_npy_cannot_describe_every_dtype(command, make):
    """It is refused before anything is written, as by `record`; just below, numpy.load reads it."""
    wide = make(shape=(3,), dtype=[(f"channel_{i:04d}", "f4") for i in range(600)], slots=4)
    code, data, err = ended(command("read", wide.name, "--format", "npy", "--frames", "1"))
    assert (code, data) == (1, b"")
    assert "more than numpy.load reads from the header" in err
    assert not wide.stats().consumers
    ring = make(shape=(3,), dtype=[(f"channel_{i:04d}", "f4") for i in range(300)], slots=4)
    reader = command("read", ring.name, "--format", "npy", "--frames", "1")
    with ring.producer() as out:
        joined(ring.name).close()
        out.put(np.ones(3, ring.dtype))
        code, data, _ = ended(reader)
    assert code == 0
    assert np.load(io.BytesIO(data)).dtype == ring.dtype


def test_npy_with_names_beyond_latin_1_and_back(command, name, make):
    """Version 3.0 of the format."""
    descr = [("Ω", "f4"), ("温度", "<i2")]
    ring = make(shape=(2,), dtype=descr, slots=8)
    reader = command("read", ring.name, "--format", "npy", "--frames", "2")
    frames = np.zeros((2, 2), descr)
    frames["Ω"] = [[1, 2], [3, 4]]
    with ring.producer() as out:
        joined(ring.name).close()
        out.put_many(frames)
        code, data, _ = ended(reader)
    assert code == 0
    assert np.array_equal(np.load(io.BytesIO(data)), frames)
    reader = command("read", name, "--format", "npy", "--frames", "2", "--timeout", "20")
    writer = command("write", name, "--format", "npy", "--wait-for", "1", stdin=subprocess.PIPE)
    assert ended(writer, data)[0] == 0
    assert ended(reader)[1] == data


@pytest.mark.parametrize(
    "header",
    [
        b"\xff" * 118,
        b"{'descr': 'f4'}",
        b"{'descr': 'f4', 'fortran_order': False, 'shape': 3}",
        b"(" * 118,
        b"",
    ],
)
def test_headers_of_version_3_that_make_no_sense(header):
    with pytest.raises(ValueError, match=r"makes no sense|not an array of frames"):
        read_header(b"\x93NUMPY\x03\x00" + len(header).to_bytes(4, "little") + header)


def test_headers_that_are_refused():
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (-3, 2)})
    with pytest.raises(ValueError, match=r"its shape is \(-3, 2\)"):
        read_header(file.getvalue())
    with pytest.raises(ValueError, match="too long"):
        read_header(b"\x93NUMPY\x03\x00\xff\xff\xff\xff")
    with pytest.raises(ValueError, match="version"):
        read_header(b"\x93NUMPY\x04\x00" + bytes(100))


def read_header(data: bytes):
    """What `write` makes of the beginning of its input."""
    reader, writer = os.pipe()
    try:
        os.write(writer, data)
        os.close(writer)
        return pipes.read_npy_header(reader)
    finally:
        os.close(reader)


# ---- pipes that another program made non-blocking


def set_blocking_later(fd: int, asleep: subprocess.Popen) -> None:
    """As a program does that shares the pipe with one which waits in it already."""
    wait_asleep(asleep.pid)
    os.set_blocking(fd, False)


@pytest.mark.parametrize(("when", "layout"), [("before", "npy"), ("meanwhile", "raw")])
def test_write_from_a_pipe_that_does_not_block(command, name, when, layout):
    near, far = os.pipe()
    if when == "before":
        os.set_blocking(near, False)
    words = ["--format", "npy"] if layout == "npy" else ["--shape", "4", "--dtype", "u1"]
    writer = command("write", name, *words, "--wait-for", "1", stdin=near)
    frames = np.arange(12, dtype="u1").reshape(3, 4)
    data = frames.tobytes()
    if layout == "npy":
        file = io.BytesIO()
        np.save(file, frames)
        wait_asleep(writer.pid)
        os.write(far, file.getvalue()[:-12])
    with shmring.Ring.attach(name, timeout=PATIENCE) as ring, ring.consumer() as consumer:
        if when == "meanwhile":
            set_blocking_later(near, writer)
        for piece in (data[:2], data[2:7], data[7:]):
            wait_asleep(writer.pid)
            os.write(far, piece)
        os.close(far)
        os.close(near)
        assert [frame.array.tolist() for frame in consumer] == frames.tolist()
    assert ended(writer)[0] == 0


@pytest.mark.parametrize(("when", "layout"), [("before", "raw"), ("meanwhile", "npy")])
def test_read_into_a_pipe_that_does_not_block(command, make, when, layout):
    """The frames are far larger than the pipe."""
    near, far = os.pipe()
    if when == "before":
        os.set_blocking(far, False)
    ring = make(shape=(3_000_000,), dtype="u1", slots=4)
    reader = command("read", ring.name, "--format", layout, "--frames", "4", stdout=far)
    with ring.producer() as out:
        out.wait_for_consumers(1, timeout=PATIENCE)
        if when == "meanwhile":
            set_blocking_later(far, reader)
        for number in range(4):
            out.put(np.full(3_000_000, number, "u1"), timeout=PATIENCE)
        os.close(far)
        wait_asleep(reader.pid)
        with open(near, "rb") as file:
            data = file.read()
    assert ended(reader)[0] == 0
    frames = np.frombuffer(data[len(data) - 12_000_000 :], "u1").reshape(4, -1)
    assert (frames == np.arange(4, dtype="u1")[:, np.newaxis]).all()


# ---- frames of other kinds


def test_variable_rows(command, make):
    ring = make(shape=(4, 2), dtype="u1", variable_rows=True)
    reader = command("read", ring.name)
    with ring.producer() as out:
        joined(ring.name).close()
        for rows in (1, 0, 4, 2):
            out.put(np.full((rows, 2), rows, "u1"))
    assert ended(reader)[1] == bytes([1] * 2 + [4] * 8 + [2] * 4)
    code, _, err = ended(command("read", ring.name, "--format", "npy", "--frames", "1"))
    assert code == 1
    assert "differ in length" in err


def test_lossy_reader_tells_what_it_lost(command, make):
    ring = make(shape=(1 << 17,), dtype="u1", slots=2)
    reader = command("read", ring.name, "--lossy", "--label", "viewer")
    with ring.producer() as out:
        joined(ring.name).close()
        for number in range(50):  # far more than slots and pipe hold, and nobody reads the pipe
            out.put(np.full(1 << 17, number, "u1"))
    code, data, err = ended(reader)
    assert code == 0
    frames = np.frombuffer(data, "u1").reshape(-1, 1 << 17)
    assert (frames == frames[:, :1]).all()
    assert err == f"shmring read: {50 - len(frames)} frames lost\n"


# ---- groups


def numbers(*outputs: bytes) -> list[int]:
    """The numbers of frames that several readers got, each of which comes whole."""
    return sorted(int(one) for data in outputs for one in np.frombuffer(data, "u4").reshape(-1, 100)[:, 99])


def put_numbers(out: shmring.Producer, first: int, end: int) -> None:
    for number in range(first, end):
        out.put(np.full(100, number, "u4"), timeout=PATIENCE)


def test_readers_of_a_group_get_each_frame_once(command, name):
    """A recorder beside them gets all of them."""
    words = ("read", name, "--timeout", "20")
    whole = command(*words)
    readers = [command(*words, "--group", "pool", "--label", f"r{i}") for i in range(2)]
    writer = command(
        "write", name, "--shape", "100", "--dtype", "u4", "--slots", "4", "--wait-for", "3",
        stdin=subprocess.PIPE,
    )  # fmt: skip
    frames = np.repeat(np.arange(1000, dtype="u4"), 100)
    with joined(name, 3) as ring:
        assert {(one.group, one.label) for one in ring.stats().consumers} == {
            (None, "shmring read"),
            ("pool", "r0"),
            ("pool", "r1"),
        }
        taking = [Running(lambda one=one: ended(one)) for one in (*readers, whole)]
        assert ended(writer, frames.tobytes())[0] == 0
    *shares, everything = (one.end().value for one in taking)
    assert [(code, err) for code, _, err in shares] == [(0, "")] * 2
    assert numbers(*(data for _, data, _ in shares)) == list(range(1000))
    assert everything[1] == frames.tobytes()


def test_a_reader_whose_pipe_is_full_leaves_the_frames_to_the_others(command, make):
    ring = make(shape=(3_000_000,), dtype="u1", slots=4)
    stuck, free = (
        command("read", ring.name, "--group", "pool", "--label", label) for label in ("stuck", "free")
    )
    with ring.producer() as out:
        out.wait_for_consumers(2, timeout=PATIENCE)
        taking = Running(lambda: ended(free))
        for number in range(20):
            out.put(np.full(3_000_000, number, "u1"), timeout=PATIENCE)
            wait_until(lambda: ring.stats().groups[0].lag == 0)
        held = {one.label: one.held for one in ring.stats().consumers}
        assert held["stuck"] <= 1
    stuck_code, stuck_data, _ = ended(stuck)
    code, data, _ = taking.end().value
    assert (stuck_code, code) == (0, 0)
    came = np.frombuffer(stuck_data + data, "u1").reshape(-1, 3_000_000)
    assert len(stuck_data) <= 3_000_000
    assert sorted(came[:, -1]) == list(range(20))
    assert (came == came[:, :1]).all()


def test_a_reader_waits_at_the_end_for_a_frame_that_another_may_leave_behind(command, make):
    ring = make(shape=(3_000_000,), dtype="u1", slots=4)
    stuck = command("read", ring.name, "--group", "pool", "--label", "stuck")
    with ring.producer() as out:
        out.wait_for_consumers(1, timeout=PATIENCE)
        out.put(np.zeros(3_000_000, "u1"))
        wait_until(lambda: ring.stats().consumers[0].held == 1)
        patient = command("read", ring.name, "--group", "pool")
        out.wait_for_consumers(2, timeout=PATIENCE)
    code, data, err = ended(command("read", ring.name, "--group", "pool", "--timeout", "0"))
    assert (code, data, "label 'stuck' holds 1" in err) == (1, b"", True)
    wait_asleep(patient.pid)
    assert ended(stuck)[0] == 0
    assert ended(patient) == (0, b"", "")


def test_another_reader_gets_what_a_killed_one_had(command, make):
    ring = make(shape=(3_000_000,), dtype="u1", slots=4)
    killed = command("read", ring.name, "--group", "pool")
    with ring.producer() as out:
        out.wait_for_consumers(1, timeout=PATIENCE)
        out.put(np.full(3_000_000, 7, "u1"))
        wait_until(lambda: ring.stats().consumers[0].held == 1)
        wait_asleep(killed.pid)
        other = command("read", ring.name, "--group", "pool")
        out.wait_for_consumers(2, timeout=PATIENCE)
        killed.kill()
        killed.wait(PATIENCE)
    code, data, _ = ended(other)
    assert (code, data) == (0, bytes([7]) * 3_000_000)


def test_readers_of_a_group_follow_a_name(command, name):
    readers = [command("read", name, "--group", "pool", "--follow") for _ in range(2)]
    for first in (0, 50):
        with shmring.Ring.create(name, shape=(100,), dtype="u4", slots=4) as ring, ring.producer() as out:
            out.wait_for_consumers(2, timeout=PATIENCE)
            put_numbers(out, first, first + 50)
            wait_until(lambda ring=ring: ring.stats().groups[0].lag == 0)
            wait_until(lambda ring=ring: not any(one.held for one in ring.stats().consumers))
    for one in readers:
        one.send_signal(signal.SIGINT)
    ends = [ended(one) for one in readers]
    assert [(code, err) for code, _, err in ends] == [(130, "")] * 2
    assert numbers(*(data for _, data, _ in ends)) == list(range(100))


def test_how_a_reader_cannot_join_a_group(command, make):
    ring = make()
    with ring.consumer(group="once", at_most_once=True), ring.producer():
        for words, code, said in (
            (["--group", "pool", "--lossy"], 2, "--group and --lossy cannot be used together"),
            (["--group", ""], 2, "a group needs a name"),
            (["--group", "ä" * 32], 2, "at most 63 bytes"),
            (["--group", "once"], 1, "or choose another name for the group"),
        ):
            found = ended(command("read", ring.name, *words))
            assert (found[0], found[1], said in found[2]) == (code, b"", True), found


def test_start_newest(command, make):
    ring = make(shape=(), dtype="u1", slots=4096)
    with ring.producer() as out:
        out.put_many(np.arange(10, dtype="u1"))
        reader = command("read", ring.name, "--start", "newest", "--frames", "1")
        assert ended(reader)[1] == b"\x09"


def test_full_ring_drops(command, name):
    """Nobody waits for the ring: the input flows on."""
    writer = command(
        "write", name, "--shape", "100000", "--dtype", "u1", "--slots", "2", "--on-full", "drop",
        "--wait-for", "1", stdin=subprocess.PIPE,
    )  # fmt: skip
    with shmring.Ring.attach(name, timeout=PATIENCE) as ring, ring.consumer() as consumer:
        first = None
        code, _, err = ended(writer, bytes(5_000_000))
        assert code == 0
        dropped = int(err.rpartition(", ")[2].split()[0])
        first = [frame.seq for frame in consumer]
        assert 2 <= len(first) == 50 - dropped


# ---- how it ends


def test_the_ring_s_name_is_taken(command, make):
    ring = make()
    with open("/dev/zero", "rb") as zeros, ring.producer():
        code, _, err = ended(command("write", ring.name, "--shape", "8", "--dtype", "u1", stdin=zeros))
    assert code == 1
    assert f"in use (producer pid {os.getpid()}" in err
    assert block_file(ring.name).exists()


def test_the_ring_s_name_is_taken_and_no_input_comes(command, make):
    """It is said before the header is there."""
    ring = make()
    near, far = os.pipe()
    with ring.producer():
        code, _, err = ended(command("write", ring.name, "--format", "npy", stdin=near))
    os.close(near)
    os.close(far)
    assert (code, "is in use (producer pid" in err) == (1, True)


@pytest.mark.parametrize(("dtype", "shape"), [("O", (3, 2)), ("u1", (3, 0))])
def test_npy_input_that_makes_no_ring(command, name, tmp_path, dtype, shape):
    path = tmp_path / "input.npy"
    np.save(path, np.zeros(shape, dtype), allow_pickle=True)
    with path.open("rb") as file:
        code, _, err = ended(command("write", name, "--format", "npy", stdin=file))
    assert (code, err.count("\n")) == (1, 1)
    assert "the frames on stdin make no ring" in err


def test_timeouts(command, name, make):
    code, out, err = ended(command("read", name, "--timeout", "0.05"))
    assert (code, out) == (3, b"")
    assert err.startswith(f"shmring: there is no ring {name!r} ")
    assert "none came within 0.05 s" in err
    ring = make()
    code, _, err = ended(command("read", ring.name, "--timeout", "0.05"))
    assert code == 1
    assert "no producer has come yet" in err
    with open("/dev/zero", "rb") as zeros:
        arguments = ("write", name, "--shape", "8", "--dtype", "u1", "--wait-for", "1", "--timeout", "0.05")
        code, _, err = ended(command(*arguments, stdin=zeros))
    assert code == 1
    assert "0 of 1 consumer joined" in err
    assert not block_file(name).exists()


def put_bytes(here):
    here.producer = here.ring.producer()
    here.producer.put(np.arange(8, dtype="u1"))


def test_the_producer_dies(command, make, peer):
    ring = make(shape=(8,), dtype="u1")
    reader = command("read", ring.name)
    joined(ring.name).close()
    other = peer(ring)
    other.run(put_bytes)
    wait_until(lambda: ring.stats().consumers[0].delivered == 1)
    other.kill()
    code, out, err = ended(reader)
    assert (code, out) == (1, bytes(range(8)))
    assert f"pid {other.pid}" in err


def test_the_program_behind_read_ends(command, make):
    ring = make(shape=(1 << 16,), dtype="u1")
    reader = command("read", ring.name)
    with ring.producer() as out:
        joined(ring.name).close()
        out.put(np.zeros(1 << 16, "u1"))
        assert len(os.read(reader.stdout.fileno(), 10)) > 0
        reader.stdout.close()
        while reader.poll() is None:  # its place is free as soon as it has noticed
            out.put(np.zeros(1 << 16, "u1"), timeout=PATIENCE)
        assert (reader.returncode, reader.stderr.read()) == (1, b"")
        assert not ring.stats().consumers


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("waits_for", ["input", "consumers"])
def test_signals_end_write_and_remove_its_ring(command, name, number, waits_for):
    more = ["--wait-for", "9"] if waits_for == "consumers" else []
    writer = command("write", name, "--shape", "8", "--dtype", "u1", *more, stdin=subprocess.PIPE)
    with shmring.Ring.attach(name, timeout=PATIENCE, readonly=True) as ring:
        wait_until(lambda: ring.stats().producer.state == "live")
        if waits_for == "input":
            wait_asleep(writer.pid)
        writer.send_signal(number)
        assert writer.wait(PATIENCE) == 128 + number
        assert ring.stats().producer.state == "closed"
    assert not block_file(name).exists()
    assert b"Traceback" not in writer.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_read(command, make, number):
    ring = make()
    with ring.producer():
        reader = command("read", ring.name)
        joined(ring.name).close()
        wait_asleep(reader.pid)
        reader.send_signal(number)
        code, out, err = ended(reader)
        assert (code, out, err) == (128 + number, b"", "")
        assert not ring.stats().consumers


def test_terminals_are_refused(command, make, name):
    ours, theirs = pty.openpty()
    try:
        code, _, err = ended(command("write", name, "--shape", "8", "--dtype", "u1", stdin=theirs))
        assert (code, "stdin is a terminal" in err) == (2, True)
        code, _, err = ended(command("read", make().name, stdout=theirs))
        assert (code, "stdout is a terminal" in err) == (2, True)
    finally:
        os.close(ours)
        os.close(theirs)


# ---- ffmpeg

FFMPEG = ["ffmpeg", "-v", "error", "-nostdin"]
SOURCE = ["-f", "lavfi", "-i", "testsrc=size=160x120:rate=25:duration=2"]
RAW = ["-f", "rawvideo", "-pix_fmt", "rgb24"]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_ffmpeg_as_producer_and_consumer(command, name, tmp_path):
    """A film through a ring into a lossless codec is the same film."""
    film = tmp_path / "film.mkv"
    reader = command("read", name, "--timeout", "20")
    consumer = subprocess.Popen(
        [
            *FFMPEG,
            *RAW,
            "-s",
            "160x120",
            "-r",
            "25",
            "-i",
            "-",
            "-c:v",
            "ffv1",
            "-pix_fmt",
            "gbrp",
            str(film),
        ],
        stdin=reader.stdout,
    )
    reader.stdout.close()
    producer = subprocess.Popen([*FFMPEG, *SOURCE, *RAW, "-"], stdout=subprocess.PIPE)
    writer = command(
        "write", name, "--shape", "120,160,3", "--dtype", "u1", "--wait-for", "1", stdin=producer.stdout
    )
    producer.stdout.close()
    codes = [process.wait(PATIENCE) for process in (producer, writer, reader, consumer)]
    assert codes == [0, 0, 0, 0]
    assert b"50 frames" in writer.stderr.read()

    def md5(*source: str) -> str:
        raw = subprocess.run([*FFMPEG, *source, *RAW, "-"], capture_output=True, check=True).stdout
        assert len(raw) == 50 * 120 * 160 * 3
        return hashlib.md5(raw).hexdigest()

    assert md5("-i", str(film)) == md5(*SOURCE)


PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "more-than-one-machine.md"


def test_the_pipe_to_another_machine(make, tmp_path):
    """The command of the page, with an ssh that stays on this machine."""
    [piped] = re.findall(r"<!-- piped -->\n```console\n\$ (.*)\n```", PAGE.read_text())
    ring = make(shape=(480, 640), dtype="u1", slots=8)
    there = fresh_name()
    for name, text in (("ssh", 'shift\nexec "$@"'), ("shmring", f'exec "{sys.executable}" -m shmring "$@"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    words = piped.replace("camera-here", there).replace("camera", ring.name) + " --wait-for 1"
    with ring.producer() as out:
        pipe = subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", words],
            env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
            stderr=subprocess.PIPE,
        )
        with shmring.Ring.attach(there, timeout=PATIENCE) as far, far.consumer() as frames:
            for number in range(5):
                out.put(np.full(ring.shape, number, "u1"))
            out.close()
            assert [int(frame.array[-1, -1]) for frame in frames] == [0, 1, 2, 3, 4]
        assert ended(pipe)[0] == 0
