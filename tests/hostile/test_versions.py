"""Blocks of other layouts: refused with both versions named, recognised, and removed once nobody uses them.

The blocks in data/ are those of rings whose processes were killed: 6 frames published, the last one taken by
a lossless consumer, one held by a lossy one. Each was made by a library of its layout.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import shared_memory
from pathlib import Path

import numpy as np
import pytest

import shmring
from shmring import _core, _inventory
from support.blocks import block_file

DATA = Path(__file__).parent / "data"
LOCKS = {
    "producer": _core.LOCK_PRODUCER,
    "consumer": _core.lock_place(0),
    "attached": _core.LOCK_PRESENCE + 7,
}


@pytest.fixture
def stored(name: str) -> Iterator:
    """Puts a stored block under a name: `stored(layout)`; the name."""
    path = block_file(name)

    def put(layout: int) -> str:
        path.write_bytes(gzip.decompress((DATA / f"layout-{layout}.gz").read_bytes()))
        return name

    yield put
    path.unlink(missing_ok=True)


@contextmanager
def used(name: str, by: str) -> Iterator[None]:
    """The block, with the lock that a process of its own version would hold."""
    with block_file(name).open("r+b") as file:
        assert _core.lock(file.fileno(), LOCKS[by], _core.EXCLUSIVE)
        yield


def names_both(text: str) -> bool:
    return "layout version 1" in text and f"version {_core.ABI}" in text


def test_a_stored_block_of_this_layout_is_a_ring(stored) -> None:
    """So the stored blocks are what they say, and a change of the layout needs a number of its own."""
    name = stored(2)
    with shmring.Ring.attach(name) as ring:
        assert (ring.shape, ring.dtype, ring.meta_dtype) == ((64,), np.dtype("<f4"), np.dtype("<u4"))
        assert ring.attrs == {"unit": "V"}
        stats = ring.stats()
        assert (stats.published, stats.producer.state) == (6, "died")
        assert [(one.label, one.alive, one.held) for one in stats.consumers] == [
            ("recorder", False, 0), ("viewer", False, 1),
        ]  # fmt: skip
        with ring.consumer(wait_for_takeover=True) as consumer, ring.producer() as out:
            assert out.put(np.full(64, 6, "<f4"), meta=76)
            frames = [consumer.get(0) for _ in range(consumer.lag)]
            assert [(one.array[0], one.meta) for one in frames] == [(n, 70 + n) for n in range(7)]
            del frames


def test_the_stored_blocks_are_of_these_layouts(stored) -> None:
    for layout in (1, 2):
        with block_file(stored(layout)).open("rb") as file:
            identity = _core.read_identity(file.fileno())
        assert (identity.abi, identity.result) == (layout, 0 if layout == _core.ABI else _core.OTHER_ABI)
        assert identity.created_ns > 0
        assert any(identity.generation)


@pytest.mark.parametrize("by", [None, *LOCKS])
def test_it_cannot_be_attached_to(stored, by: str | None) -> None:
    name = stored(1)
    before = block_file(name).read_bytes()

    def attach(**options) -> None:
        with pytest.raises(shmring.RingIncompatible, match=f"shmring rm {name}") as caught:
            shmring.Ring.attach(name, **options)
        assert names_both(str(caught.value))

    def try_all() -> None:
        attach()
        attach(readonly=True)
        attach(timeout=0.01)
        followed = shmring.RingNotFound if by is None else shmring.RingIncompatible  # a left-over: none comes
        with pytest.raises(followed), shmring.follow(name, timeout=0.01) as stream:
            next(iter(stream))

    if by is None:
        try_all()
    else:
        with used(name, by):
            try_all()
    assert block_file(name).read_bytes() == before


def test_a_stale_one_is_replaced(stored) -> None:
    name = stored(1)
    with shmring.Ring.create(name, shape=(2,), dtype="u1", slots=4) as ring:
        assert ring.shape == (2,)
        assert _inventory.look(name).state == "live"


@pytest.mark.parametrize("by", LOCKS)
def test_one_in_use_is_not_replaced(stored, by: str) -> None:
    name = stored(1)
    before = block_file(name).read_bytes()
    options = {"shape": (2,), "dtype": "u1", "slots": 4}
    with used(name, by):
        with pytest.raises(shmring.RingExists, match="in use") as caught:
            shmring.Ring.create(name, **options)
        assert "layout version 1, not 2" in str(caught.value)
        with pytest.raises(shmring.RingIncompatible) as refused:
            shmring.Ring.create(name, exist_ok=True, **options)
        assert names_both(str(refused.value))
    assert block_file(name).read_bytes() == before


def test_one_in_a_block_of_others(stored) -> None:
    name = stored(1)
    block = shared_memory.SharedMemory(name)
    try:
        with shmring.Ring.create(shape=(2,), dtype="u1", slots=2, consumers=1, block=block) as ring:
            assert ring.name == name
    finally:
        block.close()
        block.unlink()


@pytest.mark.parametrize("by", LOCKS)
def test_unlink(stored, by: str) -> None:
    name = stored(1)
    with used(name, by):
        with pytest.raises(shmring.RingExists, match="in use"):
            shmring.unlink(name)
        shmring.unlink(name, force=True)
    assert not block_file(name).exists()
    shmring.unlink(stored(1))
    assert not block_file(name).exists()


def test_rings_leaves_it_out(stored) -> None:
    name = stored(1)
    assert name not in {one.name for one in shmring.rings()}


# ---- on the command line


def listed(cli, name: str) -> dict:
    code, out, _ = cli("ls", "--json")
    assert code == 0
    return next(one for one in json.loads(out) if one["name"] == name)


@pytest.mark.parametrize("by", LOCKS)
def test_commands_on_one_in_use(cli, stored, by: str) -> None:
    name = stored(1)
    before = block_file(name).read_bytes()
    with used(name, by):
        found = listed(cli, name)
        assert found["state"] == "other version"
        assert names_both(found["problem"])
        assert "other version" in cli("ls")[1]
        code, out, _ = cli("rm", "--stale", "--dry-run", "--json")
        assert name not in json.loads(out)["would_remove"]
        code, _, err = cli("rm", name)
        assert code == 1
        assert "in use" in err
        _, out, _ = cli("doctor")
        assert names_both(out)
        assert "end all processes of that ring" in out
    assert block_file(name).read_bytes() == before


def test_commands_on_a_stale_one(cli, stored) -> None:
    name = stored(1)
    found = listed(cli, name)
    assert found["state"] == "stale"
    assert names_both(found["problem"])
    line = next(line for line in cli("ls")[1].splitlines() if line.startswith(name))
    assert "stale" in line
    _, out, _ = cli("doctor")
    assert name in out
    assert "shmring rm --stale" in out
    code, out, _ = cli("rm", "--stale", "--dry-run", "--json")
    assert (code, name in json.loads(out)["would_remove"]) == (0, True)
    code, out, _ = cli("rm", name)
    assert (code, out) == (0, f"removed {name}\n")
    assert not block_file(name).exists()


@pytest.mark.parametrize("by", [None, "attached"])
@pytest.mark.parametrize(
    "words",
    [
        ("info", "{name}"),
        ("info", "{name}", "--json"),
        ("metrics", "{name}"),
        ("read", "{name}", "--timeout", "0.01"),
        ("record", "{name}", "{path}", "--timeout", "0.01"),
        ("capture", "{name}", "{path}", "--before", "1", "--timeout", "0.01"),
    ],
    ids=lambda words: words[0],
)
def test_commands_that_read(cli, stored, tmp_path, words: tuple[str, ...], by: str | None) -> None:
    name = stored(1)
    words = tuple(word.format(name=name, path=tmp_path / "out.npy") for word in words)
    if by is None:
        code, out, err = cli(*words)
    else:
        with used(name, by):
            code, out, err = cli(*words)
    assert code != 0
    assert out == ""
    assert names_both(err)
    assert not list(tmp_path.iterdir())
