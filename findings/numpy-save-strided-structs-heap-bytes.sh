#!/usr/bin/env bash
# numpy: saving every second record of a structured array whose fields have gaps.
#
# Expected: numpy.save writes the bytes of the records. Zeroed memory, gaps included, gives a file of zeros, whether
#   the array is contiguous or not.
# Seen: a contiguous array is written as it is. Of a strided one numpy first makes a copy that has the fields
#   only; the gaps get whatever the heap held before. The files of equal arrays differ from run to run, and
#   bytes of unrelated objects end up in them. ndarray.copy(), tofile() and fancy indexing copy alike.
# Versions: numpy 2.4.6, CPython 3.11. Seen 2026-11-29:
#   contiguous: 0 bytes that are not zero
#   strided: some
# Hurts: recorders of packed records (events, metas with a time stamp) that write slices: files that cannot be
#   compared or deduplicated, and a leak of memory into data that is shared. View the records as bytes before
#   you slice: array.view("u1").reshape(len(array), -1)[::2].
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6
"$work/venv/bin/python" - <<'P'
import io
import numpy as np

dtype = np.dtype({"names": ["number", "kind"], "formats": ["<u4", "u1"], "offsets": [0, 5], "itemsize": 8})


def saved(records):
    file = io.BytesIO()
    np.save(file, records)
    return sum(byte != 0 for byte in file.getvalue()[-records.size * dtype.itemsize :])


worst = 0
for _ in range(50):
    other_objects = [np.full(8_000, 0xAB, "u1") for _ in range(20)]
    del other_objects
    zeros = np.zeros(2_000, dtype)  # calloc: the gaps are zero, too
    contiguous, strided = saved(zeros), saved(zeros[::2])
    worst = max(worst, strided)
print(f"contiguous: {contiguous} bytes that are not zero")
print("strided:", "some" if worst else "none")
raise SystemExit(not (contiguous == 0 and worst > 0))
P
