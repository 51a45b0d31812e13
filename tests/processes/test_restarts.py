"""shmring write and replay that are started again while consumers still use the ring."""

from __future__ import annotations

import os

import numpy as np
import pytest

import shmring
from shmring import recording
from support.blocks import SHM
from support.waiting import PATIENCE, wait_until

pytest.importorskip("click", reason="needs the extra cli")

from shmring._cli import app
from shmring._cli.support import streams


@pytest.fixture
def take(tmp_path):
    """A recording of frames 100, 101 and 102."""
    path = tmp_path / "old.npy"
    with shmring.Ring.create(shape=(4,), dtype="u1", slots=8) as ring:
        with ring.producer() as out:
            out.put_many(np.arange(100, 103, dtype="u1").repeat(4).reshape(3, 4))
        recording.record(ring, path)
    return path


@pytest.fixture
def abandoned(name):
    """A ring of a producer that died, and a consumer that waits for the next one."""
    pid = os.fork()
    if pid == 0:
        with shmring.Ring.create(name, shape=(4,), dtype="u1", slots=8) as ring:
            ring._owner = 0  # the name stays
            ring.producer().put(np.zeros(4, "u1"))
            wait_until(lambda: ring.stats().consumers, "the consumer")
            os._exit(0)
    with shmring.Ring.attach(name, timeout=PATIENCE) as ring:
        consumer = ring.consumer(wait_for_takeover=True, label="waits")
        os.waitpid(pid, 0)
        assert consumer.get(0).array.tolist() == [0] * 4
        yield consumer
    (SHM / name).unlink(missing_ok=True)


@pytest.fixture
def write(monkeypatch, capsys, tmp_path):
    """Run `shmring write` in this process; its exit code, and what it says."""

    def write(name: str, *words: str, data: bytes) -> tuple[int, str]:
        (tmp_path / "stdin").write_bytes(data)
        with (tmp_path / "stdin").open("rb") as file:
            monkeypatch.setattr(streams, "stdin", file.fileno())
            code = app.run(["write", name, *words])
        return code, capsys.readouterr().err

    return write


def npy(array: np.ndarray, path) -> bytes:
    np.save(path, array)
    return path.read_bytes()


def test_write_takes_over(write, name, abandoned):
    code, err = write(name, "--shape", "4", "--dtype", "u1", data=bytes([7] * 4 + [8] * 4))
    assert (code, "2 frames" in err) == (0, True), err
    assert [(int(frame.array[0]), frame.seq, frame.epoch) for frame in abandoned] == [(7, 1, 2), (8, 2, 2)]
    assert not (SHM / name).exists(), "its creator is gone: nobody else would remove it"


def test_write_counts_its_own_frames(write, name, abandoned, tmp_path):
    data = npy(np.full((3, 4), 5, "u1"), tmp_path / "in.npy")
    code, err = write(name, "--format", "npy", "--frames", "2", data=data)
    assert (code, "2 frames" in err) == (0, True), err
    assert [frame.seq for frame in abandoned] == [1, 2]


def test_write_says_what_differs(write, name, abandoned):
    code, err = write(name, "--shape", "5", "--dtype", "u1", data=bytes(5))
    assert code != 0
    assert "shape (4,), not (5,)" in err
    assert "waits" in err, "who uses it"
    assert err.count("\n") == 1


def test_write_refuses_a_living_producer(write, make):
    ring = make(shape=(4,), dtype="u1")
    with ring.producer():
        code, err = write(ring.name, "--shape", "4", "--dtype", "u1", data=bytes(4))
    assert (code, f"in use (producer pid {os.getpid()}" in err) == (1, True)


def test_the_name_of_a_living_creator_stays(write, make):
    ring = make(shape=(4,), dtype="u1")
    code, err = write(ring.name, "--shape", "4", "--dtype", "u1", data=bytes(4))
    assert code == 0, err
    assert (SHM / ring.name).exists()


def test_the_recorder_that_waits_for_a_takeover_continues(command, write, name, tmp_path):
    """A writer is killed, and started again."""
    read_end, write_end = os.pipe()
    writer = command("write", name, "--shape", "4", "--dtype", "u1", "--wait-for", "1", stdin=read_end)
    recorder = command("record", name, tmp_path / "take.npy", "--takeover", "--quiet")
    os.close(read_end)
    os.write(write_end, bytes([1] * 8))
    with shmring.Ring.attach(name, timeout=PATIENCE, readonly=True) as ring:
        wait_until(lambda: ring.stats().published == 2, "the first frames")
        writer.kill()
        writer.wait()
        os.close(write_end)
    code, err = write(name, "--shape", "4", "--dtype", "u1", data=bytes([2] * 8))
    assert code == 0, err
    _, err = recorder.communicate(timeout=PATIENCE)
    assert recorder.returncode == 0, err
    with recording.open_recording(tmp_path / "take.npy") as taken:
        assert (taken.array[:, 0].tolist(), taken.seqs.tolist()) == ([1, 1, 2, 2], [0, 1, 2, 3])


def test_replay_takes_over(name, abandoned, take):
    assert recording.replay(take, name, pace=None) == 3
    assert [(int(frame.array[0]), frame.seq) for frame in abandoned] == [(100, 1), (101, 2), (102, 3)]
    assert not (SHM / name).exists()


def test_replay_refuses_others(make, take):
    with make(shape=(4,), dtype="u1") as ring, ring.producer(), pytest.raises(shmring.RingExists):
        recording.replay(take, ring.name)
    with make(shape=(5,), dtype="u1") as ring, pytest.raises(shmring.RingIncompatible, match=r"shape \(5,\)"):
        recording.replay(take, ring.name)


def test_the_command_replay_takes_over(name, abandoned, take):
    assert app.run(["replay", str(take), name, "--flat-out", "--quiet"]) == 0
    assert len(list(abandoned)) == 3
