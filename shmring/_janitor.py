"""Removes the name of a ring when the process that made it was killed, and nobody uses the ring any more.

For processes that are killed together with their process group and their children, as Ray's actors are. So
this one belongs to neither: it sleeps on a pipe, as a shell, until the other end is gone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import IO

from shmring import RingExists, ShmringError, _inventory, _names
from shmring._ring import Ring

__all__ = ["start"]

LOOK = 0.5  # seconds between two looks at a ring that is still in use
# The shell that Popen waits for ends at once; the one in the background is nobody's child.
SHELL = 'exec 3<&0; (cat <&3 >/dev/null; exec "$0" -m shmring._janitor "$1" "$2") >/dev/null 2>&1 &'


def start(name: str, generation: bytes) -> IO[bytes]:
    """Watch over a ring's name until the result is closed, at the latest by this process's end."""
    process = subprocess.Popen(
        ["/bin/sh", "-c", SHELL, sys.executable, name, generation.hex()],
        stdin=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    process.wait()
    assert process.stdin is not None
    return process.stdin


def tidy(name: str, generation: bytes) -> None:
    """Remove the name when the last user is gone; leave it to the next producer, if one has come."""
    while _names.has_generation(name, generation):
        try:
            _inventory.remove(name)
        except RingExists:
            if _has_producer(name):
                return
            time.sleep(LOOK)
        except (FileNotFoundError, ShmringError):
            return


def _has_producer(name: str) -> bool:
    try:
        with Ring.attach(name, readonly=True) as ring:
            return ring._producer_state()[0] == "live"
    except ShmringError:
        return False


if __name__ == "__main__":
    tidy(sys.argv[1], bytes.fromhex(sys.argv[2]))
