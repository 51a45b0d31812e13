"""RingDataset with DataLoader: each frame to one worker; ends, errors, kills; nothing is lost on the way."""

import contextlib
import doctest
import gc
import itertools
import multiprocessing
import os
import pickle
import signal
import threading

import numpy as np
import pytest

import shmring
from support.samples import rows_of, with_pid, without_seven
from support.waiting import PATIENCE, wait_until

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader  # noqa: E402

from shmring.torch import RingDataset, as_tensor  # noqa: E402

pytestmark = pytest.mark.slow

WORDS = 512


@pytest.fixture
def page(make):
    """Rings whose frames are a page of 8-byte integers."""
    return lambda **options: make(shape=(WORDS,), dtype="i8", **{"slots": 64, **options})


def frame(number: int) -> np.ndarray:
    return np.full(WORDS, number, "i8")


class Feed:
    """Puts `count` frames and ends the stream, in a thread."""

    def __init__(self, ring, count: int, first: int = 0, how: str = "close"):
        self.error: BaseException | None = None
        arguments = (ring.producer(), range(first, first + count), how)
        self.thread = threading.Thread(target=self.run, args=arguments)
        self.thread.start()

    def run(self, producer, numbers, how):
        try:
            for number in numbers:
                producer.put(frame(number), timeout=4 * PATIENCE)  # spawned workers take a while
        except BaseException as error:
            self.error = error
        finally:
            if how == "fail":
                producer.close(error="the camera burns")
            else:
                getattr(producer, how)()

    def join(self) -> None:
        self.thread.join()
        assert self.error is None


def numbers_of(batch) -> list[int]:
    assert (batch == batch[:, :1]).all()
    return batch[:, 0].tolist()


def loader_of(dataset, workers: int, method: str = "fork", **options):
    if workers:
        options = {"multiprocessing_context": method, **options}
    return DataLoader(dataset, num_workers=workers, **options)


def keep_all(batches, found: list) -> None:
    """Append (pid, number, redelivered) of each sample, as long as batches come."""
    for batch in batches:
        found += zip(*(part.tolist() for part in batch), strict=True)


def marked(batches, most: int | None = None) -> list[tuple[int, int, int]]:
    """The same of an iteration, or of so many batches at most."""
    found: list[tuple[int, int, int]] = []
    keep_all(itertools.islice(batches, most), found)
    return found


def fails(loader, kind: type[Exception], match: str) -> None:
    """Iterate until the exception, and end the workers, which would stay as long as its traceback."""
    batches = iter(loader)
    with pytest.raises(kind, match=match):
        list(batches)
    if loader.num_workers:
        batches._shutdown_workers()


# ---- whole streams


@pytest.mark.parametrize("batch_size", [1, 5, 32])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_each_frame_comes_once(page, workers, batch_size):
    ring = page()
    with RingDataset(ring) as dataset:
        feed = Feed(ring, 200)
        found = [n for batch in loader_of(dataset, workers, batch_size=batch_size) for n in numbers_of(batch)]
        assert sorted(found) == list(range(200))
        if workers < 2:
            assert found == sorted(found)
        feed.join()


@pytest.mark.parametrize("slots", [2, 3, 8])
def test_batches_larger_than_the_ring(page, slots):
    ring = page(slots=slots)
    with RingDataset(ring) as dataset:
        feed = Feed(ring, 50)
        found = [n for batch in loader_of(dataset, 1, batch_size=32) for n in numbers_of(batch)]
        assert found == list(range(50))
        feed.join()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_start_methods(page, method):
    ring = page()
    with RingDataset(ring.name, transform=with_pid) as dataset:
        feed = Feed(ring, 100)
        with started(method):
            found = marked(iter(loader_of(dataset, 1, method, batch_size=4)))
            gc.collect()
        assert sorted(number for _, number, _ in found) == list(range(100))
        feed.join()


@contextlib.contextmanager
def started(method: str):
    """After it the fork server has ended."""
    yield
    if method == "forkserver":
        multiprocessing.forkserver._forkserver._stop()


@pytest.mark.parametrize("workers", [0, 2])
def test_the_next_iteration_continues_with_the_next_producer(page, workers):
    ring = page()
    with RingDataset(ring) as dataset:
        loader = loader_of(dataset, workers, batch_size=4, persistent_workers=workers > 0)
        for first in (0, 20):
            feed = Feed(ring, 20, first)
            found = [number for batch in loader for number in numbers_of(batch)]
            assert sorted(found) == list(range(first, first + 20))
            feed.join()
            assert list(loader) == []
        del loader


def test_frames_from_before_the_workers_start_are_there(page):
    """The dataset holds the stream together from the moment when it is made."""
    ring = page(slots=8)
    with ring.producer() as producer, RingDataset(ring) as dataset:
        for number in range(8):
            assert producer.put(frame(number), timeout=0)
        producer.close()
        found = [number for batch in loader_of(dataset, 2, batch_size=2) for number in numbers_of(batch)]
        assert sorted(found) == list(range(8))


def test_two_trainings_share_a_group(page):
    ring = page()
    with RingDataset(ring, group="t") as one, RingDataset(ring.name, group="t") as two:
        feed = Feed(ring, 40)
        found = [
            numbers_of(batch)[0]
            for pair in zip(DataLoader(one), DataLoader(two), strict=True)
            for batch in pair
        ]
        assert sorted(found) == list(range(40))
        assert [group.name for group in ring.stats().groups] == ["t"]
        feed.join()


def test_a_dataset_without_loader_and_a_pickled_one(page):
    ring = page()
    with RingDataset(ring) as dataset, ring.producer() as producer:
        for number in range(4):
            producer.put(frame(number))
        producer.close()
        again = pickle.loads(pickle.dumps(dataset))
        samples = iter(again)
        assert [int(next(samples)[0]) for _ in range(2)] == [0, 1]
        samples.close()
        assert [int(sample[0]) for sample in dataset] == [2, 3]
        again.close()


# ---- samples

POINT = np.dtype(
    [("x", ">f4"), ("label", "S5"), ("when", "M8[us]"), ("matrix", "i2", (2, 2)), ("in", [("z", "u1")])]
)


def test_the_meta_comes_as_what_batches_can_hold(make):
    ring = make(shape=(4,), dtype="u1", meta=POINT)
    with RingDataset(ring) as dataset, ring.producer() as producer:
        for number in range(2):
            point = (number, b"ab", np.datetime64(number, "us"), [[1, 2], [3, 4]], (number,))
            producer.put(np.zeros(4, "u1"), meta=point)
        producer.close()
        [(images, points)] = DataLoader(dataset, batch_size=2)
        assert (images.shape, images.dtype) == ((2, 4), torch.uint8)
        assert (points["x"].tolist(), points["x"].dtype) == ([0, 1], torch.float32)
        assert points["label"] == [b"ab", b"ab"]
        assert (points["when"].tolist(), points["when"].dtype) == ([0, 1], torch.int64)
        assert (points["matrix"].shape, points["matrix"].dtype) == ((2, 2, 2), torch.int16)
        assert points["in"]["z"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("meta", "value", "expected"), [("f4", 0.5, 0.5), ("U3", "abc", "abc"), ("?", True, True)]
)
def test_a_plain_meta(make, meta, value, expected):
    ring = make(shape=(4,), dtype="u1", meta=meta)
    with RingDataset(ring) as dataset, ring.producer() as producer:
        producer.put(np.zeros(4, "u1"), meta=value)
        producer.close()
        [(_, found)] = dataset
        assert found == expected


def test_samples_are_writable_and_hold_no_slot(page):
    ring = page()
    with RingDataset(ring) as dataset, ring.producer() as producer:
        producer.put(frame(1))
        producer.put(frame(2))
        producer.close()
        one, two = dataset
        assert one.add_(1).eq(two).all()
        del dataset
        assert sum(consumer.held for consumer in ring.stats().consumers) == 0


def test_frames_of_different_lengths(make):
    ring = make(shape=(4, 2), dtype="f4", variable_rows=True)
    with RingDataset(ring) as dataset, ring.producer() as producer:
        for rows in (0, 3, 4):
            producer.put(np.ones((rows, 2), "f4"))
        producer.close()
        assert [tuple(tensor.shape) for tensor in DataLoader(dataset, batch_size=None)] == [
            (0, 2),
            (3, 2),
            (4, 2),
        ]


def test_transform_sees_the_frame_and_takes_dtypes_that_torch_lacks(make):
    ring = make(shape=(4,), dtype=">u2", variable_rows=True)
    with pytest.raises(TypeError, match="torch has no dtype for >u2; convert it"):
        RingDataset(ring)
    with RingDataset(ring, transform=rows_of) as dataset, ring.producer() as producer:
        producer.put(np.ones(3, ">u2"))
        producer.close()
        assert list(dataset) == [3]
    assert ring.stats().consumers == ()


# ---- ends and errors


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("how", "kind"), [("abandon", shmring.ProducerDied), ("fail", shmring.ProducerFailed)]
)
def test_a_producer_that_died_or_failed(page, workers, how, kind):
    ring = page()
    with RingDataset(ring) as dataset:
        feed = Feed(ring, 20, how=how)
        said = "the camera burns" if how == "fail" else "ended without closing"
        fails(loader_of(dataset, workers, batch_size=4), kind, said)
        feed.join()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_next_producer_is_waited_for(page, workers):
    ring = page()
    with RingDataset(ring, wait_for_takeover=True) as dataset:
        feed = Feed(ring, 20, how="abandon")
        batches = iter(loader_of(dataset, workers, batch_size=1))
        found = [numbers_of(next(batches))[0] for _ in range(20)]
        feed.join()
        feed = Feed(ring, 20, first=20)
        found += [numbers_of(batch)[0] for batch in batches]
        assert sorted(found) == list(range(40))
        feed.join()


@pytest.mark.parametrize("workers", [0, 1])
def test_no_frame_in_time(page, workers):
    ring = page()
    with RingDataset(ring, timeout=0.01) as dataset, ring.producer():
        fails(loader_of(dataset, workers), shmring.RingEmpty, r"no new frame in ring .* within 0.01 s")


def test_an_exception_of_transform_comes_through_and_its_frame_does_not_come_again(page):
    ring = page()
    with RingDataset(ring, transform=without_seven) as dataset:
        feed = Feed(ring, 40)
        found = []
        batches = iter(loader_of(dataset, 2, batch_size=3))
        with pytest.raises(ZeroDivisionError, match="seven is bad luck"):
            keep_all(batches, found)
        batches._shutdown_workers()
        found = [number for _, number, _ in found]
        found += [number for _, number, _ in marked(iter(loader_of(dataset, 2, batch_size=3)))]
        assert set(range(40)) - set(found) == {7}
        feed.join()


def test_wrong_arguments(page, name):
    ring = page()
    with pytest.raises(TypeError, match="takes a Ring or the name of one, not int"):
        RingDataset(3)
    with pytest.raises(shmring.RingNotFound):
        RingDataset(name)
    for wrong in (
        {"in_flight": -1},
        {"in_flight": 2, "at_most_once": True},
        {"start": "now"},
        {"timeout": -1},
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            RingDataset(ring, **wrong)
    with pytest.raises(TypeError):
        RingDataset(ring, in_flight=1.5)
    assert ring.stats().consumers == ()
    dataset = RingDataset(ring)
    dataset.close()
    dataset.close()
    with pytest.raises(
        shmring.RingClosed, match=f"this RingDataset is closed; make another one of '{ring.name}'"
    ):
        iter(dataset)


@pytest.mark.parametrize(
    ("ring_options", "options", "kind", "said"),
    [
        ({"slots": 16}, {"in_flight": 8}, ValueError, "2 workers with in_flight=8 need 17 slots, .* has 16"),
        ({}, {"group": "t"}, ValueError, "group='t' may have members elsewhere: say with in_flight="),
        ({"consumers": 1}, {}, shmring.TooManyConsumers, "has 1 place for consumers"),
    ],
)
def test_what_the_workers_need_is_checked(page, ring_options, options, kind, said):
    ring = page(**ring_options)
    with RingDataset(ring, **options) as dataset:
        Feed(ring, 1).join()
        fails(loader_of(dataset, 2), kind, said)


def test_the_least_ring_for_in_flight(page):
    """All workers together keep all slots but one, and the stream flows."""
    ring = page(slots=9)
    with RingDataset(ring, in_flight=4) as dataset:
        feed = Feed(ring, 100)
        found = [n for batch in loader_of(dataset, 2, batch_size=2) for n in numbers_of(batch)]
        assert sorted(found) == list(range(100))
        feed.join()


def test_a_dataset_that_nobody_closed_leaves_without_a_warning(page):
    ring = page()
    loader = DataLoader(RingDataset(ring.name))
    assert len(ring.stats().consumers) == 1
    iter(loader)
    del loader
    gc.collect()
    assert ring.stats().consumers == ()


# ---- kills and early ends


def kill_one(batches, found: list) -> None:
    """Kill the worker that made the last sample, and end the others."""
    with pytest.raises(RuntimeError, match=r"DataLoader worker .* is killed by signal"):
        kill_and_wait(found[-1][0])
    batches._shutdown_workers()  # the exception keeps the iterator, and so its workers, from going


def kill_and_wait(pid: int) -> None:
    """Until torch raises, in the main thread, wherever that is."""
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: False, "torch notices the death")


@pytest.mark.parametrize("batches_before", [1, 4, 9])
@pytest.mark.parametrize("prefetch_factor", [1, 3])
def test_what_a_killed_worker_had_on_its_way_comes_again(page, prefetch_factor, batches_before):
    ring = page()
    with RingDataset(ring, transform=with_pid, in_flight=3 * prefetch_factor) as dataset:
        feed = Feed(ring, 100)
        batches = iter(loader_of(dataset, 2, batch_size=3, prefetch_factor=prefetch_factor))
        found = marked(batches, batches_before)
        kill_one(batches, found)
        again = marked(iter(loader_of(dataset, 2, batch_size=3)))
        assert {number for _, number, _ in found + again} == set(range(100))
        assert sum(redelivered for _, _, redelivered in again) <= 2 * 3 * prefetch_factor + 3
        feed.join()


def test_what_was_on_its_way_from_a_worker_killed_at_the_end_comes_again(page):
    ring = page()
    with RingDataset(ring, transform=with_pid, in_flight=16) as dataset:
        feed = Feed(ring, 12)
        batches = iter(loader_of(dataset, 1, batch_size=4, prefetch_factor=4))
        found = marked(batches, 1)
        feed.join()
        wait_until(lambda: all(consumer.lag == 0 for consumer in ring.stats().consumers), "all were taken")
        kill_one(batches, found)
        again = marked(iter(loader_of(dataset, 0, batch_size=4)))
        assert {number for _, number, _ in found + again} == set(range(12))


def test_at_most_once_nothing_comes_twice(page):
    ring = page()
    with RingDataset(ring, transform=with_pid, at_most_once=True) as dataset:
        feed = Feed(ring, 100)
        batches = iter(loader_of(dataset, 2, batch_size=3))
        found = marked(batches, 4)
        kill_one(batches, found)
        found += marked(iter(loader_of(dataset, 2, batch_size=3)))
        numbers = [number for _, number, _ in found]
        assert len(numbers) == len(set(numbers))
        feed.join()


@pytest.mark.parametrize("persistent", [False, True])
def test_what_was_on_its_way_when_the_loop_was_left_comes_again(page, persistent):
    ring = page()
    with RingDataset(ring, transform=with_pid, in_flight=6) as dataset:
        feed = Feed(ring, 100)
        loader = loader_of(dataset, 2, batch_size=3, persistent_workers=persistent)
        found = marked(iter(loader), 2)
        gc.collect()
        again = marked(iter(loader))
        numbers = [number for _, number, _ in found + again]
        assert set(numbers) == set(range(100))
        assert len(numbers) <= 100 + 2 * 6
        feed.join()
        del loader


def test_after_a_regular_end_nothing_comes_again(page):
    ring = page()
    with RingDataset(ring, in_flight=8) as dataset:
        feed = Feed(ring, 30)
        assert len(list(loader_of(dataset, 2, batch_size=4, drop_last=True))) <= 7
        assert list(loader_of(dataset, 2, batch_size=4)) == []
        assert [consumer.label for consumer in ring.stats().consumers] == ["RingDataset"]
        feed.join()


def test_the_workers_of_a_killed_training_end_and_others_get_what_they_had(page, fork):
    ring = page(slots=16)

    def train(send):
        with RingDataset(ring.name, transform=with_pid, group="t", in_flight=2) as dataset:
            for _, number, _ in loader_of(dataset, 2, batch_size=None, prefetch_factor=1):
                send(number)

    with RingDataset(ring, transform=with_pid, group="t") as dataset, ring.producer() as producer:
        training = fork(train)
        for number in range(8):
            producer.put(frame(number), timeout=PATIENCE)
        arrived = {training.receive() for _ in range(4)}
        training.kill()
        with contextlib.suppress(AssertionError):  # at the end of the pipe
            while True:
                arrived.add(training.receive())
        wait_until(lambda: sum(one.alive for one in ring.stats().consumers) == 1, "the workers have ended")
        producer.close()
        found = [number for _, number, _ in dataset]
        assert set(found) >= set(range(8)) - arrived
        assert len(found) == len(set(found))


@pytest.mark.parametrize("thing", [as_tensor, RingDataset], ids=lambda thing: thing.__name__)
def test_the_example_in_the_docstring(thing):
    [example] = doctest.DocTestFinder(recurse=False).find(thing, thing.__name__)
    assert doctest.DocTestRunner().run(example).failed == 0
