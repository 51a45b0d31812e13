"""The bytes of a block: docs/layout.md against the headers, and against a golden block made from Python."""

from __future__ import annotations

import fcntl
import mmap
import os
import re
import shutil
import struct
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

import shmring
from support.blocks import block_file

TREE = Path(__file__).parents[2]
PAGE = (TREE / "docs" / "layout.md").read_text()
HEADER = (TREE / "shmring" / "include" / "shmring" / "layout.h").read_text()

STRUCT = re.compile(r"^`(shmring_\w+)`, (\d+) bytes", re.MULTILINE)
MEMBER = re.compile(r"^\| (\d+) \| (\d+) \| `(\w+)` \|", re.MULTILINE)
LIMIT = re.compile(r"^\| `(SHMRING_\w+)` \| (\d+) \|", re.MULTILINE)
ASSERTED = re.compile(r"^SHMRING_CHECK_OFFSET\((\w+), (\w+), (\d+)\);", re.MULTILINE)
FILLER = re.compile(r".*_pad|reserved|unused")

Members = dict[str, tuple[int, int]]


def documented() -> dict[str, tuple[int, Members]]:
    """Struct: its size, and offset and size of each member, as the page has them."""
    found = {}
    heads = [*STRUCT.finditer(PAGE)]
    for head, after in zip(heads, [*heads[1:], None], strict=True):
        text = PAGE[head.end() : after.start() if after else None]
        members = {name: (int(offset), int(size)) for offset, size, name in MEMBER.findall(text)}
        found[head[1]] = (int(head[2]), members)
    return found


STRUCTS = documented()
LIMITS = {name: int(value) for name, value in LIMIT.findall(PAGE)}


# ---- the page and the headers


def test_the_page_was_read() -> None:
    names = ("identity", "geometry", "hot", "place", "group", "entry")
    assert set(STRUCTS) == {f"shmring_{name}" for name in names}
    assert len(LIMITS) >= 6


@pytest.mark.parametrize("name", STRUCTS)
def test_the_members_on_the_page_fill_the_struct(name: str) -> None:
    size, members = STRUCTS[name]
    at = 0
    for member, (offset, bytes_) in members.items():
        assert offset == at, f"{member} begins at {offset}, the one before ends at {at}"
        at += bytes_
    assert at == size


def test_the_page_has_the_asserted_offsets() -> None:
    asserted = {(name, member): int(offset) for name, member, offset in ASSERTED.findall(HEADER)}
    listed = {
        (name, member): offset
        for name, (_, members) in STRUCTS.items()
        for member, (offset, _) in members.items()
        if not FILLER.fullmatch(member)
    }
    assert listed == asserted


def test_the_compiler_agrees(tmp_path: Path) -> None:
    """Offsets and sizes of every member, padding included, and the limits."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    lines = [f'printf("%zu\\n", sizeof({name}));' for name in STRUCTS]
    lines += [
        f'printf("%zu %zu\\n", offsetof({name}, {member}), sizeof((({name} *)0)->{member}));'
        for name, (_, members) in STRUCTS.items()
        for member in members
    ]
    lines += [f'printf("%llu\\n", (unsigned long long){name});' for name in LIMITS]
    source, program = tmp_path / "layout.c", tmp_path / "layout"
    includes = "#include <shmring/layout.h>\n#include <stdio.h>\n"
    source.write_text(includes + "int main(void)\n{\n" + "\n".join(lines) + "\nreturn 0;\n}\n")
    flags = ["-std=c11", "-Wall", "-Werror", "-I", shmring.get_include()]
    subprocess.run(["cc", *flags, str(source), "-o", str(program)], check=True)
    said = subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines()
    expected = [str(size) for size, _ in STRUCTS.values()]
    expected += [f"{offset} {size}" for _, members in STRUCTS.values() for offset, size in members.values()]
    expected += [str(value) for value in LIMITS.values()]
    assert said == expected


# ---- the golden block

SCHEMA = b'{"dtype": "\'<f4\'", "shape": [512], "meta": "\'<u4\'", "attrs": {"unit": "V"}}'
VOLATILE = {
    "shmring_identity": ["generation", "created_ns", "creator_pid"],
    "shmring_hot": ["producer_pid", "start_time"],
    "shmring_place": ["joined_ns", "start_time", "pid"],
}
# The control region, volatile members zeroed; lines of zeros are left out.
GOLDEN = """
0000 53484d52 494e4700 02000000 01000000
0030 00400000 00000000 04000000 00000000
0040 02000000 00000000 00080000 00000000
0050 00080000 00000000 80000000 00000000
0060 04000000 00000000 04000000 00000000
0070 02000000 00000000 00100000 00000000
0080 00010000 00000000 00040000 00000000
0090 00060000 00000000 000a0000 00000000
00a0 4b000000 00000000 800a0000 00000000
00b0 800d0000 00000000 00100000 00000000
0100 06000000 00000000 07000000 00000000
0180 06000000 00000000 00000000 00000000
0300 03000000 00000000 02000000 00000000
0380 01000000 00000000 01000000 00000000
0390 00000000 00000000 01000000 00000000
0400 02000000 00000000 02000000 00000000
0420 00000000 00000000 02000000 00000000
0480 02010000 00000000 00000000 00000000
04a0 7265636f 72646572 00000000 00000000
04e0 ffffffff ffffffff 00000000 00000000
0500 06000000 00000000 01000000 00000000
0520 01000000 00000000 06000000 00000000
0580 03010000 00000000 00000000 00000000
05a0 76696577 65720000 00000000 00000000
05e0 02000000 00000000 00000000 00000000
0a00 7b226474 79706522 3a202227 3c663427
0a10 222c2022 73686170 65223a20 5b353132
0a20 5d2c2022 6d657461 223a2022 273c7534
0a30 27222c20 22617474 7273223a 207b2275
0a40 6e697422 3a202256 227d7d00 00000000
0a80 0a000000 00000000 00000000 00000000
0a90 00000000 00000000 04000000 00000000
0aa0 04000000 00000000 ec030000 00000000
0ab0 f8010000 00000000 01000000 00000000
0ac0 4a000000 00000000 00000000 00000000
0b00 0c000000 00000000 01000000 00000000
0b10 02000000 00000000 05000000 00000000
0b20 05000000 00000000 ed030000 00000000
0b30 f9010000 00000000 01000000 00000000
0b40 4b000000 00000000 00000000 00000000
0b80 06000000 00000000 02000000 00000000
0b90 00000000 00000000 02000000 00000000
0ba0 02000000 00000000 ea030000 00000000
0bb0 f6010000 00000000 01000000 00000000
0bc0 48000000 00000000 00000000 00000000
0c00 08000000 00000000 03000000 00000000
0c10 00000000 00000000 03000000 00000000
0c20 03000000 00000000 eb030000 00000000
0c30 f7010000 00000000 01000000 00000000
0c40 49000000 00000000 00000000 00000000
0c80 00000000 00000000 04000000 00000000
0c90 00000000 00000000 ffffffff ffffffff
0d00 00000000 00000000 05000000 00000000
0d10 00000000 00000000 ffffffff ffffffff
"""


class Raw:
    """A block read as a file, cut up as docs/layout.md says."""

    def __init__(self, name: str):
        self.data = block_file(name).read_bytes()
        self.geometry_at = STRUCTS["shmring_identity"][1]["geometry"][0]

    def bytes(self, kind: str, member: str, at: int) -> bytes:
        offset, size = STRUCTS[kind][1][member]
        return self.data[at + offset : at + offset + size]

    def number(self, kind: str, member: str, at: int) -> int:
        return int.from_bytes(self.bytes(kind, member, at), "little")

    def identity(self, member: str) -> int:
        return self.number("shmring_identity", member, 0)

    def geometry(self, member: str) -> int:
        return self.number("shmring_geometry", member, self.geometry_at)

    def hot(self, member: str) -> int:
        return self.number("shmring_hot", member, self.geometry("hot_offset"))

    def place_at(self, place: int) -> int:
        return self.geometry("table_offset") + place * STRUCTS["shmring_place"][0]

    def place(self, place: int, member: str) -> int:
        return self.number("shmring_place", member, self.place_at(place))

    def entry_at(self, index: int) -> int:
        return self.geometry("entries_offset") + index * self.geometry("entry_stride")

    def entry(self, index: int, member: str) -> int:
        return self.number("shmring_entry", member, self.entry_at(index))

    def meta(self, index: int) -> bytes:
        at = self.entry_at(index) + STRUCTS["shmring_entry"][0]
        return self.data[at : at + self.geometry("meta_bytes")]

    def slot(self, slot: int) -> bytes:
        at = self.geometry("slots_offset") + slot * self.geometry("slot_stride")
        return self.data[at : at + self.geometry("frame_bytes")]

    def dump(self) -> str:
        """The control region without what differs from run to run."""
        control = bytearray(self.data[: self.geometry("slots_offset")])
        places = [("shmring_place", self.place_at(place)) for place in range(self.geometry("consumers"))]
        for kind, at in [("shmring_identity", 0), ("shmring_hot", self.geometry("hot_offset")), *places]:
            for member in VOLATILE[kind]:
                offset, size = STRUCTS[kind][1][member]
                control[at + offset : at + offset + size] = bytes(size)
        lines = []
        for at in range(0, len(control), 16):
            words = struct.unpack_from(">4I", control, at)  # as one reads bytes: the lowest address first
            if any(words):
                lines.append(f"{at:04x} {' '.join(f'{word:08x}' for word in words)}\n")
        return "".join(lines)


def frame(number: int, rows: int = 512) -> np.ndarray:
    return np.full(rows, number, "<f4")


@pytest.fixture
def golden(make):
    """A ring in a known state: 6 frames published, 1 dropped; a lossless and a lossy consumer."""
    ring = make(
        shape=(512,),
        dtype="<f4",
        slots=3,
        spares=1,
        consumers=2,
        meta="<u4",
        attrs={"unit": "V"},
        variable_rows=True,
    )
    with ring.producer(on_full="drop") as out:
        for number in range(2):
            assert out.put(frame(number), timestamp_ns=1000 + number, meta=70 + number)
        with ring.consumer(label="recorder") as first:
            for _ in range(2):
                first.get(0).release()
            for number in range(2, 6):
                assert out.put(frame(number, 500 + number), timestamp_ns=1000 + number, meta=70 + number)
            assert not out.put(frame(6))
            with ring.consumer(lossless=False, start="newest", label="viewer") as second:
                held = second.get(0)
                yield ring
                held.release()


@pytest.fixture
def raw(golden) -> Raw:
    return Raw(golden.name)


pages = pytest.mark.skipif(mmap.PAGESIZE != 4096, reason="the golden block has pages of 4096 bytes")


@pages
def test_golden_block(raw: Raw) -> None:
    assert raw.dump() == GOLDEN.lstrip()


def test_identity(golden, raw: Raw) -> None:
    assert raw.data[:8] == b"SHMRING\0"
    assert raw.identity("abi") == LIMITS["SHMRING_ABI"] == 2
    assert raw.identity("ready") == 1
    assert any(raw.bytes("shmring_identity", "generation", 0))
    assert abs(raw.identity("created_ns") - time.time_ns()) < 60e9
    assert raw.identity("creator_pid") == os.getpid()


def test_geometry(golden, raw: Raw) -> None:
    assert raw.geometry("block_bytes") == len(raw.data) == golden.nbytes
    assert raw.geometry("slots") == golden.slots
    assert raw.geometry("slots") * raw.geometry("slot_stride") % mmap.PAGESIZE == 0
    assert raw.geometry("frame_bytes") == golden.frame_nbytes == 2048
    assert raw.geometry("slot_stride") == 2048
    assert raw.geometry("entry_stride") == 128
    assert raw.geometry("meta_bytes") == 4
    assert raw.geometry("row_bytes") == 4
    assert raw.geometry("consumers") == 2
    assert raw.geometry("page_bytes") == mmap.PAGESIZE
    assert raw.geometry("hot_offset") == 256
    assert raw.geometry("table_offset") == 1024
    assert raw.geometry("groups_offset") == 1024 + 2 * 256
    assert raw.geometry("schema_offset") == 1024 + 2 * 256 + 4 * 256
    assert raw.geometry("spares") == golden.spares == 2  # 1 was asked for, and 2 fill a page
    schema_end = raw.geometry("schema_offset") + raw.geometry("schema_bytes")
    assert raw.data[raw.geometry("schema_offset") : schema_end] == SCHEMA
    assert raw.geometry("entries_offset") == -(-schema_end // 128) * 128
    entries_end = raw.geometry("entries_offset") + 6 * 128
    assert raw.geometry("owners_offset") == -(-entries_end // 128) * 128
    owners_end = raw.geometry("owners_offset") + 6 * 32
    assert raw.geometry("slots_offset") == -(-owners_end // mmap.PAGESIZE) * mmap.PAGESIZE


def test_hot_words(raw: Raw) -> None:
    said = {member: raw.hot(member) for member in STRUCTS["shmring_hot"][1] if not FILLER.fullmatch(member)}
    assert said.pop("start_time") > 0
    assert said == {
        "head": 6, "next_seq": 7, "claimed": 6, "data_event": 0, "space_event": 0, "active": 3,
        "join_count": 2, "producer_state": 1, "producer_pid": os.getpid(), "epoch": 1, "dropped": 1,
        "swaps": 0, "failure": 0,
    }  # fmt: skip


def test_consumer_table(raw: Raw) -> None:
    counters = ("cursor", "next", "delivered", "lost", "skipped", "held")
    rows = [{member: raw.place(place, member) for member in counters} for place in range(2)]
    assert rows[0] == {"cursor": 2, "next": 2, "delivered": 2, "lost": 0, "skipped": 0, "held": 0}
    assert rows[1] == {"cursor": 6, "next": 6, "delivered": 1, "lost": 0, "skipped": 0, "held": 1}
    assert [raw.place(place, "flags") for place in range(2)] == [0, 0]
    assert [raw.place(place, "state") for place in range(2)] == [1 << 8 | 2, 1 << 8 | 3]
    for place, label in enumerate([b"recorder", b"viewer"]):
        assert raw.place(place, "pid") == os.getpid()
        assert raw.place(place, "start_time") == raw.hot("start_time")
        assert abs(raw.place(place, "joined_ns") - time.time_ns()) < 60e9
        assert raw.bytes("shmring_place", "label", raw.place_at(place)) == label.ljust(64, b"\0")


@pages
def test_entries_and_slots(raw: Raw) -> None:
    for index, position in enumerate([4, 5, 2, 3]):  # 4 slots: 3 were asked for
        rows = 500 + position
        assert raw.entry(index, "stamp") == 2 * position + 2
        assert raw.entry(index, "slot") == index
        assert raw.entry(index, "position") == position
        assert raw.entry(index, "seq") == position
        assert raw.entry(index, "timestamp_ns") == 1000 + position
        assert raw.entry(index, "rows") == rows
        assert raw.entry(index, "epoch") == 1
        assert raw.entry(index, "pins") == (1 << 1 if position == 5 else 0)  # by the one at place 1
        assert raw.meta(index) == (70 + position).to_bytes(4, "little")
        assert raw.slot(index)[: 4 * rows] == frame(position, rows).tobytes()


# ---- rules of the page


def test_locks(golden) -> None:
    """Which bytes of the file are locked, asked as any program may ask."""
    request = struct.Struct("@hhqqi4x")
    held = {}
    with block_file(golden.name).open("r+b") as file:
        for byte, count in [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1020), (1024, 1 << 32)]:
            wish = request.pack(fcntl.F_RDLCK, os.SEEK_SET, (1 << 40) + byte, count, 0)
            held[byte] = request.unpack(fcntl.fcntl(file, fcntl.F_OFD_GETLK, wish))[0]
    exclusive, free = fcntl.F_WRLCK, fcntl.F_UNLCK
    assert held == {0: exclusive, 1: exclusive, 2: exclusive, 3: free, 4: free, 1024: exclusive}


def up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def rule(frame_bytes: int, asked: int, page: int) -> tuple[int, int]:
    """Stride and slots, by the words of the page."""
    units = [64 << i for i in range((page // 64).bit_length())]
    candidates = []
    for stride in sorted({up(frame_bytes, unit) for unit in units}):
        slots = next(n for n in range(asked, asked + page) if n * stride % page == 0)
        candidates.append((slots * (stride + 64), stride, slots))
    gapless = [one for one in candidates if one[1] == frame_bytes and one[0] <= 1 << 20]
    _, stride, slots = min(gapless or candidates)
    return stride, slots


@pytest.mark.parametrize("slots", [2, 3, 9, 100])
@pytest.mark.parametrize("frame_bytes", [1, 64, 100, 640, 4096, 5000, 65536, 1920 * 1080 * 3, 640 * 480 + 64])
def test_stride_and_rounding(make, frame_bytes: int, slots: int) -> None:
    stride, rounded = rule(frame_bytes, slots, mmap.PAGESIZE)
    options = {"shape": (frame_bytes,), "dtype": "u1", "slots": slots, "consumers": 1}
    empty = shmring.Ring.required_size(**options) - rounded * stride  # the control region
    assert empty % mmap.PAGESIZE == 0
    assert 0 < empty - (1024 + 256 + rounded * 64) < 2 * mmap.PAGESIZE
    if frame_bytes * slots > 1 << 20:
        return  # the size says enough
    ring = make(**options)
    assert ring.slots == rounded
    assert Raw(ring.name).geometry("slot_stride") == stride
