#!/usr/bin/env bash
# torch: what becomes of the workers of a DataLoader when one of them raises an exception.
#
# Expected: the exception leaves the loop, the iterator goes away with the loop, and its workers end, as they do at
#   a `break` or at the end: at once.
# Seen: the exception that arrives refers to itself through its traceback, and to the iterator. So after
#   `except ValueError: pass` all workers are still there, with their memory and descriptors, until the next
#   collection of garbage finds them. That one takes 5 seconds for each worker: the thread that would send
#   them the order to end was part of the garbage, and they are terminated in the end.
# Versions: torch 2.13.0 (CPU), CPython 3.11. Seen 2026-11-30:
#   after a break:       0 of 2 workers left, collection of garbage 0.4 s
#   after an exception:  2 of 2 workers left, collection of garbage 10.4 s
# Hurts: loops that skip a bad sample with try/except around the loader, and start another one: twice the
#   workers, and later a pause of many seconds in an innocent line. What a worker holds (a place in a ring,
#   a lock, a GPU context) stays held. iterator._shutdown_workers() in the except clause helps.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6 "torch==2.13.*"
cat >"$work/program.py" <<'P'
import gc
import multiprocessing
import time

from torch.utils.data import DataLoader, Dataset


class Numbers(Dataset):
    def __init__(self, broken):
        self.broken = broken

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if self.broken:
            raise ValueError("a broken sample")
        return index


def leave(broken):
    """How many workers are left after the loop, and how long the next collection takes."""
    try:
        for _ in DataLoader(Numbers(broken), num_workers=2):
            break
    except ValueError:
        pass
    left = len(multiprocessing.active_children())
    began = time.perf_counter()
    gc.collect()
    return left, time.perf_counter() - began


if __name__ == "__main__":
    gc.disable()  # or it may run by itself, in between
    kept = {}
    for what, broken in ("a break:", False), ("an exception:", True):
        kept[broken], seconds = leave(broken)
        print(f"after {what:14} {kept[broken]} of 2 workers left, collection of garbage {seconds:.1f} s")
    raise SystemExit(kept != {False: 0, True: 2} or seconds < 5)
P
"$work/venv/bin/python" "$work/program.py"
