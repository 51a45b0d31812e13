"""A /dev/shm of its own, for another process: small, full or read-only as a test wants it."""

from __future__ import annotations

import ctypes

import pytest

NEW_NAMESPACE, PRIVATE = 0x20000, 1 << 14 | 1 << 18


def mount_private_shm(here, options: str) -> bool:
    """Whether this process has a /dev/shm of its own now."""
    here.libc = ctypes.CDLL(None, use_errno=True)
    return (
        here.libc.unshare(NEW_NAMESPACE) == 0
        and here.libc.mount(None, b"/", None, PRIVATE, None) == 0
        and here.libc.mount(b"none", b"/dev/shm", b"tmpfs", 0, options.encode()) == 0
    )


def give_private_shm(peer, options: str) -> None:
    """Let another process have its own /dev/shm, or skip the test."""
    if not peer.run(mount_private_shm, options):
        pytest.skip("may not mount a file system")
