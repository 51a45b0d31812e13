#!/usr/bin/env bash
# numpy: concatenate (and stack, append, vstack) of structured arrays of one and the same dtype.
#
# Expected: arrays of one dtype give that dtype, and the bytes of each item stay as they are.
# Seen: the result's fields are in native byte order and without the gaps between them: another dtype, another
#   itemsize. The values are right, so == says nothing. It happens for a list of one array, too. Whatever views
#   the result's bytes by the dtype that went in reads other numbers. A copy or a slice keeps the dtype.
# Versions: numpy 2.4.6, CPython 3.11. Seen 2026-11-30:
#   in:  {'names': ['a', 'b'], 'formats': ['u1', '>f4'], 'offsets': [0, 4], 'itemsize': 8}
#   out: [('a', 'u1'), ('b', '<f4')]
# Hurts: records that are collected in pieces and then written as bytes or sent by a known dtype: binary files,
#   shared memory, HDF5 by raw chunks. Concatenate views as bytes: view(f"V{itemsize}").
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6
"$work/venv/bin/python" - <<'P'
import numpy as np

dtype = np.dtype({"names": ["a", "b"], "formats": ["u1", ">f4"], "offsets": [0, 4]})
rows = np.zeros(3, dtype)
rows["b"] = 0.5
joined = np.concatenate([rows])
print("in: ", rows.dtype)
print("out:", joined.dtype)
raise SystemExit(joined.dtype == rows.dtype or (joined["b"] == rows["b"]).all() is False)
P
