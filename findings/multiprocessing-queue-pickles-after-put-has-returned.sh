#!/usr/bin/env bash
# multiprocessing: one array, filled again for each put() into a Queue.
#
# Expected: each item arrives as it was when put() was called. The documentation says that the object is pickled
#   when it is put on the queue, and that a background thread later writes the pickled data to a pipe.
# Seen: the background thread pickles, too. put() only appends a reference to a list, so an item that waits behind
#   another one arrives with what the array holds by then. No error; the dtype and shape are right. Small items
#   are usually pickled before the next line runs, so a test with small arrays passes. SimpleQueue and Connection.send
#   pickle at once.
# Versions: CPython 3.11, numpy 2.4.6. Seen 2026-11-30:
#   Queue: items 2 to 8 hold [7, 7, 7, 7, 7, 7, 7]
#   Queue, put(array.copy()): items 2 to 8 hold [1, 2, 3, 4, 5, 6, 7]
# Hurts: cameras and loaders that fill the same buffer for every frame: frames are doubled and others are missing,
#   and how many depends on how busy the getter is.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6
cat > "$work/program.py" <<'P'
import multiprocessing

import numpy as np


def through(put):
    items = multiprocessing.Queue()
    array = np.zeros(1 << 20, "u1")  # more than a pipe holds, so the first one is under way until it is read
    for number in range(8):
        array[:] = number
        put(items, array)
    return [int(items.get()[0]) for _ in range(8)][1:]


found = through(lambda items, array: items.put(array))
copied = through(lambda items, array: items.put(array.copy()))
print(f"Queue: items 2 to 8 hold {found}")
print(f"Queue, put(array.copy()): items 2 to 8 hold {copied}")
raise SystemExit((found, copied) != ([7] * 7, list(range(1, 8))))
P
"$work/venv/bin/python" "$work/program.py"
