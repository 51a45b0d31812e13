"""Limits of the machine and of this process: whether a block fits, and words for what the kernel refuses."""

from __future__ import annotations

import errno
import os
import resource

from shmring import errors

__all__ = ["cannot_lock", "check_room", "refused"]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LITTLE = 4 << 20  # bytes; for fewer, reading the memory limits would take as long as getting the memory
MAPPINGS = 4  # that a ring takes
PAGE_TABLES = 128  # a ring's page tables and the kernel's index of its pages take at most this part of it


def refused(number: int, what: str) -> OSError:
    """Return the error for a refusal by the kernel: what it refused, why, and what to do.

    Parameters
    ----------
    number : int
        The errno.
    what : str
        ``"cannot open ring 'x'"``, say.
    """
    why = _WHY.get(number)
    text = f"{what}: {os.strerror(number) if why is None else why()}"
    if number == errno.EROFS:
        return errors.RingAccessDenied(text)
    if number in FULL:
        return errors.NoSpace(text)
    return OSError(number, text)


def cannot_lock(number: int, name: str, nbytes: int) -> OSError:
    """Return the error for locked memory that the kernel refused."""
    soft = _soft(resource.RLIMIT_MEMLOCK)
    return OSError(
        number,
        f"cannot lock the memory of ring {name!r} ({os.strerror(number)}): it takes {nbytes} bytes (slots "
        f"count twice), this process may lock {'any number' if soft is None else soft}: raise the limit "
        f"(ulimit -l unlimited), or leave lock_memory=True out",
    )


def check_room(name: str, needed: int, there: int, directory: str) -> None:
    """Refuse a block that does not fit, before anything is taken; NoSpace says why.

    Parameters
    ----------
    name, needed
        The ring's name and the bytes that it takes.
    there : int
        Bytes that it has already, or that come back before it takes its own.
    directory : str
        Where it is to be.
    """
    left = max(0, needed - there)
    why = _file_size(needed) or _free_space(left, there, directory) or _memory(left)
    if why:
        raise errors.NoSpace(f"no space for ring {name!r}: it needs {needed} bytes, {why}")


def _file_size(needed: int) -> str:
    soft = _soft(resource.RLIMIT_FSIZE)
    if soft is None or needed <= soft:
        return ""
    return (
        f"a file of this process may have {soft}. Use fewer slots, or raise the limit (ulimit -f unlimited)"
    )


def _free_space(left: int, there: int, directory: str) -> str:
    """Look at the file system. One without a limit says that it has 0 of 0."""
    found = os.statvfs(directory)
    free = found.f_bavail * found.f_frsize
    if not found.f_blocks or left <= free:
        return ""
    return (
        f"{directory} has {free + there} bytes free of {found.f_blocks * found.f_frsize}. Use fewer slots, "
        f"remove stale rings from {directory}, or enlarge it (docker run --shm-size=...; "
        f"mount -o remount,size=... {directory})"
    )


def _memory(left: int) -> str:
    """Look at the memory: past its limits the kernel kills a process rather than refuse."""
    if left < LITTLE:
        return ""
    from shmring import _cgroup

    wanted = left + left // PAGE_TABLES
    short = min(_cgroup.memory_limits(), key=lambda limit: limit.room, default=None)
    if short is None or wanted <= short.room:
        return ""
    do = (
        f"raise the limit (docker run --memory=...; systemd: MemoryMax=...; {short.file})"
        if short.file
        else "end what uses the memory"
    )
    return (
        f"{short.whose} may use {short.limit} bytes of memory, of which {max(0, short.room)} are left. Use "
        f"fewer slots, or {do}"
    )


# ---- why the kernel refused


def _soft(which: int) -> int | None:
    """Return the limit in force, None if there is none."""
    soft, _ = resource.getrlimit(which)
    return None if soft == resource.RLIM_INFINITY else soft


def _setting(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return "unknown"


def _many_files() -> str:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    how = (
        f"ulimit -n {hard}"
        if soft < hard
        else "as root: nofile in /etc/security/limits.conf, LimitNOFILE= of a service"
    )
    return f"this process has reached its limit of {soft} open files: close some, or raise the limit ({how})"


def _many_files_in_all() -> str:
    return (
        f"this machine has reached its limit of {_setting('/proc/sys/fs/file-max')} open files: close "
        f"some, or raise the limit (sudo sysctl fs.file-max=...)"
    )


def _mappings() -> int:
    """Count this process's mappings; in small pieces, since there may be no memory for more."""
    try:
        with open("/proc/self/maps", "rb", 0) as file:
            return sum(piece.count(b"\n") for piece in iter(lambda: file.read(4096), b""))
    except OSError:
        return 0


def _no_memory() -> str:
    maps, most = _mappings(), _setting("/proc/sys/vm/max_map_count")
    if most.isdigit() and maps >= int(most) - MAPPINGS:
        return (
            f"this process has reached its limit of mappings ({maps}): raise the limit "
            f"(sudo sysctl vm.max_map_count={2 * int(most)})"
        )
    soft = _soft(resource.RLIMIT_AS)
    if soft is not None:
        return (
            f"this process may have {soft} bytes of address space, and a ring takes twice its size: use "
            f"fewer slots, or raise the limit (ulimit -v unlimited)"
        )
    return "the kernel has no memory left for it: use fewer slots, or end what uses the memory"


def _read_only() -> str:
    return (
        "the file system is mounted read-only here: mount it writable (docker run -v /dev/shm:/dev/shm:rw; "
        "mount -o remount,rw /dev/shm); you can still attach to its rings with readonly=True"
    )


def _full() -> str:
    found = os.statvfs("/dev/shm")
    if found.f_files and not found.f_favail:
        return (
            f"/dev/shm has reached its limit of {found.f_files} files: remove stale rings (shmring rm "
            f"--stale) and other files, or allow more "
            f"(sudo mount -o remount,nr_inodes={2 * found.f_files} /dev/shm)"
        )
    return (
        "/dev/shm is full: remove stale rings (shmring rm --stale), or enlarge it (docker run --shm-size=...)"
    )


def _quota() -> str:
    return (
        "this user's quota on /dev/shm is used up: remove stale rings (shmring rm --stale), or ask for more"
    )


def _big_file() -> str:
    soft = _soft(resource.RLIMIT_FSIZE)
    return (
        f"a file of this process may have {'fewer' if soft is None else soft} bytes: use fewer slots, or "
        f"raise the limit (ulimit -f unlimited)"
    )


def _no_nameless_files() -> str:
    return "/dev/shm does not support files without a name (O_TMPFILE): mount a tmpfs there"


_WHY = {
    errno.EISDIR: _no_nameless_files,
    errno.EOPNOTSUPP: _no_nameless_files,
    errno.EMFILE: _many_files,
    errno.ENFILE: _many_files_in_all,
    errno.ENOMEM: _no_memory,
    errno.EROFS: _read_only,
    errno.ENOSPC: _full,
    errno.EDQUOT: _quota,
    errno.EFBIG: _big_file,
}
