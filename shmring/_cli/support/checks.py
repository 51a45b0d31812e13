"""What `shmring doctor` looks at, one function each: what was found, whether it is bad, what to type."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shmring import (
    ConsumerStats,
    GroupStats,
    ProducerStats,
    RingNotFound,
    RingStats,
    _cgroup,
    _core,
    _huge,
    _names,
)
from shmring._cli.support import full, groups, output, processes
from shmring._cli.support.rates import consumer_key, ring_key
from shmring._format import check_format
from shmring._inventory import Found, look
from shmring._messages import user_name
from shmring._participants import is_here
from shmring._schema import choose_geometry
from shmring._words import quoted

DOCKER_DEFAULT = 64 << 20
FULL = 0.9  # of the file system
STILL = 1.0  # seconds without a frame that make a full ring a problem
FIRST_USER = 1000  # systemd's RemoveIPC spares system users
LOGIND = ("/etc/systemd/logind.conf", "/etc/systemd/logind.conf.d", "/run/systemd/logind.conf.d",
          "/usr/lib/systemd/logind.conf.d")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. A note may matter to some, a problem is one.

    `do` is a command that can be typed as it is, `advice` is what no command does.
    """

    check: str
    level: Literal["ok", "note", "problem"]
    found: str
    do: str = ""
    advice: str = ""


Findings = Iterator[Finding]


def file_system(blocks: list[Found]) -> Findings:
    """Size and free space of the shared-memory file system."""
    disk = os.statvfs(_names.DIRECTORY)
    total, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
    found = f"{_names.DIRECTORY}: {output.size(total)}, {output.size(free)} free"
    remount = f"sudo mount -o remount,size={2 * total >> 20}M {_names.DIRECTORY}"  # twice of what it has
    if total == DOCKER_DEFAULT:
        yield Finding(
            "size",
            "problem",
            f"{found}: Docker's default, which is small for frames",
            advice="start the container with more: docker run --shm-size=2g; in compose shm_size: 2g; in "
            "Kubernetes an emptyDir with medium: Memory",
        )
    elif free < total * (1 - FULL):
        yield Finding(
            "size", "problem", f"{found}: nearly full", "shmring rm --stale", f"or make it larger: {remount}"
        )
    else:
        yield Finding("size", "ok", found)
    if not os.access(_names.DIRECTORY, os.W_OK | os.X_OK) and not disk.f_flag & os.ST_RDONLY:
        yield Finding(
            "access",
            "problem",
            f"you may not write to {_names.DIRECTORY}",
            f"sudo chmod 1777 {_names.DIRECTORY}",
        )


def memory_limit(blocks: list[Found]) -> Findings:
    """Memory that the control groups allow: shared memory counts for the process that touches it first."""
    disk = os.statvfs(_names.DIRECTORY)
    total = disk.f_blocks * disk.f_frsize
    tightest = min(_cgroup.memory_limits(), key=lambda limit: limit.room, default=None)
    if tightest is None or tightest.limit >= total:
        return
    yield Finding(
        "memory",
        "note",
        f"{tightest.whose} may use {output.size(tightest.limit)} of memory, "
        f"{output.size(max(0, tightest.room))} are left; {_names.DIRECTORY} claims {output.size(total)}: "
        f"larger rings are refused, and a process that uses more is killed",
        advice=f"raise {tightest.file}, or start the container with more: docker run --memory=8g"
        if tightest.file
        else "end what uses the memory",
    )


def remove_ipc(blocks: list[Found]) -> Findings:
    """Whether systemd removes this user's rings at the last logout."""
    if not Path("/run/systemd/system").is_dir():
        yield Finding("logout", "ok", "there is no systemd here that could remove rings at logout")
        return
    uid = os.getuid()
    name = user_name(uid)
    removes = remove_ipc_setting(_logind_files())
    if uid < FIRST_USER:
        yield Finding("logout", "ok", f"{name} is a system user: systemd does not remove its rings at logout")
    elif not removes:
        yield Finding("logout", "ok", "systemd does not remove rings at logout (RemoveIPC=no)")
    elif Path(f"/var/lib/systemd/linger/{name}").exists():
        yield Finding("logout", "ok", f"{name} lingers: systemd does not remove its rings at logout")
    else:
        yield Finding(
            "logout",
            "note",
            f"systemd removes all rings of {name} at its last logout (RemoveIPC=yes), even those in use",
            f"sudo loginctl enable-linger {quoted(name)}",
            f"or write RemoveIPC=no into {LOGIND[0]}, and restart systemd-logind",
        )


def _logind_files() -> list[Path]:
    folders = sorted(
        (path for folder in LOGIND[1:] for path in Path(folder).glob("*.conf")), key=lambda path: path.name
    )
    return [Path(LOGIND[0]), *folders]


def remove_ipc_setting(files: list[Path]) -> bool:
    """Return what logind's files say; the last word counts, and without any it is yes."""
    removes = True
    for path in files:
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        for word in re.findall(r"^\s*RemoveIPC\s*=\s*(\w+)", text, re.MULTILINE):
            removes = word.lower() in ("yes", "true", "1", "on", "y", "t")
    return removes


def locked_memory(blocks: list[Found]) -> Findings:
    """How much memory `lock_memory=True` may lock."""
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft == resource.RLIM_INFINITY or os.geteuid() == 0:
        yield Finding("locked memory", "ok", "this process may lock as much memory as it wants")
        return
    name = user_name(os.getuid())
    yield Finding(
        "locked memory",
        "note",
        f"this process may lock {output.size(soft)}: larger rings refuse lock_memory=True",
        f"ulimit -l {_ulimit(hard)}" if hard == resource.RLIM_INFINITY or soft < hard else "",
        f"write '{name} - memlock unlimited' into /etc/security/limits.conf, and log in again",
    )


def _ulimit(nbytes: int) -> str:
    return "unlimited" if nbytes == resource.RLIM_INFINITY else str(nbytes // 1024)


def huge_pages(blocks: list[Found]) -> Findings:
    """Whether large rings get huge pages: tries it with a block that has no name."""
    page = _core.HUGE_PAGE_BYTES
    geometry = choose_geometry(check_format((page,), "u1", None, False), 2, 0, 1, None)
    try:
        fd = os.open(_names.DIRECTORY, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        yield Finding("huge pages", "note", f"cannot be tried: {error}")
        return
    try:
        number = geometry.make_huge(fd, 0, geometry.block_bytes)
        found = geometry.huge_bytes(fd)
    finally:
        os.close(fd)
    if found:
        yield Finding("huge pages", "ok", f"rings that hold whole pages of {output.size(page)} get them")
    else:
        why, do = _huge.why_none(number)
        yield Finding("huge pages", "note", f"rings get none: {why}", do)


def cores(blocks: list[Found]) -> Findings:
    """How many cores this process may use: a producer and a consumer want one each."""
    there, mine = os.cpu_count() or 1, len(os.sched_getaffinity(0))
    found = f"{mine} of {output.count(there, 'core')}"
    limit = _cgroup.cores_of_time()
    share = float(mine) if limit is None else limit
    if share < mine:
        found += f", and {share:g} cores' worth of time in them"
    if min(mine, share) < 2:
        yield Finding(
            "cores",
            "note",
            f"this process may use {found}: producer and consumer take turns, and every wait is a sleep",
            advice=f"give it two or more: taskset -c 0-{max(1, there - 1)} in front of its command; for a "
            f"container docker run --cpuset-cpus=0-{max(1, there - 1)} --cpus=2",
        )
    else:
        yield Finding("cores", "ok", f"this process may use {found}")


def kernel(blocks: list[Found]) -> Findings:
    """Whether the kernel can say which processes are alive."""
    try:
        fd = os.open(_names.DIRECTORY, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        yield _no_new_file(error)
        return
    try:
        works = _core.lock(fd, _core.LOCK_PRESENCE, _core.EXCLUSIVE)
    finally:
        os.close(fd)
    if works:
        yield Finding("kernel", "ok", f"Linux {platform.release()} on {platform.machine()}: locks work")
    else:
        yield Finding(
            "kernel",
            "problem",
            f"{_names.DIRECTORY} has no OFD locks here: rings cannot find out whether a process is alive",
            advice="mount a tmpfs there, on Linux 3.15 or newer",
        )


def _no_new_file(error: OSError) -> Finding:
    """Say why no file can be made in the file system, and so no ring."""
    where = _names.DIRECTORY
    if error.errno == errno.ENOSPC:
        advice = f"or allow more files: sudo mount -o remount,nr_inodes=1M {where}"
        found = f"{where} has no inode left for a new ring"
        return Finding("kernel", "problem", found, "shmring rm --stale", advice)
    if error.errno == errno.EROFS:
        do = f"sudo mount -o remount,rw {where}"
        return Finding("kernel", "problem", f"{where} is mounted read-only: no ring can be created", do)
    if isinstance(error, PermissionError):
        return Finding("kernel", "note", f"locks cannot be tried out: you may not write to {where}")
    return Finding(
        "kernel",
        "problem",
        f"{where} cannot hold a file without a name: {error.strerror}",
        advice="mount a tmpfs there",
    )


def stale_rings(blocks: list[Found]) -> Findings:
    """Rings that are not in use, by the user that may remove them."""
    stale: dict[str, list[Found]] = defaultdict(list)
    for one in blocks:
        if one.state == "stale":
            stale[_as_owner(one)].append(one)
    if not stale:
        yield Finding("stale rings", "ok", "none")
    for prefix, found in sorted(stale.items()):
        names = ", ".join(output.clean(one.name) for one in found[:5]) + (", ..." if len(found) > 5 else "")
        total = output.size(sum(one.nbytes for one in found))
        whose = f" of {found[0].owner}" if prefix else ""
        yield Finding(
            "stale rings",
            "note" if prefix else "problem",
            f"{len(found)}{whose} ({total}): {names}",
            f"{prefix}shmring rm --stale",
        )


def _as_owner(one: Found) -> str:
    """Return what goes in front of a command that only the owner of a block may run, or root."""
    mine = os.geteuid()
    return "" if mine in (0, one.uid) else f"sudo -u {quoted(one.owner)} "


def unreadable_rings(blocks: list[Found]) -> Findings:
    """Rings that this shmring cannot read."""
    for one in blocks:
        name = quoted(one.name)
        if one.state == "other version":
            advice = "end all processes of that ring, and start them with the same version of shmring"
            yield Finding("rings", "problem", output.clean(one.problem), advice=advice)
        elif one.state == "damaged":
            do = f"{_as_owner(one)}shmring rm {name}"
            yield Finding("rings", "problem", output.clean(one.problem), do)
        elif one.state == "unfinished" and one.nbytes:
            yield Finding(
                "rings",
                "note",
                output.clean(one.problem),
                f"{_as_owner(one)}rm {quoted(_names.path_of(one.name))}",
                "unless a program is creating it just now",
            )


def dead_participants(blocks: list[Found]) -> Findings:
    """Failed or dead producers, dead groups, and stopped processes, in rings that others still use."""
    for one in blocks:
        if one.ring is None or one.state != "live":
            continue
        name, stats = output.clean(one.name), one.ring.stats
        if stats.producer.state in ("failed", "died"):
            why = f" ({output.clean(stats.producer.failure)})" if stats.producer.failure else ""
            yield Finding(
                "participants",
                "problem",
                f"the producer (pid {stats.producer.pid}) of ring {name} {stats.producer.state}{why}; "
                f"other processes are still attached",
                advice="start the next producer",
            )
        if _is_stopped(stats.producer, alive=stats.producer.state == "live"):
            yield Finding(
                "participants",
                "problem",
                f"the producer (pid {stats.producer.pid}) of ring {name} is stopped",
                f"kill -CONT {stats.producer.pid}",
            )
        for consumer in stats.consumers:
            who = f"{full.name(consumer)} of ring {name}"
            if _is_stopped(consumer, alive=consumer.alive):
                yield Finding(
                    "participants",
                    "problem",
                    f"{who} is stopped{_what_that_stops(consumer, stats)}",
                    f"kill -CONT {consumer.pid}",
                )
        yield from _dead_groups(name, stats)


def _what_that_stops(stopped: ConsumerStats, stats: RingStats) -> str:
    """Say whom a stopped consumer keeps waiting: the producer, or the other members of its group."""
    if stopped.policy == "lossless":
        return " and holds the producer back"
    for group in stats.groups:
        if group.name == stopped.group:
            if _all_stopped(groups.living(group, stats)):
                return ", and so its group holds the producer back"
            held = output.count(stopped.held, "frame")
            return f"; the others of its group work without the {held} that it holds"
    return ""


def _dead_groups(ring: str, stats: RingStats) -> Findings:
    """Find groups whose members have all died: nobody takes their frames until a new member comes."""
    for group in stats.groups:
        if not groups.living(group, stats):
            pids = ", ".join(str(one.pid) for one in groups.members(group, stats))
            yield Finding(
                "participants",
                "problem",
                f"all members of group {output.clean(group.name)} of ring {ring} are dead (pid {pids}): "
                f"nobody takes its frames, and the producer ends the group when it needs their slots",
                advice="start a member of that group: it gets what they had, and what followed",
            )


def _is_stopped(who: ProducerStats | ConsumerStats, *, alive: bool) -> bool:
    return processes.describe(who.pid, who.start_time, alive=alive).halted == "stopped"


def _all_stopped(consumers: list[ConsumerStats]) -> bool:
    return all(_is_stopped(one, alive=True) for one in consumers)


def full_rings(blocks: list[Found]) -> Findings:
    """Rings that stay full, and the consumers and groups that their producers wait for."""
    suspects = [one for one in blocks if one.ring is not None and full.in_the_way(one.ring.stats)]
    if suspects:
        time.sleep(STILL)
    for before in suspects:
        with contextlib.suppress(RingNotFound):
            yield from _stays_full(before, look(before.name))


def _stays_full(before: Found, after: Found) -> Findings:
    if before.ring is None or after.ring is None or ring_key(before) != ring_key(after):
        return
    old, new = before.ring.stats, after.ring.stats
    if new.published != old.published:
        return
    taken = {_key(one): _delivered(one, old) for one in full.in_the_way(old)}
    for one in full.in_the_way(new):
        culprits = full.processes(one, new)
        if taken.get(_key(one)) == _delivered(one, new) and not _all_stopped(culprits):
            does = "drops frames for" if new.dropped > old.dropped else "waits for"
            whom = "its members" if isinstance(one, GroupStats) else "that consumer"
            yield Finding(
                "full rings",
                "problem",
                f"ring {output.clean(after.name)} is full: its producer {does} "
                f"{full.describe(one, new)}, which has taken nothing for {STILL:g} s",
                f"shmring info {quoted(after.name)}",
                f"make {whom} read and release frames, or {_how_to_end(culprits)}",
            )


def _key(one: full.Taker) -> tuple[int | str, ...]:
    return (one.name,) if isinstance(one, GroupStats) else consumer_key(one)


def _delivered(one: full.Taker, stats: RingStats) -> int:
    return sum(each.delivered for each in full.processes(one, stats))


def _how_to_end(consumers: list[ConsumerStats]) -> str:
    if all(is_here(one.pid, one.start_time) for one in consumers):
        return f"kill {' '.join(str(pid) for pid in dict.fromkeys(one.pid for one in consumers))}"
    return "end it where it runs" if len(consumers) == 1 else "end them where they run"


def other_users(blocks: list[Found]) -> Findings:
    """Blocks of other users in the file system."""
    theirs: dict[str, list[Found]] = defaultdict(list)
    for one in blocks:
        if one.uid != os.geteuid():
            theirs[one.owner].append(one)
    for owner, found in sorted(theirs.items()):
        total = output.size(sum(one.nbytes for one in found))
        yield Finding(
            "other users",
            "note",
            f"{owner} has {output.count(len(found), 'block')}, {total}",
            f"sudo -u {quoted(owner)} shmring ls",
        )
    if not theirs:
        yield Finding("other users", "ok", "no blocks of other users")


CHECKS: tuple[Callable[[list[Found]], Findings], ...] = (
    kernel,
    file_system,
    memory_limit,
    remove_ipc,
    locked_memory,
    huge_pages,
    cores,
    stale_rings,
    unreadable_rings,
    dead_participants,
    full_rings,
    other_users,
)
