"""Ring: create, attach, close, unlink; names, sizes, attributes, modes, foreign blocks, observers."""

import contextlib
import os
import stat
import struct
import sys
from multiprocessing import resource_tracker
from multiprocessing.managers import SharedMemoryManager
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import pytest

import shmring
from shmring import _core
from support.blocks import block_file, fresh_name, inode, mappings
from support.frames import WORDS, check, drain, feed, payload
from support.peers import close_ring, create, observe, open_consumer
from support.waiting import unclosed


def test_a_new_ring_says_what_it_is(make, name):
    ring = make(name, shape=(8, WORDS // 8), slots=4)
    assert ring.name == name
    assert ring.shape == (8, WORDS // 8)
    assert ring.dtype == np.dtype("u8")
    assert isinstance(ring.dtype, np.dtype)
    assert ring.slots == 4
    assert ring.consumers == 16
    assert ring.meta_dtype is None
    assert ring.attrs == {}
    assert ring.variable_rows is False
    assert ring.frame_nbytes == WORDS * 8
    assert ring.nbytes >= 4 * WORDS * 8
    assert ring.nbytes == block_file(name).stat().st_size
    assert ring.readonly is False
    assert ring.closed is False


def test_an_attached_ring_says_the_same(make):
    ring = make(
        shape=(3, 5), dtype=">f4", slots=9, consumers=3, meta="i8", attrs={"unit": "V"}, variable_rows=True
    )
    with shmring.Ring.attach(ring.name) as other:
        for word in [
            "name",
            "shape",
            "dtype",
            "slots",
            "consumers",
            "meta_dtype",
            "attrs",
            "variable_rows",
            "nbytes",
            "frame_nbytes",
            "readonly",
            "closed",
        ]:
            assert getattr(other, word) == getattr(ring, word), word


def test_a_name_is_made_up_when_none_is_given():
    with (
        shmring.Ring.create(shape=(2,), dtype="u1", slots=2) as one,
        shmring.Ring.create(shape=(2,), dtype="u1", slots=2) as two,
    ):
        assert one.name
        assert two.name
        assert one.name != two.name
        assert block_file(one.name).exists()
        with shmring.Ring.attach(one.name) as other:
            assert other.name == one.name
    assert not block_file(one.name).exists()
    assert not block_file(two.name).exists()


def test_an_integer_shape_is_one_axis(make):
    assert make(shape=7).shape == (7,)


def test_the_block_is_a_shared_memory_block(ring):
    block = SharedMemory(ring.name)
    try:
        assert block.size == ring.nbytes
    finally:
        block.close()
        resource_tracker.unregister(f"/{ring.name}", "shared_memory")  # it was never ours to remove


@pytest.mark.parametrize(
    ("shape", "dtype", "slots"), [((1,), "u1", 2), ((1,), "u1", 3), ((3, 5), "f4", 7), ((4097,), "u1", 2)]
)
def test_rounded_up_slots_are_all_usable(make, shape, dtype, slots):
    ring = make(shape=shape, dtype=dtype, slots=slots)
    assert ring.slots >= slots
    with ring.producer(on_full="raise") as producer, ring.consumer() as consumer:
        for seq in range(ring.slots):
            producer.put(np.full(shape, seq % 100, dtype))
        with pytest.raises(shmring.RingFull):
            producer.put(np.full(shape, 0, dtype))
        for seq in range(ring.slots):
            frame = consumer.get(0)
            assert frame.seq == seq
            assert np.all(frame.array == seq % 100)
            frame.release()


# ---- sizes and arguments


@pytest.mark.parametrize("slots", [1, 0, -1])
def test_fewer_than_two_slots_are_refused(name, slots):
    with pytest.raises(ValueError, match="slots"):
        shmring.Ring.create(name, shape=(4,), dtype="u1", slots=slots)
    assert not block_file(name).exists()


@pytest.mark.parametrize("consumers", [0, -1, 65])
def test_the_table_has_1_to_64_places(name, consumers):
    with pytest.raises(ValueError, match="consumers"):
        shmring.Ring.create(name, shape=(4,), dtype="u1", slots=2, consumers=consumers)
    assert not block_file(name).exists()


@pytest.mark.parametrize("consumers", [1, 64])
def test_every_place_of_the_table_can_be_taken(make, consumers):
    ring = make(consumers=consumers)
    everyone = [ring.consumer() for _ in range(consumers)]
    assert sorted(one.place for one in everyone) == list(range(consumers))
    with ring.producer() as producer:
        feed(producer, 3)
        assert [drain(one) for one in everyone] == [[0, 1, 2]] * consumers
    for one in everyone:
        one.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": (-1,)},
        {"shape": (0,)},
        {"shape": (4, 0)},
        {"slots": 2.5},
        {"slots": "4"},
        {"shape": "ab"},
        {"shape": None},
        {"shape": 2.5},
        {"shape": (2.5,)},
        {"dtype": "no such type"},
        {"meta": "no such type"},
        {"consumers": "many"},
        {"mode": "rw"},
        {"attrs": [1, 2]},
        {"attrs": {"x": object()}},
        {"shape": (1 << 40, 1 << 40)},
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_and_leave_nothing(name, wrong):
    arguments = {"shape": (4,), "dtype": "u1", "slots": 4} | wrong
    with pytest.raises((TypeError, ValueError), match=f"{next(iter(wrong))} must be|the limits: "):
        shmring.Ring.create(name, **arguments)
    assert not block_file(name).exists()


@pytest.mark.parametrize("name", ["", "a/b", "/", "..", ".", "nul\0byte", "x" * 300])
def test_impossible_names_are_refused(name):
    with pytest.raises(ValueError, match="name"):
        shmring.Ring.create(name, shape=(4,), dtype="u1", slots=2)
    with pytest.raises(ValueError, match="name"):
        shmring.Ring.attach(name)


@pytest.mark.parametrize("name", [7, b"bytes", ["list"]])
def test_a_name_is_text(name):
    with pytest.raises(TypeError, match="name"):
        shmring.Ring.create(name, shape=(4,), dtype="u1", slots=2)
    with pytest.raises(TypeError, match="name"):
        shmring.Ring.attach(name)


def test_names_may_have_spaces_dots_and_any_script():
    name = f"{fresh_name()} v1.2 カメラ"
    with shmring.Ring.create(name, shape=(4,), dtype="u1", slots=2), shmring.Ring.attach(name) as other:
        assert other.name == name


@pytest.mark.parametrize("option", ["prefault", "lock_memory"])
@pytest.mark.parametrize("on", [True, False])
def test_memory_options_change_nothing_visible(make, option, on):
    ring = make(**{option: on})
    with ring.producer() as producer, ring.consumer() as consumer:
        for _ in range(3):
            feed(producer, 3)
            assert len(drain(consumer)) == 3


def test_prefault_takes_the_pages_and_the_space_is_reserved_anyway(make):
    ring = make(shape=(64 * WORDS,), slots=8, prefault=False)
    assert block_file(ring.name).stat().st_blocks * 512 >= 8 * 64 * WORDS * 8  # no SIGBUS later on


# ---- attributes


def test_attrs_travel(make):
    attrs = {
        "units": "mV",
        "axes": ["y", "x"],
        "exposure": 0.25,
        "deep": {"a": [1, None, True, "é"]},
        "big": 2**40,
    }
    ring = make(attrs=attrs)
    attrs["units"] = "changed"
    with shmring.Ring.attach(ring.name) as other:
        assert other.attrs == ring.attrs == attrs | {"units": "mV"}


def test_attrs_cannot_be_changed_behind_the_rings_back(make):
    ring = make(attrs={"a": [1]})
    with contextlib.suppress(TypeError):
        ring.attrs["a"] = 2
    with shmring.Ring.attach(ring.name) as other:
        assert other.attrs == {"a": [1]}


@pytest.mark.slow
def test_attrs_have_a_bounded_size(name):
    with pytest.raises(ValueError, match="attrs"):
        shmring.Ring.create(name, shape=(4,), dtype="u1", slots=2, attrs={"x": "y" * (1 << 26)})
    assert not block_file(name).exists()


# ---- close, unlink, with


def test_the_creators_with_unlinks(name):
    with shmring.Ring.create(name, shape=(4,), dtype="u1", slots=2) as ring:
        assert block_file(name).exists()
    assert ring.closed
    assert not block_file(name).exists()


def test_the_creators_with_unlinks_after_an_exception_too(name):
    with pytest.raises(ZeroDivisionError), shmring.Ring.create(name, shape=(4,), dtype="u1", slots=2):
        1 / 0  # noqa: B018
    assert not block_file(name).exists()


def test_the_creators_with_unlinks_a_ring_that_was_closed_before(name, fork):
    with shmring.Ring.create(name, shape=(4,), dtype="u1", slots=4) as ring:
        ring.close()

        def leave(send):
            ring.__exit__(None, None, None)

        assert fork(leave).wait() == 0
        assert block_file(name).exists()  # the parent's to remove
    assert not block_file(name).exists()


def test_an_attachers_with_only_closes(ring):
    with shmring.Ring.attach(ring.name) as other:
        pass
    assert other.closed
    assert not ring.closed
    assert block_file(ring.name).exists()
    with shmring.Ring.attach(ring.name):
        pass


def test_closing_does_not_unlink(name):
    ring = shmring.Ring.create(name, shape=(WORDS,), dtype="u8", slots=4)
    with ring.producer() as producer:
        feed(producer, 2)
    ring.close()
    ring.close()
    assert ring.closed
    with shmring.Ring.attach(name) as other, other.consumer() as consumer:
        assert drain_to_end(consumer) == [0, 1]
        other.unlink()


def drain_to_end(consumer):
    return [check(frame) for frame in consumer]


def test_a_closed_ring_refuses_and_says_so(make):
    ring = make()
    ring.close()
    for use in (ring.producer, ring.consumer, ring.observer, ring.stats):
        with pytest.raises((ValueError, shmring.ShmringError), match="closed"):
            use()


def test_unlink_takes_only_the_name(make, name):
    ring = make(name)
    other = shmring.Ring.attach(name)
    ring.unlink()
    assert not block_file(name).exists()
    with pytest.raises(shmring.RingNotFound):
        shmring.Ring.attach(name)
    with ring.producer() as producer, other.consumer() as consumer:
        feed(producer, 4)
        assert drain(consumer) == [0, 1, 2, 3]
    other.close()


def test_an_attacher_may_unlink_and_the_with_of_the_creator_does_not_mind(name):
    with shmring.Ring.create(name, shape=(4,), dtype="u1", slots=2):
        with shmring.Ring.attach(name) as other:
            other.unlink()
        assert not block_file(name).exists()


def test_unlink_never_takes_a_newer_ring_of_the_same_name(make, name):
    with shmring.Ring.create(name, shape=(4,), dtype="u1", slots=2) as old:
        old.unlink()
        new = make(name, shape=(5,))
        with contextlib.suppress(shmring.RingNotFound):
            old.unlink()
        assert block_file(name).exists()
    assert block_file(name).exists()  # nor does the end of the old one's with
    with shmring.Ring.attach(name) as other:
        assert other.shape == new.shape == (5,)


def test_a_closed_ring_can_still_be_unlinked(make, name):
    ring = make(name)
    ring.close()
    ring.unlink()
    assert not block_file(name).exists()


def test_a_ring_that_is_dropped_lets_go_of_everything(name):
    ring = shmring.Ring.create(name, shape=(4,), dtype="u1", slots=2)
    node = inode(name)
    assert mappings(node)
    ring.unlink()
    with unclosed("Ring"):
        del ring
    assert not mappings(node)


# ---- exist_ok


def test_exist_ok_takes_the_ring_that_is_there(make, name):
    ring = make(name)
    with ring.producer() as producer:
        feed(producer, 2)
        other = make(name, exist_ok=True)
        with other.consumer() as consumer:
            assert drain(consumer) == [0, 1]


def test_exist_ok_creates_what_is_not_there(make, name):
    assert make(name, exist_ok=True).name == name


@pytest.mark.parametrize("differs", [{"shape": (WORDS, 1)}, {"dtype": "i8"}, {"meta": "f8"}], ids=str)
def test_exist_ok_refuses_a_ring_that_differs(make, name, differs):
    make(name, slots=4)
    with pytest.raises((shmring.RingIncompatible, shmring.RingExists)) as caught:
        make(name, **({"slots": 4, "exist_ok": True} | differs))
    assert name in str(caught.value)


# ---- a cell that is run again


@pytest.fixture
def at_prompt(monkeypatch):
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)


def test_a_script_is_told_that_the_ring_is_its_own(make, name):
    make(name)
    with pytest.raises(shmring.RingExists, match="this process"):
        make(name)


@pytest.mark.usefixtures("at_prompt")
def test_at_a_prompt_a_ring_can_be_created_again(make, name):
    """With other frames, too; what belonged to the first one ends, as if its process had."""
    first = make(name)
    out, frames = first.producer(), first.consumer()
    out.put(payload(0))
    held = frames.get()
    second = make(name, shape=(3,))
    assert first.closed
    assert out.closed
    assert frames.closed
    check(held)
    held.release()
    with second.producer() as producer, shmring.Ring.attach(name) as other, other.consumer() as consumer:
        producer.put(np.ones(3, "u8"))
        with consumer.get() as frame:
            assert frame.shape == (3,)
    third = make(name, shape=(5,))
    assert second.closed
    third.unlink()
    assert not block_file(name).exists()


@pytest.mark.usefixtures("at_prompt")
def test_at_a_prompt_exist_ok_goes_on_with_the_consumers_of_others(make, name, peer):
    first = make(name)
    out = first.producer()
    other = peer(first)
    other.run(open_consumer)
    out.put(payload(0))
    second = make(name, exist_ok=True)
    assert out.closed
    with second.producer() as again:
        assert again.next_seq == 1
    third = make(name, exist_ok=True)
    third.close()
    third.unlink()


@pytest.mark.usefixtures("at_prompt")
def test_at_a_prompt_exist_ok_leaves_a_ring_without_a_producer_open(make, name):
    """A replay into a ring of one's own, by name, does the same."""
    with make(name) as ring, ring.consumer() as frames:
        other = make(name, exist_ok=True)
        with other.producer() as out:
            out.put(payload(0))
        check(frames.get(timeout=0))
        other.close()
        assert block_file(name).exists()


@pytest.mark.usefixtures("at_prompt")
def test_at_a_prompt_the_ring_of_another_process_is_not_replaced(make, name, peer):
    other = peer()
    other.run(create, name)
    with pytest.raises(shmring.RingExists, match="in use"):
        make(name)
    other.run(close_ring)
    shmring.unlink(name)


# ---- permissions


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_the_mode_is_exact_whatever_the_umask(make, mode):
    before = os.umask(0o077)
    try:
        ring = make(mode=mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE(block_file(ring.name).stat().st_mode) == mode


def test_the_default_mode_is_for_the_owner_only(ring):
    assert stat.S_IMODE(block_file(ring.name).stat().st_mode) == 0o600


# ---- read-only attachments and observers


def mappings_of_the_ring(here):
    return mappings(inode(here.ring.name))


def test_a_readonly_ring_observes_and_nothing_else(ring, peer):
    with ring.producer() as producer, shmring.Ring.attach(ring.name, readonly=True) as watched:
        feed(producer, 2)
        assert watched.readonly
        assert not ring.readonly
        assert watched.stats().published == 2
        with pytest.raises(shmring.RingAccessDenied, match="read"):
            watched.producer()
        with pytest.raises(shmring.RingAccessDenied, match="read"):
            watched.consumer()
    other = peer()
    other.run(observe, ring.name)
    assert other.run(mappings_of_the_ring) == []  # it reads the file


@pytest.mark.parametrize("readonly", [True, False])
def test_an_observer_leaves_no_trace(ring, readonly):
    with (
        ring.producer() as producer,
        ring.consumer() as consumer,
        shmring.Ring.attach(ring.name, readonly=readonly) as watched,
        watched.observer() as observer,
    ):
        feed(producer, 4)
        consumer.get(0).release()
        before = block_file(ring.name).read_bytes()
        copies = [observer.get(0) for _ in range(3)]
        newest = observer.latest(0)
        watched.stats()
        with pytest.raises(shmring.RingEmpty):
            observer.get(0)
        assert block_file(ring.name).read_bytes() == before
        assert [check(copy) for copy in copies] == [0, 1, 2]
        assert check(newest) == 3


def test_an_observers_copy_is_private_and_writable(ring):
    with ring.producer() as producer, ring.observer() as observer:
        producer.put(payload(0), timestamp_ns=77)
        copy = observer.get(0)
        assert (copy.seq, copy.timestamp_ns, copy.lost, copy.meta) == (0, 77, 0, None)
        copy.array[...] = 0
        with ring.observer() as another:
            assert another.get(0).array[1] == payload(0)[1]
        feed(producer, 3 * ring.slots)
        assert not copy.array.any()


def test_an_observer_counts_what_it_missed(ring):
    with ring.producer() as producer, ring.observer() as observer:
        feed(producer, 1)
        assert check(observer.get(0)) == 0
        feed(producer, 3 * ring.slots)
        copy = observer.get(0)
        assert copy.lost == copy.seq - 1 > 0
        assert check(copy) >= 2 * ring.slots


def test_an_observer_waits_and_sees_the_end(ring):
    with ring.observer() as observer:
        with pytest.raises(shmring.RingEmpty):
            observer.get(0.01)
        with ring.producer() as producer:
            feed(producer, 1)
        assert observer.get(1).seq == 0
        with pytest.raises(shmring.RingClosed):
            observer.get(1)


def test_observers_do_not_hold_the_producer_back(ring):
    with ring.producer(on_full="raise") as producer, ring.observer() as observer:
        for _ in range(5 * ring.slots):
            feed(producer, 1)
            check(observer.latest(0))
        assert ring.stats().consumers == ()


# ---- blocks made elsewhere


def test_required_size_is_what_create_takes(make):
    for shape, dtype, slots in [((1,), "u1", 2), ((480, 640, 3), "u1", 5), ((3,), "f8", 100)]:
        size = shmring.Ring.required_size(
            shape=shape, dtype=dtype, slots=slots, consumers=5, meta="f8", attrs={"a": 1}
        )
        ring = make(shape=shape, dtype=dtype, slots=slots, consumers=5, meta="f8", attrs={"a": 1})
        assert size == ring.nbytes


def test_a_ring_in_a_managers_block():
    with SharedMemoryManager() as manager:
        size = shmring.Ring.required_size(shape=(WORDS,), dtype="u8", slots=4)
        block = manager.SharedMemory(size)
        with shmring.Ring.create(shape=(WORDS,), dtype="u8", slots=4, block=block) as ring:
            assert ring.name == block.name
            with (
                shmring.Ring.attach(block.name) as other,
                ring.producer() as producer,
                other.consumer() as consumer,
            ):
                feed(producer, 4)
                assert drain(consumer) == [0, 1, 2, 3]
        assert block_file(block.name).exists()  # it is the manager's to remove
        block.close()
    assert not block_file(block.name).exists()


def test_a_block_that_is_too_small_is_refused():
    block = SharedMemory(create=True, size=4096)
    try:
        needed = shmring.Ring.required_size(shape=(WORDS,), dtype="u8", slots=4)
        with pytest.raises(ValueError, match=f"{needed}|{needed:,}|{needed:_}"):
            shmring.Ring.create(shape=(WORDS,), dtype="u8", slots=4, block=block)
    finally:
        block.close()
        block.unlink()


# ---- its header


def test_the_header_says_which_ring_it_is(ring):
    found = _core.read_identity(ring._fd)
    assert (found.result, found.abi, found.generation) == (0, _core.ABI, ring._generation)
    assert (found.block_bytes, found.creator_pid) == (ring.nbytes, os.getpid())
    assert [one.created_ns for one in shmring.rings() if one.name == ring.name] == [found.created_ns]


@pytest.mark.parametrize(
    ("content", "result", "abi"),
    [
        (b"", "NOT_READY", 0),
        (struct.pack("<8sII", _core.MAGIC, _core.ABI, 0).ljust(4096, b"\0"), "NOT_READY", _core.ABI),
        (b"something else".ljust(4096), "FOREIGN", None),
        (struct.pack("<8sII", _core.MAGIC, 77, 1).ljust(4096, b"\0"), "OTHER_ABI", 77),
    ],
    ids=["empty", "not ready", "foreign", "other version"],
)
def test_a_header_that_is_no_rings_is_read_as_far_as_it_goes(tmp_path, content, result, abi):
    path = tmp_path / "block"
    path.write_bytes(content)
    with path.open("rb") as file:
        found = _core.read_identity(file.fileno())
    assert found.result == getattr(_core, result)
    assert abi is None or found.abi == abi


# ---- what it looks like


def test_repr_tells_the_essentials(make, name):
    ring = make(name, shape=(2, 3), dtype="f4")
    for part in (name, "(2, 3)", "float32", str(ring.slots)):
        assert part in repr(ring)
    ring.close()
    assert "closed" in repr(ring)


def test_reprs_of_the_handles(ring):
    with ring.producer() as producer, ring.consumer(label="viewer") as consumer:
        with producer.claim() as slot:
            assert "0" in repr(slot)
        frame = consumer.get(0)
        for thing, part in ((producer, ring.name), (consumer, "viewer"), (frame, "0")):
            assert type(thing).__name__ in repr(thing)
            assert part in repr(thing)
