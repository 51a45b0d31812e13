"""RingLoader: the batches of a DataLoader, as views of slots."""

from __future__ import annotations

import multiprocessing.forkserver
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest

import shmring
from support.private_shm import mount_private_shm
from support.processes import PeerError
from support.waiting import task_state, wait_asleep, wait_until

torch = pytest.importorskip("torch")

from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler  # noqa: E402

from shmring.torch import BatchTimeout, RingLoader, WorkerDied  # noqa: E402
from support import datasets  # noqa: E402
from support.datasets import Arrays, Counting, Deadly, Dice, Everything, Failing, Sizes, Stuck  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:This DataLoader will create")]

FORK = {"multiprocessing_context": "fork"}


def assert_same(ours, theirs) -> None:
    """Compare deeply: types, values, dtypes, strides."""
    assert type(ours) is type(theirs)
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            assert_same(ours[key], theirs[key])
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif isinstance(theirs, torch.Tensor):
        assert (ours.dtype, ours.shape, ours.layout) == (theirs.dtype, theirs.shape, theirs.layout)
        assert ours.requires_grad == theirs.requires_grad
        if theirs.layout is torch.strided:
            assert ours.tolist() == theirs.tolist()
        else:
            assert torch.equal(ours.to_dense(), theirs.to_dense())
    elif isinstance(theirs, np.ndarray):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        np.testing.assert_array_equal(ours, theirs)
    else:
        assert ours == theirs


def assert_as_data_loader(dataset, *args, epochs: int = 1, max_held: int = 2, **options) -> None:
    """The same seeds give the same batches, in the same order, in every epoch."""
    options = {**FORK, "num_workers": 2, **options}
    torch.manual_seed(7)
    theirs = DataLoader(dataset, *args, **options)
    expected = [list(theirs) for _ in range(epochs)]
    torch.manual_seed(7)
    ours = RingLoader(dataset, *args, max_held=max_held, **options)
    found = [list(ours) for _ in range(epochs)]
    assert_same(found, expected)


SAMPLERS = {
    "in order": {},
    "shuffled": {"shuffle": True},
    "three workers": {"num_workers": 3, "shuffle": True},
    "one worker": {"num_workers": 1},
    "more workers than batches": {"num_workers": 4, "batch_size": 8},
    "dropping": {"drop_last": True},
    "deep": {"prefetch_factor": 7},
    "shallow": {"prefetch_factor": 1},
    "sampler": {"sampler": RandomSampler(range(17))},
    "batch sampler": {"batch_size": 1, "batch_sampler": BatchSampler(SequentialSampler(range(17)), 5, False)},
    "no batches": {"batch_size": None},
    "a worker_init_fn": {"worker_init_fn": datasets.seed_init},
}


@pytest.mark.parametrize("options", SAMPLERS.values(), ids=SAMPLERS)
def test_the_batches_of_a_data_loader(options) -> None:
    assert_as_data_loader(Arrays(17), **{"batch_size": 3, **options})


@pytest.mark.parametrize("max_held", [0, 100])
def test_every_kind_of_sample(max_held) -> None:
    assert_as_data_loader(Everything(9), 2, max_held=max_held)


def test_random_numbers_in_workers_and_epochs() -> None:
    assert_as_data_loader(Dice(8), 2, shuffle=True, epochs=2)


def test_random_numbers_with_persistent_workers() -> None:
    assert_as_data_loader(Dice(8), 2, shuffle=True, epochs=2, persistent_workers=True)


def test_random_numbers_of_a_generator() -> None:
    dataset = Dice(8)
    theirs = DataLoader(dataset, 2, True, num_workers=2, generator=torch.Generator().manual_seed(3), **FORK)
    ours = RingLoader(dataset, 2, True, num_workers=2, generator=torch.Generator().manual_seed(3), **FORK)
    assert_same(list(ours), list(theirs))


@pytest.mark.parametrize("kind", [Counting, datasets.Uneven])
@pytest.mark.parametrize(
    "options", [{"batch_size": 3}, {"batch_size": 3, "drop_last": True}, {"batch_size": None}]
)
def test_iterable_datasets(kind, options) -> None:
    assert_as_data_loader(kind(23), epochs=2, persistent_workers=True, **options)


def test_batches_of_many_sizes() -> None:
    assert_as_data_loader(Sizes(40), batch_size=None, shuffle=True)


def test_getitems() -> None:
    assert_as_data_loader(datasets.Many(20), 4)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("collate", [datasets.collate_list, datasets.odd_tensors])
def test_what_a_collate_function_makes(collate) -> None:
    assert_as_data_loader(Arrays(6), 2, collate_fn=collate)


def test_lazily_conjugated_tensors_keep_their_values() -> None:
    """A DataLoader of torch 2.13 loses the conjugation on the way."""
    loader = RingLoader(Arrays(2), 1, num_workers=1, collate_fn=datasets.lazy_tensors, **FORK)
    assert_same(list(loader), [datasets.lazy_tensors([np.float32(number)]) for number in range(2)])


def test_memory_in_another_order_stays_so() -> None:
    loader = RingLoader(
        Arrays(4, (3, 5, 6)), 2, num_workers=1, collate_fn=datasets.collate_channels_last, **FORK
    )
    for batch in loader:
        assert batch.is_contiguous(memory_format=torch.channels_last)


def test_a_collate_function_may_keep_its_batches() -> None:
    loader = RingLoader(Arrays(30), 1, num_workers=1, collate_fn=datasets.Remember(), **FORK)
    assert [int(batch[0, 0, 0]) for batch in loader] == list(range(30))


@pytest.fixture
def no_forkserver_stays():
    yield
    multiprocessing.forkserver._forkserver._stop()


@pytest.mark.parametrize("method", [pytest.param("spawn", marks=pytest.mark.stress), "forkserver"])
def test_workers_that_are_not_forked(no_forkserver_stays, method) -> None:
    torch.manual_seed(7)
    expected = list(DataLoader(Dice(4), 2, num_workers=1, **FORK))
    torch.manual_seed(7)
    assert_same(list(RingLoader(Dice(4), 2, num_workers=1, multiprocessing_context=method)), expected)


def test_no_workers() -> None:
    assert_as_data_loader(Everything(4), 2, num_workers=0, multiprocessing_context=None)


def test_it_is_a_data_loader() -> None:
    loader = RingLoader(Arrays(10), 4, num_workers=1, **FORK)
    assert isinstance(loader, DataLoader)
    assert len(loader) == 3


# ---- slots


def addresses(batches) -> list[int]:
    return [batch.data_ptr() for batch in batches]


def test_a_batch_is_a_view_that_may_be_changed() -> None:
    """Slots are used again, but only when no tensor is on them; what is changed, nobody else sees."""
    loader = RingLoader(Arrays(40), 1, num_workers=1, max_held=3, **FORK)
    seen = []
    kept = None
    for number, batch in enumerate(loader):
        assert (batch == number).all()
        batch.sub_(1000)
        if number == 5:
            kept = batch[:, 1:, 1:].numpy()
        seen.append(batch.data_ptr())
    assert (kept == 5 - 1000).all()
    slots = 2 + 3
    assert len(set(seen)) <= slots
    assert seen.count(seen[5]) < 40 // slots + 1


def test_a_trainer_that_keeps_everything_gets_copies() -> None:
    loader = RingLoader(Arrays(50, (1000,)), 2, num_workers=2, **FORK)
    kept = [batch.add_(1) for batch in loader]
    assert [float(batch[0, 0]) for batch in kept] == list(range(1, 51, 2))
    assert len(set(addresses(kept))) == 25


def test_batches_outlive_the_loader() -> None:
    loader = RingLoader(Arrays(4), 2, num_workers=1, **FORK)
    batches = iter(loader)
    first = next(batches)
    del batches, loader
    assert first.mul_(2)[1, 0, 0] == 2


def test_a_forked_child_keeps_its_parents_batch(fork) -> None:
    batches = iter(RingLoader(Arrays(30), 1, num_workers=1, **FORK))
    held = [next(batches)]
    go, going = os.pipe()

    def look(send) -> None:
        os.read(go, 1)
        send(held[0].unique().tolist())

    child = fork(look)
    held.clear()
    assert len(list(batches)) == 29
    os.write(going, b"x")
    assert child.receive() == [0]
    for fd in (go, going):
        os.close(fd)


# ---- epochs


def test_an_epoch_that_is_left_early() -> None:
    for persistent in [False, True]:
        loader = RingLoader(Arrays(40), 4, num_workers=2, persistent_workers=persistent, **FORK)
        for _ in range(3):
            for batch in loader:
                assert batch[0, 0, 0] == 0
                break
        next(iter(loader))
        iter(loader)  # not even begun
        assert [int(batch[0, 0, 0]) for batch in loader] == list(range(0, 40, 4))


def test_an_iterable_dataset_that_is_left_early() -> None:
    loader = RingLoader(Counting(40), 4, num_workers=2, persistent_workers=True, **FORK)
    next(iter(loader))
    assert torch.cat(list(loader)).sum() == 3 * sum(range(40))


def test_a_profile_has_a_line_for_the_loader() -> None:
    with torch.autograd.profiler.profile() as profile:
        list(RingLoader(Arrays(4), 2, num_workers=1, **FORK))
    assert any("DataLoader" in event.name for event in profile.function_events)


def test_two_iterators_at_once() -> None:
    loader = RingLoader(Arrays(12), 2, num_workers=1, **FORK)
    for one, other in zip(loader, loader, strict=True):
        assert torch.equal(one, other)


def test_in_any_order() -> None:
    try:
        loader = RingLoader(Arrays(20), 2, num_workers=2, in_order=False, **FORK)
    except TypeError:
        pytest.skip("this torch has no in_order")
    assert sorted(int(batch[0, 0, 0]) for batch in loader) == list(range(0, 20, 2))


def test_many_long_tasks_and_answers() -> None:
    """More than the sockets hold, in both directions: nobody waits for somebody who waits."""
    order = [list(range(3000))] * 150
    loader = RingLoader(
        datasets.Many(3000), batch_sampler=order, num_workers=1, prefetch_factor=150, collate_fn=sum, **FORK
    )
    assert list(loader) == [3000 * 2999 // 2 + 3000] * 150


# ---- errors


@pytest.mark.parametrize("bad", [0, 5])
def test_an_error_arrives_with_its_traceback(bad) -> None:
    loader = RingLoader(Failing(8, bad, ZeroDivisionError), 1, num_workers=2, **FORK)
    batches = iter(loader)
    for number in range(8):
        if number == bad:
            with pytest.raises(
                ZeroDivisionError, match=rf"(?s)worker process {number % 2}.*raise self\.error.*is broken"
            ):
                next(batches)
        else:
            assert next(batches)[0, 0, 0] == number


def test_an_error_of_a_class_that_cannot_be_imported() -> None:
    class Local(Exception):
        pass

    loader = RingLoader(Failing(4, 1, Local), 1, num_workers=1, **FORK)
    with pytest.raises(RuntimeError, match=r"(?s)Local.*sample 1 is broken"):
        list(loader)


def test_a_batch_that_cannot_be_pickled() -> None:
    loader = RingLoader(datasets.Unpicklable(4), 2, num_workers=1, collate_fn=list, **FORK)
    with pytest.raises((AttributeError, TypeError, RuntimeError), match=r"(?s)pickle.*lambda|lambda.*pickle"):
        next(iter(loader))


def test_samples_that_do_not_stack() -> None:
    loader = RingLoader(Sizes(4), 2, num_workers=1, **FORK)
    with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size"):
        list(loader)


def test_a_worker_that_cannot_start() -> None:
    loader = RingLoader(Arrays(8), 2, num_workers=2, worker_init_fn=datasets.bad_init, **FORK)
    for batches in [iter(loader), iter(loader)]:
        with pytest.raises(ValueError, match="no camera for worker 0"):
            next(batches)


def test_too_little_shared_memory_is_named(fork) -> None:
    def train(send) -> None:
        if not mount_private_shm(SimpleNamespace(), "size=1m"):
            send("skip")
            return
        loader = RingLoader(Arrays(4, (100_000,)), 2, num_workers=1, **FORK)
        send("trains")
        list(loader)

    child = fork(train)
    if child.receive() == "skip":
        pytest.skip("cannot mount a /dev/shm here")
    with pytest.raises(
        PeerError, match=r"(?s)worker process 0.*no space for ring 'worker 0 of a RingLoader'"
    ) as caught:
        child.receive()
    assert caught.value.kind == "NoSpace"


def test_what_cannot_be_handed_to_a_spawned_worker() -> None:
    loader = RingLoader(
        Arrays(4), 2, num_workers=1, collate_fn=lambda batch: batch, multiprocessing_context="spawn"
    )
    with pytest.raises((AttributeError, TypeError, Exception), match="lambda") as caught:
        iter(loader)
    assert "must be picklable" in caught.value.__notes__[0]


@pytest.mark.parametrize("persistent", [False, True])
def test_a_killed_worker_is_named(tmp_path, persistent) -> None:
    (tmp_path / "once").touch()
    dataset = Deadly(12, 7, tmp_path)
    loader = RingLoader(dataset, 2, num_workers=2, persistent_workers=persistent, **FORK)
    with pytest.raises(WorkerDied, match=r"worker 1 \(pid \d+\) was killed by SIGKILL: .*\[6, 7\]") as caught:
        list(loader)
    assert isinstance(caught.value, (RuntimeError, shmring.ProducerDied))
    assert len(list(loader)) == 6


def test_a_worker_that_exits_is_named(tmp_path) -> None:
    (tmp_path / "once").touch()
    loader = RingLoader(Deadly(4, 0, tmp_path, 3), 2, num_workers=1, **FORK)
    with pytest.raises(WorkerDied, match=r"worker 0 \(pid \d+\) ended with exit code 3"):
        list(loader)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, 1])
def test_a_dead_worker_is_replaced_and_no_sample_is_lost(tmp_path, end, caplog) -> None:
    for number in range(2):
        (tmp_path / str(number)).touch()
    loader = RingLoader(
        Deadly(40, 13, tmp_path, end), 2, num_workers=2, prefetch_factor=3, replace_workers=True, **FORK
    )
    found = torch.cat(list(loader))[:, 0, 0].tolist()
    assert found == list(range(40))
    assert len(caplog.messages) == 2
    assert "loads its" in caplog.messages[0]


def test_workers_killed_at_any_time_lose_nothing() -> None:
    loader = RingLoader(Arrays(200), 2, num_workers=2, replace_workers=True, **FORK)
    batches = iter(loader)
    found = []
    for number, batch in enumerate(batches):
        found += batch[:, 0, 0].tolist()
        if number % 20 == 10:
            os.kill(batches._team._workers[number // 20 % 2].pid, signal.SIGKILL)
    assert found == list(range(200))


def test_a_sample_that_kills_every_worker(tmp_path) -> None:
    for number in range(9):
        (tmp_path / str(number)).touch()
    loader = RingLoader(Deadly(8, 4, tmp_path), 2, num_workers=1, replace_workers=True, **FORK)
    batches = iter(loader)
    assert [int(next(batches)[0, 0, 0]) for _ in range(2)] == [0, 2]
    with pytest.raises(WorkerDied, match=r"\[4, 5\]; so did its 2 predecessors"):
        next(batches)


def test_an_iterable_dataset_cannot_be_continued() -> None:
    with pytest.raises(ValueError, match="would begin an IterableDataset again"):
        RingLoader(Counting(4), num_workers=1, replace_workers=True)


@pytest.mark.parametrize(
    "options",
    [
        {"max_held": -1},
        {"max_held": 1.5},
        {"replace_workers": 1},
        {"slots": 3},
        {"num_workers": 1, "prefetch_factor": 0},
    ],
)
def test_wrong_options(options) -> None:
    with pytest.raises((TypeError, ValueError), match=list(options)[-1]):
        RingLoader(Arrays(4), **options)


def test_a_timeout_says_who_is_late() -> None:
    pipe, pids = os.pipe()
    batches = iter(RingLoader(Stuck(pids), 2, num_workers=1, timeout=0.2, **FORK))
    with pytest.raises(
        BatchTimeout, match=r"no batch in 0.2 s: worker 0 \(pid (\d+)\) is loading samples \[0, 1\]"
    ) as caught:
        next(batches)
    assert isinstance(caught.value, (RuntimeError, TimeoutError))
    batches._team._workers[0].process.kill()
    del batches, caught
    os.close(pipe)
    os.close(pids)


# ---- ends


def has_ended(pid: int) -> bool:
    try:
        return task_state(pid) == "Z"  # its new parent has not looked yet
    except FileNotFoundError:
        return True


def end_of_workers(pids: list[int]) -> None:
    for pid in pids:
        wait_until(lambda pid=pid: has_ended(pid), f"worker {pid} has ended")


def busy_trainer(pids: int):
    """What a child does: wait for batches that never come, from workers that say who they are."""

    def train(send) -> None:
        batches = iter(RingLoader(Stuck(pids), 2, num_workers=2, **FORK))
        send("trains")
        next(batches)

    return train


def read_pids(pipe: int, count: int) -> list[int]:
    text = b""
    while text.count(b"\n") < count:
        text += os.read(pipe, 100)
    return [int(pid) for pid in text.split()]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_the_trainer(fork, end) -> None:
    """Even those in the middle of a sample; meanwhile the trainer sleeps."""
    pipe, pids = os.pipe()
    trainer = fork(busy_trainer(pids))
    trainer.receive()
    workers = read_pids(pipe, 2)
    wait_asleep(trainer.pid)
    os.kill(trainer.pid, end)
    trainer.wait()
    end_of_workers(workers)
    os.close(pipe)
    os.close(pids)
