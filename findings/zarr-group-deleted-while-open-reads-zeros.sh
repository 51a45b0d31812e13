#!/usr/bin/env bash
# zarr: an array is read after its folder was deleted, or moved, by somebody else.
#
# Expected: an error, as reading a file that is gone gives one; or, as with an open file, the values that were there.
# Seen: zeros, of the right shape and dtype. A chunk without a file is the fill value by definition, and of an array
#   that is open nobody looks whether its zarr.json is still there. Opening it again does raise.
# Versions: zarr 3.1.6, numpy 2.4.6, CPython 3.11. Seen 2026-11-30:
#   before: 15
#   deleted while open: 0
#   opened again: FileNotFoundError
# Hurts: readers of rolling recordings, and of any store that another process cleans up or replaces: the data look
#   like a dark frame.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check zarr==3.1.6 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'P'
import shutil

import numpy as np
import zarr

made = zarr.create_array("a.zarr", shape=(6,), chunks=(2,), dtype="i4")
made[:] = np.arange(6)
opened = zarr.open_array("a.zarr", mode="r")
seen = [f"before: {opened[:].sum()}"]
shutil.rmtree("a.zarr")
seen.append(f"deleted while open: {opened[:].sum()}")
try:
    zarr.open_array("a.zarr", mode="r")
    seen.append("opened again: opened")
except FileNotFoundError as error:
    seen.append(f"opened again: {type(error).__name__}")
print(*seen, sep="\n")
raise SystemExit(seen != ["before: 15", "deleted while open: 0", "opened again: FileNotFoundError"])
P
