"""Huge pages: whether a ring has those that were asked for, and why not."""

from __future__ import annotations

import errno
import os

from shmring import _core

__all__ = ["check", "check_existing", "why_none"]

LITTLE_MEMORY = (errno.ENOMEM, errno.EBUSY, errno.EAGAIN)


def check(fd: int, name: str, geometry: _core.Geometry, number: int) -> None:
    """Refuse a ring that does not lie on huge pages as far as it can.

    Parameters
    ----------
    fd, name, geometry
        Of its block, allocated.
    number : int
        Why the kernel made none, or 0.

    Raises
    ------
    OSError
        With that number.
    """
    most = geometry.most_huge_bytes
    if not most:
        raise OSError(
            errno.EINVAL,
            f"no huge pages for ring {name!r}: each has {_core.HUGE_PAGE_BYTES} bytes and begins at a "
            f"multiple of that, and none lies in the slots of this ring as a whole. With "
            f"{2 * _core.HUGE_PAGE_BYTES} bytes of slots or more, one does; or leave huge_pages=True out",
        )
    found = geometry.huge_bytes(fd)
    if found < most:
        why, do = why_none(number)
        raise OSError(
            number or errno.EINVAL,
            f"ring {name!r} has {found} bytes on huge pages, not the {most} that there could be: {why} "
            f"({do}). Without huge_pages=True it uses what there is",
        )


def check_existing(name: str, found: int, most: int) -> None:
    """Refuse a ring that another process created with fewer bytes on huge pages than there could be."""
    if not found or found < most:
        raise OSError(
            errno.EINVAL,
            f"ring {name!r} exists, with {found} bytes on huge pages of the {most} that there could be, and "
            f"that cannot be changed. End its users and create it again, or leave huge_pages=True out",
        )


def why_none(number: int) -> tuple[str, str]:
    """Say why the kernel made no huge pages, by its errno, and what to type."""
    if number in LITTLE_MEMORY:
        return (
            f"no free memory in pieces of {_core.HUGE_PAGE_BYTES} bytes ({os.strerror(number)})",
            "sudo sysctl vm.compact_memory=1",
        )
    release = os.uname().release
    return (
        f"Linux makes them since 6.1 (this is {release}), but not for a process with PR_SET_THP_DISABLE",
        "sudo mount -o remount,huge=within_size /dev/shm",
    )
