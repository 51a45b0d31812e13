"""MessageQueue between real processes: every start method, kill -9 of every role, Ctrl-C, nothing left."""

import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest

import shmring
from shmring import broadcast
from shmring.broadcast import MessageQueue
from support.blocks import SHM
from support.processes import PeerError
from support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.slow

CHUNK = 4096 - 64


def join(here, handle, rank):
    here.queue = MessageQueue.create_from_handle(pickle.loads(bytes.fromhex(handle)), rank)


def create(here, name, readers):
    here.queue = MessageQueue(readers, max_chunk_bytes=CHUNK, max_chunks=4, name=name)
    return pickle.dumps(here.queue.export_handle()).hex()


def enqueue(here, *values):
    for value in values:
        here.queue.enqueue(value, PATIENCE)


def enqueue_arrays(here, nbytes, *numbers):
    for number in numbers:
        here.queue.enqueue(np.full(nbytes, number, "u1"), PATIENCE)


def dequeue(here, count=1):
    return [here.queue.dequeue(PATIENCE) for _ in range(count)]


def dequeue_arrays(here, count=1):
    """The value of each array, and its size."""
    found = []
    for _ in range(count):
        array = here.queue.dequeue(PATIENCE)
        assert (array == array[0]).all()
        found.append([int(array[0]), array.nbytes])
    return found


def dequeue_without_end(here):
    here.queue.dequeue()


def keep_a_view(here):
    here.kept = here.queue.dequeue(PATIENCE, copy=False)
    return here.kept.tolist()


def close(here):
    here.queue.close()


@pytest.fixture
def writer(nothing_left_behind, name):
    with MessageQueue(2, max_chunk_bytes=CHUNK, max_chunks=4, name=name) as queue:
        yield queue


@pytest.fixture
def readers(peer, writer):
    handle = pickle.dumps(writer.export_handle()).hex()
    found = [peer(), peer()]
    for rank, one in enumerate(found):
        one.run(join, handle, rank)
    writer.wait_until_ready(PATIENCE)
    return found


# ---- start methods


def read_all(handle, rank, connection):
    """Dequeue to the end; the sum of each array."""
    with MessageQueue.create_from_handle(handle, rank) as queue:
        sums = []
        try:
            while True:
                sums.append(int(queue.broadcast_object()["data"].sum()))
        except shmring.RingClosed:
            connection.send(sums)


def test_every_start_method(context, name):
    with MessageQueue(2, max_chunk_bytes=CHUNK, name=name) as queue:
        pipes, processes = [], []
        for rank in range(2):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=read_all, args=(queue.export_handle(), rank, theirs))
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        for number in range(20):
            queue.enqueue({"data": np.full(number * 1000, 1, "u1")}, PATIENCE)
        queue.wait_until_ready(PATIENCE)
    for ours, process in zip(pipes, processes, strict=True):
        assert ours.recv() == [number * 1000 for number in range(20)]
        process.join(PATIENCE)
        assert process.exitcode == 0
        ours.close()
        process.close()


# ---- kill -9


def test_a_killed_reader_is_named_while_it_lives_and_does_not_stop_the_writer(
    writer, readers, caplog, monkeypatch
):
    monkeypatch.setattr(broadcast, "LOOK_AT_READERS", 0)
    one, other = readers
    one.signal(signal.SIGSTOP)
    for number in range(writer._ring.slots):
        writer.enqueue(number, timeout=0)
        assert other.run(dequeue) == [number]
    with pytest.raises(shmring.RingFull, match=f"pid {one.pid} .*rank 0"):
        writer.enqueue("too many", timeout=0)
    one.kill()
    for number in range(20):
        writer.enqueue(number, PATIENCE)
        assert other.run(dequeue) == [number]
    assert writer.readers == [1]
    assert "rank 0 is gone" in caplog.text


def test_a_reader_killed_in_the_middle_of_a_large_object(writer, readers):
    one, other = readers
    one.signal(signal.SIGSTOP)
    other.begin(dequeue_arrays, 2)
    with pytest.raises(shmring.RingFull):
        writer.enqueue(np.zeros(20 * CHUNK, "u1"), timeout=0.001)
    one.kill()
    for number in (1, 2):
        writer.enqueue(np.full(20 * CHUNK, number, "u1"), PATIENCE)
    assert other.answer() == [[1, 20 * CHUNK], [2, 20 * CHUNK]]


def test_a_killed_reader_gives_back_what_it_kept(writer, readers):
    one, other = readers
    writer.enqueue(np.arange(3))
    assert one.run(keep_a_view) == [0, 1, 2]
    other.run(dequeue_arrays_or_lists)
    one.kill()
    for number in range(20):
        writer.enqueue(number, PATIENCE)
        assert other.run(dequeue) == [number]
    assert writer._ring.stats().swaps == 0


def dequeue_arrays_or_lists(here):
    return here.queue.dequeue(PATIENCE).tolist()


def test_a_killed_writer(peer, name):
    writer, *readers = peer(), peer(), peer()
    handle = writer.run(create, name, 2)
    for rank, one in enumerate(readers):
        one.run(join, handle, rank)
    writer.run(enqueue, "last")
    readers[0].run(dequeue)
    readers[0].begin(dequeue_without_end).asleep()
    writer.kill()
    with pytest.raises(PeerError) as info:
        readers[0].answer()
    assert info.value.kind == "ProducerDied"
    assert f"writer of the queue {name!r} (pid {writer.pid}) died" in info.value.message
    assert readers[1].run(dequeue) == ["last"]
    with pytest.raises(PeerError, match="ProducerDied"):
        readers[1].run(dequeue)
    assert name not in os.listdir(SHM)


def test_a_writer_killed_in_the_middle_of_a_large_object(peer, name):
    writer, reader = peer(), peer()
    reader.run(join, writer.run(create, name, 1), 0)
    writer.run(enqueue, "before")
    writer.begin(enqueue_arrays, 20 * CHUNK, 1).asleep()
    writer.kill()
    assert reader.run(dequeue) == ["before"]
    with pytest.raises(PeerError, match="ProducerDied"):
        reader.run(dequeue)


# ---- Ctrl-C


def test_ctrl_c_in_a_wait_for_an_object(writer, readers):
    one, other = readers
    one.begin(dequeue_without_end).asleep()
    one.signal(signal.SIGINT)
    with pytest.raises(PeerError, match="KeyboardInterrupt"):
        one.answer()
    writer.enqueue("next")
    assert one.run(dequeue) == other.run(dequeue) == ["next"]


def test_ctrl_c_in_the_middle_of_a_large_object(peer, name):
    writer, reader = peer(), peer()
    reader.run(join, writer.run(create, name, 1), 0)
    writer.begin(enqueue_arrays, 20 * CHUNK, 1).asleep()
    writer.signal(signal.SIGINT)
    with pytest.raises(PeerError, match="KeyboardInterrupt"):
        writer.answer()
    reader.begin(dequeue_arrays, 2)
    writer.run(enqueue_arrays, 20 * CHUNK, 2, 3)
    assert reader.answer() == [[2, 20 * CHUNK], [3, 20 * CHUNK]]
    writer.run(close)


# ---- forks


def test_a_forked_child_has_no_part_in_its_parent_s_queue(writer, fork):
    def work(send):
        try:
            writer.enqueue(1)
        except shmring.ForkedHandle:
            writer.close()
            send("refused")

    assert fork(work).receive() == "refused"
    assert writer.name in os.listdir(SHM)
    with MessageQueue.create_from_handle(writer.export_handle(), 0) as reader:
        writer.enqueue("mine")
        assert reader.dequeue(0) == "mine"


# ---- readers come and leave


def test_a_reader_that_is_started_again(writer, readers, peer):
    one, other = readers
    one.kill()
    again = peer()
    again.run(join, pickle.dumps(writer.export_handle()).hex(), 0)
    wait_until(lambda: writer.readers == [0, 1])
    writer.enqueue("next", PATIENCE)
    assert again.run(dequeue) == other.run(dequeue) == ["next"]


def test_an_unclosed_queue_ends_with_the_program(tmp_path, name):
    code = f"""if True:
        from shmring.broadcast import MessageQueue
        queue = MessageQueue(1, name={name!r})
        reader = MessageQueue.create_from_handle(queue.export_handle(), 0)
        queue.enqueue(1)
    """
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
    assert name not in os.listdir(SHM)
