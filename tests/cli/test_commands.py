"""The command line: ls, info, rm, doctor, completion, exit codes, and that looking leaves no trace."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pty
import resource
import shlex
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import shmring
from support import peers
from support.blocks import block_file, fresh_name
from support.frames import drain, feed
from support.waiting import PATIENCE, task_state, wait_until

pytest.importorskip("click")

from shmring import _cgroup, _inventory
from shmring.__main__ import main
from shmring._cli import COMMANDS
from shmring._cli.commands import bench, doctor, info, ls, rm
from shmring._cli.support import checks, names, output, rates

ABI_OFFSET = 8
COMMAND = [sys.executable, "-m", "shmring"]


@pytest.fixture
def only_mine(monkeypatch):
    """Whatever else happens in /dev/shm at the same time is out of sight, and out of danger."""

    def look_at_all() -> list[_inventory.Found]:
        prefix = f"shmring-test-{os.getpid()}-"
        return [one for one in _inventory.look_at_all() if one.name.startswith(prefix)]

    for module in (ls, rm, doctor):
        monkeypatch.setattr(module, "look_at_all", look_at_all)


@pytest.fixture
def block(name):
    """Another program's block with the name `name`."""
    path = block_file(name)
    path.write_bytes(b"not a ring" * 100)
    yield path
    path.unlink(missing_ok=True)


def go_stale(ring: shmring.Ring) -> str:
    """Leave the ring without removing its name, as a killed creator does."""
    ring.close()
    return ring.name


def entry(out: str, name: str) -> dict:
    (found,) = (one for one in json.loads(out) if one["name"] == name)
    return found


# ---- ls


def test_ls_shows_rings(cli, make, only_mine):
    ring = make(shape=(720, 1280, 3), dtype="u1", slots=4)
    stale = go_stale(make())
    with ring.producer(), ring.consumer(), ring.consumer(lossless=False):
        code, out, err = cli("ls")
    assert (code, err) == (0, "")
    head, *lines = out.splitlines()
    assert head.split() == [column.lstrip(">~") for column in ls.COLUMNS]
    rows = {line.split()[0]: line.split() for line in lines}
    assert rows[ring.name][1:6] == ["live", "uint8", "720x1280x3", "4", "11.1"]
    assert str(os.getpid()) in rows[ring.name]
    assert "2 (1)" in next(line for line in lines if ring.name in line)
    assert rows[stale][1] == "stale"
    assert "none" in rows[stale]


def test_ls_measures_the_rate(cli, make, only_mine, monkeypatch):
    ring = make()
    with ring.producer(on_full="drop") as out:
        monkeypatch.setattr(rates.time, "sleep", lambda seconds: feed(out, 7))
        _, listed, _ = cli("ls", "--json")
    found = entry(listed, ring.name)
    assert found["published"] == 7
    assert found["rate"] > 0


def test_ls_json(cli, make, only_mine):
    ring = make(
        shape=(3,),
        dtype=[("t", "<f8"), ("v", "<i2", (2,))],
        meta="i8",
        variable_rows=True,
        attrs={"unit": "V"},
    )
    with ring.producer() as out, ring.consumer(label="recorder") as consumer:
        out.put(np.zeros(3, ring.dtype))
        frame = consumer.get()
        _, listed, _ = cli("ls", "--json")
        frame.release()
    found = entry(listed, ring.name)
    assert found["state"] == "live"
    assert np.lib.format.descr_to_dtype([tuple(field) for field in found["dtype"]]) == ring.dtype
    assert (found["shape"], found["slots"], found["meta"]) == ([3], ring.slots, "<i8")
    assert (found["attrs"], found["variable_rows"]) == ({"unit": "V"}, True)
    assert (found["creator_pid"], found["mode"]) == (os.getpid(), "0o600")
    assert found["producer"]["state"] == "live"
    (one,) = found["consumers"]
    assert (one["label"], one["policy"], one["pid"], one["held"]) == ("recorder", "lossless", os.getpid(), 1)
    assert one["user"]


def test_no_rings(cli, monkeypatch):
    monkeypatch.setattr(ls, "look_at_all", list)
    assert cli("ls") == (0, "", "No rings.\n")
    assert cli("ls", "--json") == (0, "[]\n", "")


def test_other_files_are_counted(cli, make, only_mine, monkeypatch):
    """As Ray's hundreds of semaphores: they do not hide the rings."""
    ring = make()
    others = [block_file(fresh_name()) for _ in range(3)]
    others[0].write_bytes(b"a semaphore")
    others[1].write_bytes(b"another one")
    others[2].touch()
    try:
        code, out, err = cli("ls")
        assert (code, err) == (0, "And 3 other files: --all lists them.\n")
        assert [line.split()[0] for line in out.splitlines()] == ["NAME", ring.name]
        assert [one["name"] for one in json.loads(cli("ls", "--json")[1])] == [ring.name]
        code, out, err = cli("ls", "--all")
        assert (code, err) == (0, "")
        assert {line.split()[0] for line in out.splitlines()} == {
            "NAME",
            ring.name,
            *(p.name for p in others),
        }
        assert len(json.loads(cli("ls", "--all", "--json")[1])) == 4
        monkeypatch.setattr(_inventory, "_read", lambda name: ("denied", None, "no"))
        assert cli("ls") == (
            0,
            "",
            "No rings. And 4 other files (you may not read 4 of them): --all lists them.\n",
        )
    finally:
        for path in others:
            path.unlink()


def test_tables_end_without_blanks(cli, make, only_mine):
    ring = make()
    with ring.producer(), ring.consumer(label="viewer"), ring.consumer(label="a longer label"):
        for command in (["ls"], ["info", ring.name]):
            _, out, _ = cli(*command)
            assert all(line == line.rstrip() for line in out.splitlines())


@pytest.mark.parametrize(
    "dtype", ["u1", "<f4", ">i2", "S5", "U3", "M8[ns]", "V8", [("t", "<f8"), ("v", "u1", (3,))]]
)
def test_one_way_to_write_a_dtype(cli, make, only_mine, dtype):
    """In ls, info, the repr and errors; ls names the fields alone of a structured one."""
    ring = make(shape=(2,), dtype=dtype)
    written = str(np.dtype(dtype))
    assert f"dtype {written}" in repr(ring)
    assert f"dtype {written}, " in cli("info", ring.name)[1]
    assert ("{t,v}" if ring.dtype.names else written) in cli("ls")[1]
    with ring.producer() as out, pytest.raises(ValueError, match="nothing is") as raised:
        out.put(np.zeros(3, "c16"))
    assert f"dtype {written}" in str(raised.value)


def test_hundreds_of_rings(cli, make, only_mine):
    made = {make(shape=(), dtype="u1", slots=2, consumers=1).name for _ in range(150)}
    code, out, _ = cli("ls", "--json")
    assert code == 0
    assert {one["name"] for one in json.loads(out)} == made


@pytest.fixture
def damage(make):
    """Rings whose header was overwritten: `damage(offset, data)`; the name."""
    damaged = []

    def overwrite(offset: int, data: bytes) -> str:
        name = go_stale(make())
        damaged.append(block_file(name))
        with damaged[-1].open("r+b") as file:
            file.seek(offset)
            file.write(data)
        return name

    yield overwrite
    for path in damaged:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("offset", "data", "state"),
    [
        (ABI_OFFSET, struct.pack("<I", 77), "stale"),
        (56, struct.pack("<Q", 1 << 50), "damaged"),
        (ABI_OFFSET + 4, struct.pack("<I", 0), "unfinished"),
    ],
)
def test_blocks_that_are_no_readable_ring(cli, damage, only_mine, offset, data, state):
    name = damage(offset, data)
    code, out, _ = cli("ls", "--json")
    found = entry(out, name)
    assert (code, found["state"]) == (0, state)
    assert found["problem"]
    assert state in cli("ls")[1]
    code, out, err = cli("info", name)
    assert (code, out, err.count("\n")) == (1, "", 1)


def test_truncated_ring(cli, damage, only_mine):
    name = damage(0, b"")
    os.truncate(block_file(name), 5000)
    assert entry(cli("ls", "--json")[1], name)["state"] == "damaged"


@pytest.mark.parametrize("content", [b"", b"x", b"foreign" * 1000], ids=["empty", "short", "long"])
def test_foreign_block(cli, block, name, only_mine, content):
    block.write_bytes(content)
    found = entry(cli("ls", "--all", "--json")[1], name)
    assert found["state"] == ("foreign" if content else "unfinished")
    assert found["nbytes"] == len(content)


def test_what_is_no_file(cli, name, only_mine):
    """Opening a FIFO would wait for its writer."""
    fifo, folder = block_file(name), block_file(fresh_name())
    os.mkfifo(fifo)
    folder.mkdir()
    try:
        listed = {one["name"]: one["state"] for one in json.loads(cli("ls", "--all", "--json")[1])}
        assert listed == {name: "foreign"}
        assert cli("info", name)[0] == 1
    finally:
        fifo.unlink()
        folder.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_s_ring(make, fork, only_mine):
    ring = make()

    def as_nobody(send) -> None:
        os.setuid(65534)
        found = _inventory.look(ring.name)
        send([found.state, found.problem])

    state, problem = fork(as_nobody).receive()
    assert state == "denied"
    assert "0o600" in problem


def test_ring_that_vanishes_while_listed(cli, make, only_mine, monkeypatch):
    stays, goes = make(), make()
    read = _inventory._read

    def read_and_lose(name: str):
        if name == goes.name:
            goes.unlink()
            raise shmring.RingNotFound("gone")
        return read(name)

    monkeypatch.setattr(_inventory, "_read", read_and_lose)
    code, out, _ = cli("ls", "--json")
    assert code == 0
    assert [one["name"] for one in json.loads(out)] == [stays.name]


def test_long_names_and_labels_of_others(cli, make, only_mine):
    """Control characters would move the cursor or change colours."""
    long = f"{fresh_name()}-{'x' * 255}"[:255]
    ring = make(long)
    with ring.consumer(label="evil\x1b[31m\n" + "y" * 40):
        code, out, _ = cli("info", long)
    assert code == 0
    assert "\x1b" not in out
    assert "evil\\x1b[31m\\ny" in out
    assert long in cli("ls")[1]
    assert output.clean("\udc80é\t") == "\\udc80é\\t"


def test_looking_leaves_no_trace(cli, make, only_mine):
    """Not a byte of the block changes, and a stale ring stays stale."""
    ring = make()
    with ring.producer() as out, ring.consumer() as consumer:
        feed(out, 3)
        consumer.get().release()
    name = go_stale(ring)
    before = hashlib.sha256(block_file(name).read_bytes()).digest()
    for arguments in (["ls"], ["info", name], ["info", name, "--json"], ["doctor"], ["metrics", name]):
        cli(*arguments)
    assert hashlib.sha256(block_file(name).read_bytes()).digest() == before
    assert _inventory.look(name).state == "stale"


def test_block_that_cannot_be_read_now(cli, make, only_mine, monkeypatch):
    """As without a descriptor left: the others are still listed."""
    fine, bad = make(), make()
    attach = shmring.Ring.attach

    def refuse(name: str, **options) -> shmring.Ring:
        if name == bad.name:
            raise OSError(24, "Too many open files")
        return attach(name, **options)

    monkeypatch.setattr(_inventory.Ring, "attach", refuse)
    code, out, _ = cli("ls", "--all", "--json")
    assert code == 0
    assert entry(out, fine.name)["state"] == "live"
    assert "Too many open files" in entry(out, bad.name)["problem"]


# ---- info


def test_info(cli, make):
    ring = make(attrs={"unit": "adu"}, shape=(8, 8), dtype="f4", slots=16)
    with ring.producer() as out, ring.consumer(label="slow", lossless=False) as consumer:
        for number in range(40):
            out.put(np.full((8, 8), number, "f4"))
        frame = consumer.get()
        code, text, err = cli("info", ring.name)
        code_json, described, _ = cli("info", ring.name, "--json")
        frame.release()
    assert (code, code_json, err) == (0, 0, "")
    assert f"{ring.name}, live" in text
    assert "shape (8, 8) dtype float32" in text
    assert '{"unit": "adu"}' in text
    assert "40 frames" in text
    found = json.loads(described)
    (one,) = found["consumers"]
    assert (one["label"], one["policy"], one["lost"], one["lag"], one["held"]) == ("slow", "lossy", 24, 15, 1)
    assert found["producer"]["pid"] == os.getpid()
    assert "slow" in text.splitlines()[-1]


def test_info_of_the_dead(cli, make, peer):
    ring = make()
    other = peer(ring)
    other.run(peers.open_producer)
    other.run(peers.open_consumer, label="gone")
    other.run(peers.put, 1)
    other.kill()
    code, text, _ = cli("info", ring.name)
    assert code == 0
    assert f"died, it was pid {other.pid}" in text
    assert "dead" in text.splitlines()[-1]


def test_info_of_a_ring_that_is_not_there(cli, name):
    code, out, err = cli("info", name)
    assert (code, out) == (3, "")
    assert err == f"shmring: there is no ring '{name}' in /dev/shm: see shmring ls\n"


# ---- rm


def test_rm(cli, make):
    names = [go_stale(make()), go_stale(make())]
    code, out, err = cli("rm", *names)
    assert (code, out.splitlines(), err) == (0, [f"removed {name}" for name in names], "")
    assert not any(block_file(name).exists() for name in names)


def test_rm_refuses_a_ring_in_use(cli, make):
    ring = make()
    with ring.consumer(label="viewer"):
        code, out, err = cli("rm", ring.name)
        assert (code, out) == (1, "")
        assert f"pid {os.getpid()}" in err
        assert "label 'viewer'" in err
        assert block_file(ring.name).exists()
        code, out, _ = cli("rm", "--force", ring.name)
        assert (code, out) == (0, f"removed {ring.name}\n")
        assert not block_file(ring.name).exists()


def test_rm_never_removes_another_program_s_block(cli, block, name):
    for force in ([], ["--force"]):
        code, _, err = cli("rm", *force, name)
        assert code == 1
        assert f"rm /dev/shm/{name}" in err
    assert block.exists()


def test_rm_removes_what_is_damaged(cli, damage):
    name = damage(56, struct.pack("<Q", 1 << 50))
    assert cli("rm", name)[0] == 0
    assert not block_file(name).exists()


def test_rm_stale(cli, make, only_mine, block):
    live, stale = make(), [go_stale(make()), go_stale(make())]
    code, out, _ = cli("rm", "--stale", "--dry-run")
    assert (code, out.splitlines()) == (0, [f"would remove {name}" for name in sorted(stale)])
    _, out, _ = cli("rm", "--stale", "--dry-run", "--json")
    assert json.loads(out) == {"would_remove": sorted(stale), "refused": {}}
    assert all(block_file(name).exists() for name in stale)
    code, out, _ = cli("rm", "--stale", "--json")
    assert code == 0
    assert json.loads(out) == {"removed": sorted(stale), "refused": {}}
    assert block_file(live.name).exists()
    assert block.exists()
    assert cli("rm", "--stale") == (0, "", "")


def test_rm_what_is_not_there(cli, name, make):
    assert cli("rm", name)[0] == 3
    stale = go_stale(make())
    code, out, err = cli("rm", name, stale)
    assert (code, out) == (1, f"removed {stale}\n")
    assert "there is no ring" in err


# ---- doctor


def findings(check, blocks=()) -> list[checks.Finding]:
    return list(check(list(blocks)))


def test_doctor(cli, make, only_mine, monkeypatch):
    monkeypatch.setattr(doctor, "CHECKS", (checks.kernel, checks.stale_rings, checks.other_users))
    code, out, _ = cli("doctor")
    assert code == 0
    assert "stale rings  none" in out
    stale = go_stale(make())
    code, out, _ = cli("doctor")
    assert code == 1
    assert f"1 (21.6 kB): {stale}" in " ".join(out.split()) or stale in out
    assert "type: shmring rm --stale" in out
    code, out, _ = cli("doctor", "--json")
    assert code == 1
    levels = {one["check"]: one["level"] for one in json.loads(out)}
    assert levels == {"kernel": "ok", "stale rings": "problem", "other users": "ok"}


def test_doctor_runs_every_check_here(cli):
    code, out, err = cli("doctor", "--json")
    assert code in (0, 1)
    assert err == ""
    for one in json.loads(out):
        assert one["level"] in ("ok", "note", "problem")
        assert bool(one["do"] or one["advice"]) or one["level"] != "problem"
        check_command(one["do"])


def check_command(line: str) -> None:
    """It can be typed as it is."""
    words = shlex.split(line)
    assert not words or words[0] in ("shmring", "sudo", "kill", "ulimit", "rm")
    assert not any(one in line for one in ("...", ";", "PID", "#"))


def test_doctor_says_what_can_be_typed(make, damage, name, monkeypatch):
    """Also for a name that a shell would take apart."""
    odd = f"{name} it's $HOME\n"
    go_stale(make(odd))
    damaged = damage(56, struct.pack("<Q", 1 << 50))
    blocks = [_inventory.look(odd), _inventory.look(damaged)]
    nearly_full = file_system(1 << 30, 1 << 20)
    monkeypatch.setattr(checks.os, "statvfs", lambda path: SimpleNamespace(**vars(nearly_full), f_flag=0))
    monkeypatch.setattr(checks.os, "access", lambda *_: False)
    monkeypatch.setattr(checks.resource, "getrlimit", lambda which: (8 << 20, 16 << 20))
    monkeypatch.setattr(checks.os, "geteuid", lambda: 12345)
    looks = (checks.file_system, checks.locked_memory, checks.stale_rings, checks.unreadable_rings,
             checks.other_users, checks.cores)  # fmt: skip
    found = [one for look in looks for one in findings(look, blocks)]
    assert {"size", "access", "locked memory", "stale rings", "rings", "other users"} <= {
        one.check for one in found if one.do
    }
    for one in found:
        check_command(one.do)
    (locked,) = [one for one in found if one.check == "locked memory"]
    assert locked.do == "ulimit -l 16384"


def file_system(total: int, free: int) -> SimpleNamespace:
    return SimpleNamespace(f_blocks=total >> 12, f_bavail=free >> 12, f_bfree=free >> 12, f_frsize=4096)


@pytest.mark.parametrize(
    ("total", "free", "level", "words"),
    [
        (64 << 20, 64 << 20, "problem", "--shm-size"),
        (1 << 30, 1 << 29, "ok", ""),
        (1 << 30, 1 << 20, "problem", "remount"),
    ],
)
def test_doctor_size(monkeypatch, total, free, level, words):
    monkeypatch.setattr(checks.os, "statvfs", lambda path: file_system(total, free))
    (found,) = findings(checks.file_system)
    assert (found.level, words in found.advice) == (level, True)


def test_doctor_memory_limit(monkeypatch):
    monkeypatch.setattr(checks.os, "statvfs", lambda path: file_system(1 << 30, 1 << 30))
    roomy = _cgroup.MemoryLimit("this machine", 1 << 40, 1 << 39, "")
    tight = _cgroup.MemoryLimit("the control group /a", 1 << 28, 1 << 27, "/a/memory.max")
    for limits, count in (([], 0), ([roomy], 0), ([tight, roomy], 1)):
        monkeypatch.setattr(_cgroup, "memory_limits", lambda limits=limits: limits)
        assert len(findings(checks.memory_limit)) == count
    (found,) = findings(checks.memory_limit)
    assert "/a may use 268 MB of memory, 134 MB are left" in found.found
    assert "/a/memory.max" in found.advice


def test_doctor_remove_ipc(tmp_path):
    main, late = tmp_path / "logind.conf", tmp_path / "late.conf"
    assert checks.remove_ipc_setting([main, late])
    main.write_text("[Login]\n#RemoveIPC=no\n")
    assert checks.remove_ipc_setting([main, late])
    main.write_text("[Login]\nRemoveIPC=no\n")
    assert not checks.remove_ipc_setting([main, late])
    late.write_text("[Login]\nRemoveIPC = yes\n")
    assert checks.remove_ipc_setting([main, late])


def test_doctor_locked_memory(monkeypatch):
    monkeypatch.setattr(checks.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(checks.resource, "getrlimit", lambda which: (8 << 20, 8 << 20))
    (found,) = findings(checks.locked_memory)
    assert found.level == "note"
    assert "8.4 MB" in found.found
    monkeypatch.setattr(checks.resource, "getrlimit", lambda which: (resource.RLIM_INFINITY,) * 2)
    assert findings(checks.locked_memory)[0].level == "ok"


def test_doctor_cores(monkeypatch):
    monkeypatch.setattr(checks.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(checks.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    for share, level in ((None, "ok"), (8.0, "ok"), (1.5, "note")):
        monkeypatch.setattr(_cgroup, "cores_of_time", lambda share=share: share)
        (found,) = findings(checks.cores)
        assert (found.level, "4 of 8 cores" in found.found) == (level, True)


def test_doctor_participants(make, peer, monkeypatch):
    pytest.importorskip("psutil")
    ring = make()
    stopped, dead = peer(ring), peer(ring)
    stopped.run(peers.open_consumer, label="stopped")
    dead.run(peers.open_producer)
    dead.kill()
    os.kill(stopped.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: task_state(stopped.pid) == "T")
        producer, consumer = findings(checks.dead_participants, [_inventory.look(ring.name)])
        monkeypatch.setattr(checks, "STILL", 0.0)
        assert not findings(checks.full_rings, [_inventory.look(ring.name)])
    finally:
        os.kill(stopped.pid, signal.SIGCONT)
    assert f"pid {dead.pid}" in producer.found
    assert "holds the producer back" in consumer.found
    assert consumer.do == f"kill -CONT {stopped.pid}"


def test_doctor_names_a_stopped_producer(make, peer):
    pytest.importorskip("psutil")
    ring = make()
    stopped = peer(ring)
    stopped.run(peers.open_producer)
    os.kill(stopped.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: task_state(stopped.pid) == "T")
        (found,) = findings(checks.dead_participants, [_inventory.look(ring.name)])
    finally:
        os.kill(stopped.pid, signal.SIGCONT)
    assert (found.level, found.do) == ("problem", f"kill -CONT {stopped.pid}")


@pytest.mark.parametrize("why", ["unread", "unread and held", "held"])
def test_who_makes_a_ring_full(cli, make, monkeypatch, why):
    """Doctor and info name the consumer that the producer waits for."""
    pytest.importorskip("psutil")
    monkeypatch.setattr(checks, "STILL", 0.0)
    ring = make(slots=8)
    held = {"unread": 0, "unread and held": 3}.get(why, 8)
    with (
        ring.producer() as out,
        ring.consumer(label="stuck") as stuck,
        ring.consumer(lossless=False),
    ):
        feed(out, 7)
        frames = [stuck.get() for _ in range(min(held, 7))]
        assert not findings(checks.full_rings, [_inventory.look(ring.name)])
        assert "\nfull " not in cli("info", ring.name)[1]
        feed(out, 1)
        frames += [stuck.get() for _ in range(held - len(frames))]
        with pytest.raises(shmring.RingFull):
            out.put(np.zeros(ring.shape, ring.dtype), timeout=0)
        (found,) = findings(checks.full_rings, [_inventory.look(ring.name)])
        counts = [f"lag {8 - held}"] * (held < 8) + [f"holds {held}"] * (held > 0)
        words = f"waits for consumer stuck (pid {os.getpid()}), {', '.join(counts)} of 8 slots"
        assert found.level == "problem"
        assert words in found.found
        assert f"kill {os.getpid()}" in found.advice
        assert f"full       {words}\n" in cli("info", ring.name)[1]
        for frame in frames:
            frame.release()
        drain(stuck)
        assert not findings(checks.full_rings, [_inventory.look(ring.name)])


def test_a_full_ring_that_drops_frames(cli, make, monkeypatch):
    ring = make(slots=8)
    with ring.producer(on_full="drop") as out, ring.consumer(label="stuck"):
        feed(out, 8)
        for module in (checks, info):
            monkeypatch.setattr(module.time, "sleep", lambda seconds: feed(out, 2))
        (found,) = findings(checks.full_rings, [_inventory.look(ring.name)])
        assert "its producer drops frames for consumer stuck" in found.found
        assert "full       drops frames for consumer stuck" in cli("info", ring.name)[1]


# ---- groups


@pytest.fixture
def pool(make, peer, fed):
    """`pool(held)`: a full ring, and its group of two processes, which hold so many frames."""

    def start(held: list[int], slots: int = 8) -> tuple[shmring.Ring, list]:
        ring = make(slots=slots)
        members = [peer(ring), peer(ring)]
        for number, one in enumerate(members):
            one.run(peers.open_consumer, label=f"m{number}", group="wörk\ners")
        fed(ring, slots)
        for one, count in zip(members, held, strict=True):
            one.run(peers.hold, count)
        return ring, members

    return start


@pytest.fixture
def fed():
    """`fed(ring, count)`: a producer that has published so many frames."""
    with contextlib.ExitStack() as opened:

        def publish(ring: shmring.Ring, count: int) -> shmring.Producer:
            out = opened.enter_context(ring.producer())
            feed(out, count)
            return out

        yield publish


GROUP = "wörk\\ners"


def test_groups_and_their_members_in_info_and_ls(cli, pool, only_mine):
    ring, members = pool([2, 1])
    _, text, _ = cli("info", ring.name)
    rows = [line for line in text.splitlines() if line.startswith(("m0 ", "m1 "))]
    assert [f"  group {GROUP}    5  " in row for row in rows] == [True, True]
    assert " 2 (2) " in next(line for line in cli("ls")[1].splitlines() if ring.name in line)
    members[0].kill()
    assert (
        f"\ngroup      {GROUP}: 2 members (1 dead), lag 5, 0 redelivered, 0 lost\n"
        in cli("info", ring.name)[1]
    )
    assert sorted(members[1].run(peers.take) for _ in range(7)) == [0, 1, 3, 4, 5, 6, 7]
    assert f"\ngroup      {GROUP}: 1 member, lag 0, 2 redelivered, 0 lost\n" in cli("info", ring.name)[1]
    found = json.loads(cli("info", ring.name, "--json")[1])
    ((group,), (member,)) = found["groups"], found["consumers"]
    assert (group["name"], group["lag"], group["redelivered"], group["lost"]) == ("wörk\ners", 0, 2, 0)
    assert group["members"] == [member["place"]]
    assert (member["policy"], member["group"], member["redelivered"]) == ("member", "wörk\ners", 2)
    assert entry(cli("ls", "--json")[1], ring.name)["groups"] == found["groups"]


def test_a_ring_without_groups(cli, make):
    ring = make()
    with ring.consumer():
        assert "\ngroup " not in cli("info", ring.name)[1]
        assert json.loads(cli("info", ring.name, "--json")[1])["groups"] == []


def test_what_a_group_lost_with_a_member(cli, make, peer, fed):
    ring = make(slots=8)
    other = peer(ring)
    other.run(peers.open_consumer, group="g", at_most_once=True)
    fed(ring, 4)
    other.run(peers.hold, 3)
    with ring.consumer(group="g", at_most_once=True) as member:
        other.kill()
        assert drain(member) == [3]
        said = cli("info", ring.name)[1]
    assert "\ngroup      g: 1 member, at most once, lag 0, 0 redelivered, 3 lost\n" in said


@pytest.mark.parametrize(
    ("held", "killed", "counts"),
    [
        ([0, 0], False, "lag 8 of 8"),
        ([3, 2], False, "lag 3, holds 5 of 8"),
        ([4, 4], False, "holds 8 of 8"),
        ([3, 2], True, "lag 3, holds 5 of 8"),  # another member must still get what the dead one had
    ],
)
def test_a_group_makes_a_ring_full_as_a_whole(cli, pool, monkeypatch, held, killed, counts):
    monkeypatch.setattr(checks, "STILL", 0.0)
    ring, members = pool(held)
    if killed:
        members.pop().kill()
    pids = [one.pid for one in members]
    words = f"waits for group {GROUP} (pid {', '.join(map(str, pids))}), {counts} slots"
    (found,) = findings(checks.full_rings, [_inventory.look(ring.name)])
    assert f"its producer {words}, which has taken nothing" in found.found
    assert found.advice == f"make its members read and release frames, or kill {' '.join(map(str, pids))}"
    assert f"full       {words}\n" in cli("info", ring.name)[1]
    members[0].run(peers.let_go) if held[0] else members[0].run(peers.take)
    assert not findings(checks.full_rings, [_inventory.look(ring.name)])
    assert "\nfull " not in cli("info", ring.name)[1]


def test_a_group_that_moves_is_fine(pool, monkeypatch):
    ring, members = pool([0, 0])
    monkeypatch.setattr(checks.time, "sleep", lambda seconds: members[1].run(peers.hold, 1))
    assert not findings(checks.full_rings, [_inventory.look(ring.name)])


def participants(ring: shmring.Ring) -> list[tuple[str, str]]:
    """What doctor says of them, and what to do."""
    found = findings(checks.dead_participants, [_inventory.look(ring.name)])
    return [(one.found, one.do or one.advice) for one in found]


def test_doctor_says_what_stopped_members_hold_up(pool, monkeypatch):
    pytest.importorskip("psutil")
    monkeypatch.setattr(checks, "STILL", 0.0)
    ring, (one, other) = pool([2, 0])
    named = [
        f"consumer m{i} of group {GROUP} (pid {m.pid}) of ring {ring.name}"
        for i, m in enumerate((one, other))
    ]
    one.signal(signal.SIGSTOP)
    try:
        wait_until(lambda: task_state(one.pid) == "T")
        ((found, do),) = participants(ring)
        assert (
            found == f"{named[0]} is stopped; the others of its group work without the 2 frames that it holds"
        )
        assert do == f"kill -CONT {one.pid}"
        other.signal(signal.SIGSTOP)
        wait_until(lambda: task_state(other.pid) == "T")
        assert participants(ring) == [
            (f"{who} is stopped, and so its group holds the producer back", f"kill -CONT {member.pid}")
            for who, member in zip(named, (one, other), strict=True)
        ]
        assert not findings(checks.full_rings, [_inventory.look(ring.name)])
        one.kill()
        ((found, do),) = participants(ring)
        assert found == f"{named[1]} is stopped, and so its group holds the producer back"
    finally:
        other.signal(signal.SIGCONT)


def test_doctor_names_a_group_of_the_dead(pool):
    ring, members = pool([1, 0])
    members[0].kill()
    assert participants(ring) == []
    members[1].kill()
    ((found, do),) = participants(ring)
    assert found.startswith(f"all members of group {GROUP} of ring {ring.name} are dead (pid ")
    assert all(str(one.pid) in found for one in members)
    assert do.startswith("start a member of that group")


def test_a_full_ring_that_moves_is_fine(make, monkeypatch):
    """A consumer that is slower than the producer makes it wait: that is what lossless means."""
    ring = make(slots=8)
    with ring.producer() as out, ring.consumer() as consumer:
        feed(out, 8)

        def take_one(seconds: float) -> None:
            consumer.get().release()
            feed(out, 1)

        monkeypatch.setattr(checks.time, "sleep", take_one)
        assert not findings(checks.full_rings, [_inventory.look(ring.name)])
        monkeypatch.setattr(checks.time, "sleep", lambda seconds: ring.unlink())
        assert not findings(checks.full_rings, [_inventory.look(ring.name)])


def test_doctor_names_unreadable_rings_and_other_users(damage, monkeypatch):
    name = damage(56, struct.pack("<Q", 1 << 50))
    (found,) = findings(checks.unreadable_rings, [_inventory.look(name)])
    assert (found.level, found.do) == ("problem", f"shmring rm {name}")
    assert "contradicts itself" in found.found
    monkeypatch.setattr(checks.os, "geteuid", lambda: 12345)
    (found,) = findings(checks.other_users, [_inventory.look(name)])
    assert found.level == "note"


@pytest.mark.parametrize("lossless", [True, False], ids=["lossless", "lossy"])
def test_a_ring_with_spare_slots(cli, make, monkeypatch, lossless):
    """As many held frames as slots do not make it full; a lossless consumer that reads nothing does."""
    pytest.importorskip("psutil")
    monkeypatch.setattr(checks, "STILL", 0.0)
    ring = make(slots=4, spares=8)
    most = {} if lossless else {"max_held": 4}
    with ring.producer() as out, ring.consumer(lossless=lossless, label="keeper", **most) as keeper:
        held = []
        for _ in range(4):
            feed(out, 1)
            held.append(keeper.get(0))
        out.put(np.zeros(ring.shape, ring.dtype), timeout=0)
        code, said, _ = cli("info", ring.name)
        assert code == 0
        assert "\nfull " not in said
        assert "\nslots      4 and 8 spare ones (1 in use), for one frame each\n" in said
        line = next(line for line in said.splitlines() if line.startswith("keeper"))
        assert ("4" if lossless else "4/4") in line.split()
        found = json.loads(cli("info", ring.name, "--json")[1])
        assert (found["spares"], found["spares_in_use"]) == (8, 1)
        assert found["consumers"][0]["max_held"] == (None if lossless else 4)
        if lossless:
            feed(out, 1)  # its cursor stays behind for the last two that it holds
            assert "lag 2, holds 4 of 4 slots and 8 spare ones\n" in cli("info", ring.name)[1]
        held.clear()


# ---- bench


@pytest.mark.slow
def test_bench(cli, monkeypatch):
    monkeypatch.setattr(bench, "SECONDS", 0.02)
    monkeypatch.setattr(bench, "VIDEO", (48, 64, 3))
    monkeypatch.setattr(bench.os, "getloadavg", lambda: (0.0, 9.0, 9.0))
    code, out, err = cli("bench", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["load"] == 0
    results = {(one["what"], one["unit"]): one["value"] for one in json.loads(out)["results"]}
    assert len(results) == 9
    assert all(value > 0 for value in results.values())
    assert any("asleep, median" in what for what, _ in results)


@pytest.mark.parametrize(
    ("load", "cores", "warns"), [(0.4, 2, False), (0.6, 2, True), (3, 8, False), (7, 8, True)]
)
def test_bench_says_what_it_does_and_what_disturbs_it(cli, monkeypatch, load, cores, warns):
    measured = []
    monkeypatch.setattr(bench.os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(bench.os, "sched_getaffinity", lambda pid: set(range(cores)))
    monkeypatch.setattr(bench, "_throughput", lambda *arguments: measured.append(None) or [])
    monkeypatch.setattr(
        bench, "_latency", lambda *arguments: measured.append(None) or [("latency", "µs", 1.0)]
    )
    code, _, err = cli("bench")
    first, *rest = err.splitlines()
    assert code == 0
    assert "six measurements" in first
    assert len(measured) == 6
    assert [f"the load is {load:.1f} on {cores} cores" in line for line in rest] == [True] * warns


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_bench_and_removes_its_ring(command, number):
    measuring = command("bench")
    ring = wait_until(lambda: published_by(measuring.pid), "the bench has a ring")
    measuring.send_signal(number)
    _, err = measuring.communicate(timeout=PATIENCE)
    assert (measuring.returncode, b"Traceback" in err) == (128 + number, False)
    assert not block_file(ring).exists()


def published_by(pid: int) -> str | None:
    """The name of the ring that the process publishes to."""
    for one in shmring.rings():
        if one.stats.producer.pid == pid:
            return one.name
    return None


# ---- mistakes, exit codes, terminals


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "nonsense"),
        (["lst"], "no such command: 'lst'; did you mean ls?"),
        (["list"], "did you mean ls?"),
        (["tpo"], "did you mean top?"),
        (["LS"], "did you mean ls?"),
        (["recrd", "x", "x.npy"], "did you mean record or read?"),
        (["version"], "did you mean --version?"),
        (["help"], "did you mean --help?"),
        (["xyzzy"], "no such command: 'xyzzy' (see shmring --help)"),
        (["info"], "missing argument 'NAME'"),
        (["info", "a/b"], "no slash"),
        (["info", "x", "--jsno"], "did you mean --json?"),
        (["ls", "extra"], "unexpected extra argument"),
        (["rm"], "--stale"),
        (["rm", "x", "--stale"], "--stale"),
        (["rm", "x", "--dry-run"], "--dry-run needs --stale"),
        (["rm", "--stale", "--force"], "--force needs the NAME"),
        (["top", "--interval", "0"], "'0' is not a number above 0"),
        (["top"], "needs a terminal"),
        (["metrics", "--listen", "host"], "write it as :9100"),
        (["metrics", "--listen", ":99999"], "write it as :9100"),
        (["completion", "tcsh"], "tcsh"),
        (["write", "x", "--shape", "0", "--dtype", "u1"], "write 720,1280,3"),
        (["write", "x", "--shape", "3", "--dtype", "float99"], "not a dtype of numpy"),
        (["write", "x", "--shape", "3", "--dtype", "O"], "Python objects"),
        (["write", "x", "--shape", "3", "--dtype", "S"], "has no size"),
        (["write", "x", "--shape", "99999999999,9999", "--dtype", "u1"], "fit the limits: 1 TiB"),
        (["demo", "--slots", "99999999999"], "slots must be 2 to"),
        (["replay", "x.npy", "x", "--flat-out", "--pace", "2"], "cannot be used together"),
        (["replay", "x.npy", "x", "--forever", "--loops", "2"], "cannot be used together"),
        (
            ["capture", "x", "x.npy", "--before", "1", "--forever", "--captures", "2"],
            "cannot be used together",
        ),
        (["record", "x.npy", "cam"], "'x.npy' looks like FILE, and 'cam' like NAME: exchange them"),
        (["capture", "x.h5", "cam", "--before", "1"], "'x.h5' looks like FILE"),
        (["replay", "cam", "x.zarr"], "'x.zarr' looks like FILE"),
        (["write", "x", "--frames", "0"], "'0' is not a whole number, 1 or more"),
        (["read", "x", "--timeout", "soon"], "'soon' is not a number of seconds"),
        (["read", "x", "--format", "avi"], "avi"),
    ],
)
def test_wrong_usage(cli, arguments, words):
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err
    assert err.count("\n") == 1
    assert err.startswith("shmring")


def test_every_command_has_help(cli):
    for name in COMMANDS:
        code, out, err = cli(name, "--help")
        assert (code, err) == (0, "")
        assert out.startswith(f"Usage: shmring {name} ")


def test_summaries_are_whole_on_80_columns(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = cli("--help")
    for name, summary in COMMANDS.items():
        assert f"  {name:<10}  {summary}\n" in out
    assert max(map(len, out.splitlines())) <= 80


def test_without_a_command_there_is_help(cli):
    code, out, err = cli()
    assert (code, out) == (2, "")
    assert err == cli("--help")[1]


def test_version(cli):
    for option in ("--version", "-V"):
        assert cli(option) == (0, f"shmring {shmring.__version__}\n", "")


@pytest.fixture
def without(fork):
    """Runs a command where a library of the extra is not installed; its exit code, stdout and stderr."""

    def run(library: str, *words: str) -> list:
        def work(send) -> None:
            for module in [name for name in sys.modules if name.startswith("shmring._cli")]:
                del sys.modules[module]  # it is imported again
            sys.modules[library] = None
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    main(words)
                except SystemExit as end:
                    send([end.code, out.getvalue(), err.getvalue()])

        return fork(work).receive()

    return run


def test_what_to_install(make, without):
    ring = make()
    for library in ("click", "rich.console"):
        code, out, err = without(library, "ls")
        assert ring.name not in out
        expected = f'shmring: this needs {library.partition(".")[0]}: pip install "shmring[cli]"\n'
        assert (code, err) == (2, expected)


def test_help_and_version_without_the_extra(without):
    for option in ("--help", "-h"):
        code, out, err = without("click", option)
        assert (code, err) == (0, "")
        for name, summary in COMMANDS.items():
            assert f"  {name:<10}  {summary}\n" in out
        assert 'pip install "shmring[cli]"' in out
        assert max(map(len, out.splitlines())) <= 80
    for option in ("--version", "-V"):
        assert without("click", option) == [0, f"shmring {shmring.__version__}\n", ""]


def test_output_that_nobody_reads(command, make):
    """As with `shmring ls | head -1`, where head is gone already."""
    make()
    reader, writer = os.pipe()
    os.close(reader)
    listing = command("ls", stdout=writer, text=True)
    os.close(writer)
    assert (listing.communicate(timeout=PATIENCE)[1], listing.returncode) == ("", 1)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("ls >&-", 1, "shmring: Bad file descriptor\n"),
        ("ls --json >/dev/full", 1, "shmring: No space left on device\n"),
        ("write {name} --shape 8 --dtype u1 <&-", 1, "shmring: Bad file descriptor\n"),
        ("info {name}-2 2>&- | cat >&2", 0, ""),
    ],
)
@pytest.mark.slow
def test_standard_streams_that_are_closed_or_full(make, words, code, said):
    """Whatever is opened gets the number of a closed one: a ring must not be taken for stdin or stdout."""
    name = make().name if words.startswith("ls") else fresh_name()
    command = f'"{sys.executable}" -m shmring {words.format(name=name)}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (code, said, "")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("write {name} --shape 8 --dtype u1 <&-", 1, "shmring: Bad file descriptor\n"),
        ("read {name} --timeout 9 >&-", 1, "shmring: Bad file descriptor\n"),
        ("ls <&- >&- 2>&-", 1, ""),
    ],
)
@pytest.mark.slow
def test_a_library_s_file_has_the_number_of_a_closed_stream(make, tmp_path, words, code, said):
    """As with libffi 3.8, which numpy loads: its file is no input, and nothing is written into it."""
    ring = make(shape=(8,), dtype="u1")
    theirs = tmp_path / "theirs"
    theirs.write_bytes(bytes(8000))
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\n"
        "for stream in (sys.stdin, sys.stdout, sys.stderr):\n"
        "    if stream is None:\n"
        f"        assert os.open({str(theirs)!r}, os.O_RDWR) < 3\n"
        "from shmring.__main__ import main\n"
        "main(sys.argv[1:])\n"
    )
    name = ring.name if words.startswith("read") else fresh_name()
    with ring.producer() as out:
        out.put(np.ones(8, "u1"))
        command = f'"{sys.executable}" "{program}" {words.format(name=name)}'
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (code, said, "")
    assert theirs.read_bytes() == bytes(8000)


def test_messages_about_others_are_escaped(cli, make):
    """A process that is named in an error chose its command line itself."""
    ring = make()
    code = "'\x1b[2J'; import shmring, sys; c = shmring.Ring.attach(sys.argv[1]).consumer(); print(); input()"
    command = [sys.executable, "-u", "-c", code, ring.name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        exit_code, _, err = cli("write", ring.name, "--shape", "8", "--dtype", "u1")
        other.communicate(b"\n")
    assert exit_code == 1
    assert "\\x1b[2J" in err
    assert "\x1b" not in err


def on_terminal(command, *words: str, **environment: str) -> str:
    """What a command prints on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    settings = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **environment}
    process = command(*words, stdout=theirs, stdin=theirs, env=settings)
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # the far end closed
        while data := os.read(ours, 65536):
            said += data
    os.close(ours)
    assert process.wait(PATIENCE) == 0
    return said.decode()


def test_colours_on_a_terminal_only(command, make):
    ring = make()
    coloured = on_terminal(command, "ls")
    assert "\x1b[32m" in coloured
    assert ring.name in coloured
    assert "\x1b[3" not in on_terminal(command, "ls", NO_COLOR="1")
    assert "\x1b[3" not in on_terminal(command, "ls", TERM="dumb")


@pytest.mark.slow
def test_locale_c(make):
    ring = make(attrs={"unit": "µV"})
    with ring.consumer(label="größe"):
        for command in (["ls"], ["info", ring.name]):
            environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""}
            said = subprocess.run([*COMMAND, *command], env=environment, capture_output=True, check=False)
            assert (said.returncode, said.stderr) == (0, b"")
            assert ring.name.encode() in said.stdout


# ---- completion


def test_completion_of_ring_names(make):
    made = {make().name, make().name}
    prefix = f"shmring-test-{os.getpid()}-"
    other = block_file(fresh_name())
    other.write_bytes(b"not a ring")
    offered = names.RingName().shell_complete(None, None, prefix)
    other.unlink()
    assert made <= {item.value for item in offered}
    assert other.name not in {item.value for item in offered}
    assert all(item.value.startswith(prefix) for item in offered)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(cli, shell):
    code, out, _ = cli("completion", shell)
    assert code == 0
    assert f"_SHMRING_COMPLETE={shell}_complete" in out


@pytest.mark.skipif(
    shutil.which("bash") is None or not (Path(sys.executable).parent / "shmring").exists(),
    reason="needs bash, and the command in this environment",
)
@pytest.mark.slow
def test_completion_in_bash(make):
    ring = make()
    script = f"""
        eval "$(shmring completion bash)"
        COMP_WORDS=(shmring info {ring.name[:-1]})
        COMP_CWORD=2
        _shmring_completion shmring
        echo "${{COMPREPLY[@]}}"
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert ring.name in done.stdout.split(), done.stderr
